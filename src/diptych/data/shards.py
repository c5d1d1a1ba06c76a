"""Shards in the WebDataset layout: tar files whose members of one name make a sample, such as
`000017.webp`, `000017.json`, `000017.txt`. Places are local paths or any that fsspec knows."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from PIL import Image

from diptych.foundation.errors import InvalidValue, NotFound
from diptych.foundation.extras import need
from diptych.foundation.files import write_with
from diptych.imaging.pictures import open_picture

PICTURES = ("webp", "jpg", "jpeg", "png")
TEXTS = ("txt", "json")
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Sample:
    """A picture with its words; `key` names it within `shard`. `text` is the `.txt`, else the
    caption in `facts`, which are the `.json`."""

    shard: str
    key: str
    picture: Image.Image
    text: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Broken:
    """A member, sample or rest of a shard that could not be used, and why."""

    shard: str
    member: str
    why: str

    def __str__(self) -> str:
        return f"{self.shard}: {self.member}: {self.why}"


@dataclass
class Account:
    """What a reader met: filled while it reads."""

    read: int = 0
    broken: list[Broken] = field(default_factory=list)


def write_shards(
    folder: Path, prefix: str, samples: Iterable[Mapping[str, bytes]], *, per_shard: int = 1000
) -> list[Path]:
    """Write `prefix-000000.tar` and so on, each whole or not at all.

    A sample maps suffixes to contents; its key is its number. The same samples give the same
    bytes. Raises InvalidValue for a shard of no samples, NotWritten for a full disk.
    """
    if per_shard < 1:
        raise InvalidValue(f"A shard of {per_shard} samples is none.", do="Choose 1 or more.")
    paths: list[Path] = []
    waiting: list[tuple[str, Mapping[str, bytes]]] = []

    def flush() -> None:
        content = list(waiting)
        path = folder / f"{prefix}-{len(paths):06d}.tar"
        paths.append(write_with(path, lambda temporary: _write_tar(temporary, content)))
        waiting.clear()

    for number, sample in enumerate(samples):
        waiting.append((f"{number:06d}", sample))
        if len(waiting) == per_shard:
            flush()
    if waiting:
        flush()
    return paths


def _write_tar(path: Path, samples: list[tuple[str, Mapping[str, bytes]]]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, sample in samples:
            for suffix, content in sorted(sample.items()):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size, member.mode = len(content), 0o644
                tar.addfile(member, io.BytesIO(content))


def read_shards(places: str | Iterable[str], account: Account | None = None) -> Iterator[Sample]:
    """The samples of all shards in order.

    A place is a path or address, with `*` or `{000000..000012}` for several; a folder is all its
    `.tar` files. What is damaged is left out and named in `account`. Raises NotFound for a place
    without shards, MissingExtra without fsspec.
    """
    account = account if account is not None else Account()
    for place in _expanded([places] if isinstance(places, str) else list(places)):
        yield from _samples(place, account)


def _expanded(places: list[str]) -> list[str]:
    fsspec, braceexpand = need("fsspec", "data"), need("braceexpand", "data")
    found: list[str] = []
    for place in (one for many in places for one in braceexpand.braceexpand(many)):
        system, path = fsspec.core.url_to_fs(place)
        if system.isdir(path):
            some = sorted(system.glob(f"{path.rstrip('/')}/*.tar"))
        elif "*" in place:
            some = sorted(system.glob(path))
        else:
            some = [path] if system.exists(path) else []
        if not some:
            raise NotFound(
                f"There are no shards at {place!r}.",
                do="Name a .tar file, or a folder that holds some.",
            )
        found += [system.unstrip_protocol(path) for path in some]
    return found


class _Header(tarfile.TarInfo):
    """`tarfile` takes a damaged header in the middle for the end, and says nothing."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:  # the name of the base's argument
        try:
            return super().fromtarfile(tarfile)
        except _DAMAGED as error:
            raise _Damage(str(error)) from error


_DAMAGED = tuple(
    kind
    for kind in cast(Any, tarfile).HeaderError.__subclasses__()
    if kind.__name__ in ("InvalidHeaderError", "TruncatedHeaderError", "SubsequentHeaderError")
)


class _Damage(tarfile.ReadError):
    pass


def _samples(place: str, account: Account) -> Iterator[Sample]:
    """Samples of one shard; members of a sample stand beside each other."""
    fsspec = need("fsspec", "data")
    shard = place.rsplit("/", 1)[-1]
    key, members = "", dict[str, bytes]()
    last, cut = "the beginning", False
    try:
        with (
            fsspec.open(place, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header) as tar,
        ):
            for member in tar:
                last = member.name
                if not member.isfile():
                    continue
                name, suffix = _parted(member.name)
                if name != key:
                    yield from _finished(shard, key, members, account)
                    key, members = name, {}
                if suffix not in PICTURES + TEXTS:
                    continue
                if member.size > MOST_BYTES:
                    why = f"{member.size} bytes, more than the {MOST_BYTES} that are read"
                    account.broken.append(Broken(shard, member.name, why))
                    continue
                cut = True
                content = tar.extractfile(member)
                members[suffix] = content.read() if content is not None else b""
                if len(members[suffix]) != member.size:
                    raise _Damage("unexpected end of data")
                cut = False
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        account.broken.append(Broken(shard, f"all after {last}", str(error)))
        if cut:
            members.clear()
    yield from _finished(shard, key, members, account)


def _parted(member: str) -> tuple[str, str]:
    """Key and suffix: the suffix begins at the first dot of the file's own name."""
    folder, slash, file = member.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def _finished(
    shard: str, key: str, members: Mapping[str, bytes], account: Account
) -> Iterator[Sample]:
    if not members:
        return
    pictures = [suffix for suffix in PICTURES if suffix in members]
    if not pictures or not any(suffix in members for suffix in TEXTS):
        why = "a sample without words" if pictures else "a sample without a picture"
        account.broken.append(Broken(shard, key, why))
        return
    at = f"{key}.{pictures[0]}"
    try:
        picture = open_picture(members[pictures[0]])
        at = f"{key}.json"
        facts = json.loads(members["json"]) if "json" in members else {}
        if not isinstance(facts, dict):
            raise ValueError("no JSON object")
        at = f"{key}.txt"
        text = members["txt"].decode().strip() if "txt" in members else facts.get("caption", "")
    except Exception as error:  # decoders of damaged files raise whatever they like
        account.broken.append(Broken(shard, at, str(error) or type(error).__name__))
        return
    account.read += 1
    yield Sample(shard, key, picture, str(text), facts)
