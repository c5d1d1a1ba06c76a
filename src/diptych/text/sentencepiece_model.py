"""A `spiece.model` of SentencePiece (Kudo and Richardson, 2018) read without that library: pieces
with their scores, and the table of its normalizer. The file is a protocol buffer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diptych.foundation.errors import Unreadable

# Numbers of fields in sentencepiece_model.proto.
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE = 1, 2
_MODEL_TYPE, _UNIGRAM = 3, 1
_CHARSMAP = 2
_Value = int | bytes


@dataclass(frozen=True)
class SentencePieceModel:
    """`pieces` in the order of their numbers; `charsmap`: the compiled rules of the normalizer."""

    pieces: tuple[tuple[str, float], ...]
    charsmap: bytes


def sentencepiece_model(path: Path) -> SentencePieceModel:
    """Raises Unreadable for a file that is none, or whose model is not unigram."""
    pieces: list[tuple[str, float]] = []
    charsmap = b""
    try:
        for field, value in _fields(path.read_bytes()):
            if field == _PIECE:
                inside = dict(_fields(_bytes(value)))
                score = struct.unpack("<f", _bytes(inside.get(_SCORE, bytes(4))))[0]
                pieces.append((_bytes(inside[_TEXT]).decode(), score))
            elif field == _NORMALIZER:
                charsmap = _bytes(dict(_fields(_bytes(value))).get(_CHARSMAP, b""))
            elif field == _TRAINER:
                kind = dict(_fields(_bytes(value))).get(_MODEL_TYPE, _UNIGRAM)
                if kind != _UNIGRAM:
                    raise Unreadable(f"{str(path)!r} is a SentencePiece model, but no unigram one.")
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise Unreadable(f"{str(path)!r} is no SentencePiece model.") from error
    if not pieces:
        raise Unreadable(f"{str(path)!r} is no SentencePiece model.")
    return SentencePieceModel(tuple(pieces), charsmap)


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are due")
    return value


def _fields(content: bytes) -> Iterator[tuple[int, _Value]]:
    """The fields of a message: their numbers, and numbers or bytes. Raises ValueError, IndexError
    for what is cut short."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield field, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if size is None:
            if wire != 2:
                raise ValueError(f"wire type {wire}")
            size, at = _varint(content, at)
        if at + size > len(content):
            raise IndexError("cut short")
        yield field, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        byte = content[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number without end")
