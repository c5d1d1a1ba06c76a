"""Beam search of one text: its prompt is kept once, each beam's own words beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diptych.decoding.beams import Beams, advanced
from diptych.decoding.choices import filtered
from diptych.decoding.constraints import State
from diptych.decoding.slots import KVView, Prefix
from diptych.pipelines.reading import Ask, Reading


@dataclass(frozen=True)
class Search:
    """`keys` and `values` [L, K, G, S, E] of the open beams' own words; `states` of their
    constraints."""

    ask: Ask
    prompt: Prefix
    beams: Beams
    keys: Tensor
    values: Tensor
    states: tuple[State | None, ...]

    @classmethod
    def begun(cls, reading: Reading, prompt: Prefix, ask: Ask) -> Search:
        """Before the first word."""
        decoding, kv = ask.decoding, reading.kv
        size = (kv.depth, 1, kv.groups, decoding.most, kv.head_dim)
        keys = torch.zeros(size, dtype=reading.dtype, device=reading.device)
        start = None if ask.constraint is None else ask.constraint.start()
        beams = Beams(decoding.beams, decoding.length_penalty)
        return cls(ask, prompt, beams, keys, torch.zeros_like(keys), (start,))

    def logits(self, reading: Reading) -> Tensor:
        """Of the open beams' next words, [K, V]."""
        tokens = torch.tensor([said[-1] for said, _ in self.beams.open], device=reading.device)
        length = self.beams.length - 1
        place = self.prompt.following + length
        view = KVView(self.keys, self.values, [length] * len(tokens), 1, shared=self.prompt)
        places = torch.full((len(tokens),), place, device=reading.device)
        return reading.logits(reading.step(reading.embed(tokens), places, view))

    def advanced(self, logits: Tensor, ends: tuple[int, ...]) -> Search:
        """One word further on logits [K, V]; keys and values follow their beams."""
        decoding = self.ask.decoding
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        if not decoding.plain or self.ask.constraint is not None:
            rows = list[Tensor]()
            for row, (said, _), state in zip(wide, self.beams.open, self.states, strict=True):
                allowed = None if state is None else state.allowed(len(row))
                rows.append(filtered(row, decoding, said, allowed=allowed, ends=ends))
            wide = torch.stack(rows)
        beams = advanced(self.beams, wide, frozenset(ends), decoding.most)
        if not beams.open:
            return replace(self, beams=beams)
        from_ = torch.tensor(beams.from_, device=self.keys.device)
        states = tuple(
            None if state is None else state.after(said[-1])
            for state, (said, _) in zip(
                (self.states[i] for i in beams.from_), beams.open, strict=True
            )
        )
        length = self.beams.length
        keys, values = (_followed(kept, from_, length) for kept in (self.keys, self.values))
        return replace(self, beams=beams, keys=keys, values=values, states=states)


def _followed(kept: Tensor, from_: Tensor, length: int) -> Tensor:
    """[L, K, G, S, E] -> the same of the beams `from_`; only words that were said are moved."""
    if len(from_) == kept.shape[1]:
        kept[:, :, :, :length] = kept[:, from_, :, :length]
        return kept
    following = kept.new_zeros((kept.shape[0], len(from_), *kept.shape[2:]))
    following[:, :, :, :length] = kept[:, from_, :, :length]
    return following
