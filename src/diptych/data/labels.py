"""Labelled pictures: lines of JSON beside them, a question and its answer or a caption each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from diptych.foundation.errors import InvalidValue, NotFound, Unreadable


@dataclass(frozen=True)
class Labelled:
    """`task`: a question, or `caption`. `wanted`: answers of which each is right."""

    picture: Path
    task: str
    wanted: tuple[str, ...]


def read_labels(place: Path, most: int | None = None) -> list[Labelled]:
    """The lines {"file", "question", "answer"} or {"file", "caption"} of a JSONL file, or of the
    only one in a folder; files are named from where it lies, an answer may be a list of right ones.
    Up to `most` lines. Raises NotFound, Unreadable, and InvalidValue for a file without labels."""
    path = _file(place)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"Cannot read {str(path)!r}: {error}.") from error
    found = list[Labelled]()
    for number, line in enumerate(lines, 1):
        if len(found) == most:
            break
        if line.strip():
            found.append(_labelled(line, path.parent, f"{path.name}, line {number}"))
    if not found:
        raise InvalidValue(f"{str(path)!r} holds no labels.", do=_SHAPES)
    return found


def same_words(said: str, wanted: str) -> bool:
    """Whether two answers are one, but for case, spaces, marks at the ends and an article."""
    return _plain(said) == _plain(wanted)


_SHAPES = 'A line is {"file", "question", "answer"} or {"file", "caption"}.'
_KEYS = ({"file", "question", "answer"}, {"file", "caption"})


def _file(place: Path) -> Path:
    if place.is_file():
        return place
    if not place.is_dir():
        raise NotFound(f"There is no folder or file {str(place)!r}.")
    found = sorted(place.glob("*.jsonl"))
    if len(found) != 1:
        count = f"{len(found)} JSONL files" if found else "no JSONL file"
        raise NotFound(
            f"There is {count} in {str(place)!r}." if not found else f"{str(place)!r} has {count}.",
            do=f"Name one. {_SHAPES}",
        )
    return found[0]


def _labelled(line: str, folder: Path, at: str) -> Labelled:
    try:
        said: Any = json.loads(line)
    except ValueError as error:
        raise Unreadable(f"{at} is no JSON: {error}.", do=_SHAPES) from error
    if not isinstance(said, Mapping) or set(cast("Mapping[str, Any]", said)) not in _KEYS:
        raise InvalidValue(f"{at} has no label.", do=_SHAPES)
    row = cast("Mapping[str, Any]", said)
    value: Any = row.get("answer", row.get("caption"))
    wanted = cast("list[Any]", value) if isinstance(value, list) else [value]
    words = [row["file"], row.get("question", "caption"), *wanted]
    if not wanted or not all(isinstance(one, str) and one.strip() for one in words):
        raise InvalidValue(f"{at}: its values must be words, none empty.", do=_SHAPES)
    picture = folder / row["file"]
    if not picture.is_file():
        raise NotFound(f"{at}: there is no picture {row['file']!r}.")
    return Labelled(picture, row.get("question", "caption"), tuple(cast("list[str]", wanted)))


def _plain(text: str) -> str:
    words = " ".join(text.casefold().split()).strip(".,;:!?\"' ")
    return re.sub(r"^(?:an?|the) ", "", words)
