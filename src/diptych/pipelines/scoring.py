"""Log-probabilities of given answers, exactly, from one reading of the prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.decoding.constraints import Choice
from diptych.decoding.prefixes import PrefixStore
from diptych.decoding.slots import KVSlots, KVView, Prefix
from diptych.pipelines.asking import read_whole
from diptych.pipelines.reading import Prompt, Reading


@dataclass(frozen=True)
class Scored:
    """An answer of several: `score` its share of their probability, in 0..1, `logprob` its own."""

    text: str
    score: float
    logprob: float


@torch.inference_mode()
def scored(
    reading: Reading, prompt: Prompt, choice: Choice, store: PrefixStore | None = None
) -> list[float]:
    """The log-probability of each of the choice's answers, with its end. One call for all answers;
    the prompt is kept once."""
    kept, first = read_whole(reading, prompt, store)
    answers = [[*answer, choice.ends[0]] for answer in choice.answers]
    longest = max(len(answer) for answer in answers)
    ids = torch.zeros(len(answers), longest, dtype=torch.int64, device=reading.device)
    for row, answer in enumerate(answers):
        ids[row, : len(answer)] = torch.tensor(answer)
    logs = _logprobs(reading, kept, first, ids)
    return [float(logs[row, : len(answer)].sum()) for row, answer in enumerate(answers)]


def _logprobs(reading: Reading, kept: Prefix, first: Tensor, ids: Tensor) -> Tensor:
    """first [V], logits behind the prompt; ids [B, N] -> log-probabilities [B, N]"""
    batch, length = ids.shape
    logits = first.expand(batch, 1, -1)
    if length > 1:
        slots = KVSlots(reading.kv, batch, dtype=reading.dtype, device=reading.device)
        room = slots.view(0, batch, length - 1)
        view = KVView(room.keys, room.values, room.starts, length - 1, shared=kept)
        rows = reading.embed(ids[:, :-1].flatten()).unflatten(0, (batch, -1))
        places = torch.arange(kept.following, kept.following + length - 1, device=ids.device)
        states = reading.read(rows, places.expand(batch, -1), view)
        logits = torch.cat([logits, reading.logits(states)], dim=1)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    return wide.gather(2, ids[..., None])[..., 0]
