"""Several texts about one picture in one row: the picture is looked at once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.pipelines.image_to_text import prompt_ids
from diptych.text.word_tokenizer import WordTokenizer

# Task or question, answer, and what a token of the answer weighs in the loss.
Said = tuple[str, str, float]


def packed(tokenizer: WordTokenizer, texts: Sequence[Sequence[Said]]) -> dict[str, Tensor]:
    """The texts of each picture as tokens, segments and weights [B, L], for `answer_loss`."""
    rows = [_row(tokenizer, some) for some in texts]
    length, last = max(map(len, rows)), max(map(len, texts))
    table = torch.tensor([row + [(tokenizer.pad, last, 0.0)] * (length - len(row)) for row in rows])
    tokens, segments, weights = table.unbind(-1)
    return {"tokens": tokens.long(), "segments": segments.long(), "weights": weights}


def _row(tokenizer: WordTokenizer, texts: Sequence[Said]) -> list[tuple[int, int, float]]:
    """(token, number of its text, weight) of all texts of a picture."""
    row: list[tuple[int, int, float]] = []
    for number, (task, answer, weight) in enumerate(texts):
        row += [(token, number, 0.0) for token in prompt_ids(tokenizer, task)]
        row += [(token, number, weight) for token in [*tokenizer.encode(answer), tokenizer.eos]]
    return row
