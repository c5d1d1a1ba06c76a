"""Beam search as a pure step over the log-probabilities of the beams' next tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ended:
    """An answer that is whole: tokens without the end, the log-probability of each with it, and
    the score by which answers are compared."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Beams:
    """`open`: tokens and their log-probabilities, best first; `ended`: up to as many, best first.
    `from_`: which beam each open one goes on from, for its keys and values."""

    width: int
    length_penalty: float
    open: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...] = (((), ()),)
    ended: tuple[Ended, ...] = ()
    from_: tuple[int, ...] = (0,)

    @property
    def length(self) -> int:
        """Tokens of the open beams."""
        return len(self.open[0][0]) if self.open else 0

    @property
    def done(self) -> bool:
        """Whether no open beam can still be better than the worst of the ended: judged by its
        score if it ended now, as is usual."""
        if len(self.ended) < self.width:
            return not self.open
        best = max((sum(logs) for _, logs in self.open), default=float("-inf"))
        return best / max(self.length, 1) ** self.length_penalty <= self.ended[-1].score


def advanced(beams: Beams, logprobs: Tensor, ends: frozenset[int], most: int) -> Beams:
    """logprobs [K, V] of the open beams' next tokens -> one token further.

    Of the best (1 + ends, at least 2) * width continuations, those that end are set aside if they
    are among the `width` best, and the best others go on (Wu et al., 2016). At `most` tokens all
    end. Scores are sums over (tokens, the end counted) ** length_penalty.
    """
    sums = torch.tensor([[sum(logs)] for _, logs in beams.open], dtype=torch.float64)
    wide = logprobs.double().cpu()
    candidates = max(2, 1 + len(ends)) * beams.width
    flat = (wide + sums).flatten()
    best = flat.topk(min(candidates, len(flat)))
    vocabulary, length = logprobs.shape[1], beams.length + 1
    ended, following = list(beams.ended), list[tuple[int, tuple[int, ...], tuple[float, ...]]]()
    for rank, (total, place) in enumerate(
        zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ):
        if total == float("-inf"):
            break
        beam, token = divmod(place, vocabulary)
        tokens, logs = beams.open[beam]
        mine = (*logs, float(wide[beam, token]))
        if token in ends or length >= most:
            if rank < beams.width:
                whole = tokens if token in ends else (*tokens, token)
                ended.append(Ended(whole, mine, total / length**beams.length_penalty))
        elif len(following) < beams.width:
            following.append((beam, (*tokens, token), mine))
    ended.sort(key=lambda one: -one.score)
    return Beams(
        beams.width,
        beams.length_penalty,
        tuple((tokens, logs) for _, tokens, logs in following),
        tuple(ended[: beams.width]),
        tuple(beam for beam, _, _ in following),
    )
