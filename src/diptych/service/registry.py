"""The operator's models: names that requests may say, and where they lie. No request ever names a
path, an address or a hub id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from diptych.foundation.errors import InvalidValue, Unreadable, unknown
from diptych.foundation.files import write_whole

USES = ("paint", "read", "embed")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class Entry(NamedTuple):
    """What a model does, and its shipped name, path or hub id."""

    use: str
    place: str


SHIPPED: Mapping[str, Entry] = {
    "scenes-t2i": Entry("paint", "scenes-t2i"),
    "scenes-i2t": Entry("read", "scenes-i2t"),
    "scenes-clip": Entry("embed", "scenes-clip"),
}


def entry_of(text: str) -> tuple[str, Entry]:
    """`name=use:place` in its parts. Raises InvalidValue."""
    name, _, rest = text.partition("=")
    use, _, place = rest.partition(":")
    if not place or use not in USES:
        raise InvalidValue(
            f"{text!r} names no model.", do="Say NAME=paint:PLACE, or read, or embed."
        )
    if not _NAME.fullmatch(name):
        raise InvalidValue(f"{name!r} is no name.", do="Use letters, digits and . _ -")
    return name, Entry(use, place)


def registered(data: Path) -> dict[str, Entry]:
    """What was added to a folder. Raises Unreadable for a file that is not ours."""
    try:
        found = json.loads(_file(data).read_text())
        return {name: Entry(use, place) for name, (use, place) in found.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Unreadable(f"{str(_file(data))!r} cannot be read: {error.strerror}.") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise Unreadable(
            f"{str(_file(data))!r} is no list of models.", do="Move it, and add them anew."
        ) from error


def add(data: Path, name: str, entry: Entry) -> None:
    """Keep a model, in the place of another of its name. A path is made absolute, since a server
    may be begun from elsewhere. Raises NotWritten."""
    place = Path(entry.place).expanduser()
    kept = Entry(entry.use, str(place.resolve()) if place.exists() else entry.place)
    _write(data, {**registered(data), name: kept})


def remove(data: Path, name: str) -> None:
    """Forget a model. Raises NotFound."""
    found = registered(data)
    if name not in found:
        raise unknown("model", name, found, see="The shipped ones stay.")
    del found[name]
    _write(data, found)


def _write(data: Path, entries: Mapping[str, Entry]) -> None:
    write_whole(_file(data), json.dumps({n: list(e) for n, e in entries.items()}, indent=1) + "\n")


def _file(data: Path) -> Path:
    return data / "registry.json"
