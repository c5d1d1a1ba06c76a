"""Word after word, by a network that is asked one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Any, Tensor], tuple[Tensor, Any]]


def spoken(
    step: Step,
    memory: Any,
    begin: Tensor,
    *,
    eos: int,
    longest: int,
    draw: torch.Generator | None = None,
) -> Tensor:
    """begin [B, N] -> the words that follow [B, M], M <= longest, `eos` behind the last of each.

    `step(memory, tokens [B, N])` gives logits of the next [B, V] and the memory for it. The most
    likely word is taken, or one at random by `draw`.
    """
    tokens = begin
    done = torch.zeros(len(begin), dtype=torch.bool, device=begin.device)
    for _ in range(longest):
        logits, memory = step(memory, tokens)
        if draw is None:
            word = logits.argmax(-1)
        else:
            word = torch.multinomial(logits.float().softmax(-1), 1, generator=draw)[:, 0]
        word = torch.where(done, eos, word)
        tokens = torch.cat([tokens, word[:, None]], dim=1)
        done = done | (word == eos)
        if done.all():
            break
    return tokens[:, begin.shape[1] :]


def cut(tokens: Tensor, eos: int) -> list[list[int]]:
    """tokens [B, M] -> those of each row before its first `eos`."""
    rows = tokens.tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]
