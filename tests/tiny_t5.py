"""A small vocabulary for T5's tokenizer, learnt on the spot, and folders that hold it."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

from diptych.text.t5_tokenizer import T5Tokenizer
from tests.tiny_clip import LEARNT_FROM

MARKS = ["<pad>", "</s>", "<unk>"]


@cache
def pieces() -> tuple[tuple[str, float], ...]:
    """About 110 pieces of the words, with their scores; the marks first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    build: Any = models.Unigram
    learner = Tokenizer(build())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer: Any = trainers.UnigramTrainer(
        vocab_size=115, special_tokens=MARKS, unk_token="<unk>", show_progress=False
    )
    learner.train_from_iterator([LEARNT_FROM], trainer)
    found = json.loads(learner.to_str())["model"]["vocab"]
    return tuple((str(piece), struct.unpack("<f", struct.pack("<f", score))[0])
                 for piece, score in found)  # fmt: skip


def _field(number: int, wire: int, value: bytes) -> bytes:
    size = _varint(len(value)) if wire == 2 else b""
    return _varint(number << 3 | wire) + size + value


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def spiece(*, kind: int = 1, charsmap: bytes = b"") -> bytes:
    """The vocabulary as SentencePiece writes it."""
    kinds = {"<unk>": 2, "<pad>": 3, "</s>": 3}
    out = b""
    for piece, score in pieces():
        inside = _field(1, 2, piece.encode()) + _field(2, 5, struct.pack("<f", score))
        inside += _field(3, 0, _varint(kinds.get(piece, 1)))
        out += _field(1, 2, inside)
    trainer = _field(1, 2, b"a file") + _field(3, 0, _varint(kind)) + _field(10, 5, bytes(4))
    normalizer = _field(1, 2, b"nmt_nfkc") + _field(2, 2, charsmap) + _field(3, 0, _varint(1))
    return out + _field(2, 2, trainer) + _field(3, 2, normalizer)


def spiece_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "spiece.model").write_bytes(spiece())
    return folder


def tiny_t5() -> T5Tokenizer:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return T5Tokenizer.load(spiece_folder(Path(folder)))
