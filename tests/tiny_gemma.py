"""A small vocabulary for Gemma's tokenizer, learnt on the spot."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tests.tiny_clip import LEARNT_FROM

MARKS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]


@cache
def learnt() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Numbers of about 300 pieces, the marks first, and merges. Signs that no piece has are bytes,
    as in the published vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    trainer: Any = trainers.BpeTrainer(vocab_size=200, show_progress=False)
    learner.train_from_iterator([LEARNT_FROM], trainer)
    found = json.loads(learner.to_str())["model"]
    words = [*MARKS, *(f"<0x{byte:02X}>" for byte in range(256)), *found["vocab"]]
    merges = [(first, second) for first, second in found["merges"]]
    return {word: number for number, word in enumerate(dict.fromkeys(words))}, merges
