"""What is in a safetensors file, without its tensors: names, shapes, types, places."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diptych.foundation.errors import NotFound, Unreadable

# Of the types that a file may hold, those that a network is made of here.
TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL")
_INDEX = ".safetensors.index.json"
# The first bytes of what people mistake for safetensors.
_FOREIGN = {
    b"PK\x03\x04": "a pickle (PyTorch's old format)",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"GGUF": "GGUF, which is not read yet",
    b"version https://git-lfs": "a Git LFS pointer: the file itself was not downloaded",
    b"<!DOC": "a web page: the download went wrong",
}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its bytes lie from `begin` to `end`."""

    shape: tuple[int, ...]
    dtype: str
    file: Path
    begin: int
    end: int


Header = dict[str, Stored]


def header_of(path: Path) -> Header:
    """Of one file, or of all shards that an index or a folder names.

    Raises NotFound, or Unreadable that says what the file is instead, or what is broken.
    """
    if path.is_dir():
        return _joined(files_of(path))
    if path.name.endswith(_INDEX):
        return _joined(_of_index(path))
    return _of_file(path)


def metadata_of(path: Path) -> dict[str, str]:
    """The words that a whole file holds beside its tensors."""
    with path.open("rb") as file:
        described = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return described.get("__metadata__") or {}


def files_of(folder: Path, variant: str = "") -> list[Path]:
    """The weight files of a component's folder; a `variant` as `fp16` is part of their names.

    Raises NotFound; Unreadable where there are several and none is plainly meant.
    """
    mark = f".{variant}" if variant else ""
    for index in sorted(folder.glob(f"*{_INDEX.replace('.json', mark + '.json')}")):
        return _of_index(index)
    found = sorted(folder.glob(f"*{mark}.safetensors"))
    plain = [path for path in found if path.name.count(".") == 1 + bool(variant)]
    if len(plain) == 1:
        return plain
    variants = sorted({path.name.split(".")[1] for path in found if path.name.count(".") == 2})
    if not plain and variants:
        raise NotFound(
            f"{str(folder)!r} holds weights only as {', '.join(variants)}.",
            do=f"Choose one: variant={variants[0]!r}.",
        )
    if not plain:
        others = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.ckpt"))
        if others:
            do = f"diptych models convert {others[0]} makes safetensors of one."
            raise NotFound(f"There are only pickles in {str(folder)!r}.", do=do)
        raise NotFound(f"There are no .safetensors in {str(folder)!r}.", do="Name another folder.")
    names = ", ".join(path.name for path in plain[:3])
    raise Unreadable(f"{str(folder)!r} holds several weight files: {names}.", do="Keep one.")


def _of_index(path: Path) -> list[Path]:
    try:
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Unreadable(f"{str(path)!r} is no index of shards.") from error
    if any("/" in name or "\\" in name for name in shards):
        raise Unreadable(f"{str(path)!r} names files outside its folder.")
    return [path.parent / name for name in shards]


def _joined(paths: Iterable[Path]) -> Header:
    whole: Header = {}
    for path in paths:
        part = _of_file(path)
        twice = sorted(whole.keys() & part.keys())
        if twice:
            raise Unreadable(f"{twice[0]!r} is in {path.name!r} and in a shard before it.")
        whole |= part
    return whole


def _of_file(path: Path) -> Header:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise NotFound(f"There is no file {str(path)!r}.")
    with path.open("rb") as file:
        start = file.read(32)
        for magic, what in _FOREIGN.items():
            if start.startswith(magic):
                do = (
                    "diptych models convert makes safetensors of it."
                    if "pickle" in what
                    else ("Only safetensors are read.")
                )
                raise Unreadable(f"{str(path)!r} is {what}.", do=do)
        try:
            # The library checks that the places are within the file and do not overlap.
            with safe_open(path, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise Unreadable(f"{str(path)!r} is no whole safetensors file: {error}.") from error
        length = int.from_bytes(start[:8], "little")
        file.seek(8)
        described = json.loads(file.read(length))
    described.pop("__metadata__", None)
    header = {
        name: Stored(
            tuple(one["shape"]),
            one["dtype"],
            path,
            *(8 + length + at for at in one["data_offsets"]),
        )
        for name, one in described.items()
    }
    strange = {name: one.dtype for name, one in header.items() if one.dtype not in TYPES}
    if strange:
        name, kind = next(iter(strange.items()))
        raise Unreadable(
            f"{str(path)!r} holds {len(strange)} tensors of type {kind}, as {name!r}.",
            do="Read a file with float32, float16 or bfloat16 weights.",
        )
    return header
