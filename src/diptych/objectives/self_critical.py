"""Self-critical sequence training (Rennie et al., 2017): a caption drawn at random is better or
worse than the one that the network would say, and becomes likelier or less by as much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diptych.decoding.words import cut, spoken
from diptych.objectives.loss import Loss

# What a caption (without marks) of a numbered scene is worth.
Reward = Callable[[list[int], int], float]


def self_critical_loss(
    model: Any,
    batch: dict[str, Any],
    generator: torch.Generator,
    *,
    reward: Reward,
    marks: tuple[int, int],
    longest: int,
) -> Loss:
    """-(r(sample) - r(greedy)) sum_t log p(sample_t), the mean over the batch.

    The mark of the end is a word like others: it is drawn, rewarded and learned, or captions would
    end in "and a". No gradient goes through the baseline. batch: numbers (the scenes'), seen.
    `marks`: of begin and end.
    """
    begin = torch.full((len(batch["numbers"]), 1), marks[0])
    with torch.no_grad():
        memory = model.look(**batch["seen"])
        drawn = spoken(model.step, memory, begin, eos=marks[1], longest=longest, draw=generator)
        said = spoken(model.step, memory, begin, eos=marks[1], longest=longest)
    sampled = rewards(drawn, batch["numbers"], reward, marks[1])
    baseline = rewards(said, batch["numbers"], reward, marks[1])
    advantage = sampled - baseline
    tokens = torch.cat([begin, drawn], dim=1)
    chances = model(tokens=tokens[:, :-1], **batch["seen"]).float().log_softmax(-1)
    chosen = chances.gather(-1, drawn[..., None])[..., 0] * within(drawn, marks[1])
    loss = -(advantage[:, None] * chosen).sum(1).mean()
    return Loss(loss, {"sampled": sampled.mean(), "greedy": baseline.mean()})


def rewards(tokens: Tensor, numbers: list[int], reward: Reward, eos: int) -> Tensor:
    """tokens [B, M] -> [B]; a caption that never ends has no mark of the end to be rewarded for"""
    ended = (tokens == eos).any(1).tolist()
    rows = [
        [*row, eos] if has_end else row
        for row, has_end in zip(cut(tokens, eos), ended, strict=True)
    ]
    return torch.tensor([reward(row, n) for row, n in zip(rows, numbers, strict=True)])


def within(tokens: Tensor, eos: int) -> Tensor:
    """[B, M] -> 1 up to the first `eos` and on it, 0 behind"""
    ends = (tokens == eos).cumsum(1) - (tokens == eos).long()
    return (ends == 0).float()
