"""Words for every picture of a folder: one line of JSON each, resumed where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from diptych.foundation.errors import DiptychError, InvalidValue, NotFound, NotWritten, Unreadable
from diptych.foundation.lock import held
from diptych.foundation.progress import Progress, Report, silent
from diptych.imaging.pictures import read_picture
from diptych.pipelines.reading import Answer

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
BATCH = 32  # pictures between two writes to the disk

Respond = Callable[[Sequence[Image.Image]], Sequence[Answer]]


@dataclass(frozen=True)
class Summary:
    """Pictures with words now, those that were there before, and those that cannot be read."""

    written: int
    before: int
    unreadable: int


def pictures_in(folder: Path) -> list[Path]:
    """All pictures below a folder, by their names. Raises NotFound where there is none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise NotFound(
            f"There is no picture in {str(folder)!r}.", do=f"{', '.join(ENDINGS)} are read."
        )
    return found


def caption_folder(respond: Respond, folder: Path, out: Path, report: Report = silent) -> Summary:
    """Give each picture of a folder exactly one line in `out`, whatever interrupts.

    A line has `file`, relative to the folder, and `text`, `score`, `confidence`, or `error` for a
    picture that cannot be read. Lines that are there stay and are not made again; a line that was
    cut off is. Raises InvalidValue while another process writes there, Unreadable for a file of
    something else, NotWritten when the disk refuses: what is written stays.
    """
    paths = pictures_in(folder)
    lock = out.with_name(f".{out.name}.lock")
    with held(lock, f"Another process writes to {str(out)!r}.", "Wait for it, or choose another."):
        done = _mended(out)
        left = [path for path in paths if _name(path, folder) not in done]
        before, unreadable = len(paths) - len(left), 0
        report(Progress(before, len(paths)))
        for start in range(0, len(left), BATCH):
            lines = list(_lines(respond, left[start : start + BATCH], folder))
            unreadable += sum("error" in line for line in lines)
            _append(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            report(Progress(before + min(start + BATCH, len(left)), len(paths)))
    return Summary(len(left), before, unreadable)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _lines(
    respond: Respond, paths: Sequence[Path], folder: Path
) -> Iterator[dict[str, str | float | None]]:
    opened = list[tuple[Path, Image.Image]]()
    for path in paths:
        try:
            opened.append((path, read_picture(path)))
        except DiptychError as error:
            yield {"file": _name(path, folder), "error": str(error)}
    answers = respond([picture for _, picture in opened]) if opened else []
    for (path, _), answer in zip(opened, answers, strict=True):
        yield {
            "file": _name(path, folder), "text": answer.text, "score": answer.score,
            "confidence": answer.confidence,
        }  # fmt: skip


def _mended(out: Path) -> set[str]:
    """Files that have their line; what was cut off behind the last whole line is taken away."""
    if not out.exists():
        return set()
    try:
        content = out.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        done = [json.loads(line)["file"] for line in whole.decode().splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(
            f"{str(out)!r} holds something other than lines of captions.",
            do="Name another file by -o.",
        ) from error
    if len(set(done)) != len(done):
        raise InvalidValue(f"{str(out)!r} has two lines for one picture.", do="Name another file.")
    if len(whole) < len(content):
        os.truncate(out, len(whole))
    return set(done)


def _append(out: Path, lines: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NotWritten(
            f"Cannot write {str(out)!r}: {error.strerror or error}.",
            do="Free some space and run the same command again; it goes on where it was.",
        ) from error
