"""Guidance: several answers of the network made into one, each row of a batch by its own rule.

out = base + sum_k weight_k (plus_k - minus_k) over passes, which are names that the caller can
answer: `conditional` c, `unconditional` u (or the negative prompt), `perturbed`, `weak`, `image`,
`conditional-1`, ... A pass whose weights cancel is not asked for. What is not linear is an
option, off unless it is set: `replace(classifier_free(7.5), rescale=0.7)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

import torch
from torch import Tensor

from diptych.diffusion.paths import Node
from diptych.diffusion.predictions import to_x0
from diptych.foundation.errors import InvalidValue

# x [E, ...], the row and the pass of each evaluation -> what the network says [E, ...]
Ask = Callable[[Tensor, list[int], list[str]], Tensor]
Pair = tuple[float, float]
EVERYWHERE: Pair = (0.0, inf)


@dataclass(frozen=True)
class Term:
    """weight (plus - minus) for sigma in `interval`, ends included (Kynkäänniemi et al., 2024).
    The weight falls by `fade` for each unit of the network's time away from `start`, down to 0."""

    weight: float
    plus: str
    minus: str
    interval: Pair = EVERYWHERE
    fade: float = 0.0
    start: float = 1000.0

    def __post_init__(self) -> None:
        _need(isfinite(self.weight), f"A weight of {self.weight} is not offered.")
        _need(0 <= self.interval[0] <= self.interval[1], f"{self.interval} holds no sigma.")
        _need(self.fade == 0 or self.fade > 0 < self.weight, "Only a weight above 0 can fade.")

    def at(self, node: Node) -> float:
        """The weight at this node."""
        inside = self.interval[0] <= node.sigma <= self.interval[1]
        fallen = self.fade and self.fade * abs(self.start - node.time)
        return (max(0.0, self.weight - fallen) if fallen else self.weight) if inside else 0.0


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How a row is guided. Raises InvalidValue for what cannot be, or cannot be together.

    `told`: the guidance that a distilled network is told (Meng et al., 2023). `rescale` phi in
    0..1: g (phi std(c) / std(g) + 1 - phi) (Lin et al., 2024, 3.4). `threshold`: with
    s = max(1, this quantile of |x0|), x0 becomes clamp(x0, -s, s) / s, for pixels (Saharia et al.,
    2022, 2.3). `projection`: eta, limit and momentum of APG (Sadat et al., 2024): in x0, the
    difference d = c - u + momentum (d before) is shortened to the norm `limit`, and its part along
    c multiplied by eta. `zero_star`: the unconditional velocity u becomes (<c, u> / |u|^2) u, and
    this many solver steps from the first say 0 (CFG-Zero*, Fan et al., 2025). `matched`: g |c| /
    |g| over the last axis (Lumina-Image 2). `channels`: how many are guided, the first ones.
    `clip`: x0 becomes clamp(x0, -clip, clip), for pixels, 0 for not (as DDPM was published).
    """

    base: str = "conditional"
    terms: tuple[Term, ...] = ()
    told: float | None = None
    rescale: float = 0.0
    threshold: float = 0.0
    projection: tuple[float, float, float] | None = None
    zero_star: int | None = None
    matched: bool = False
    channels: int | None = None
    clip: float = 0.0

    def __post_init__(self) -> None:
        pairs, apg = [(term.plus, term.minus) for term in self.terms], self.projection
        free = ("conditional", "unconditional") in pairs and self.base == "conditional"
        _need(free or apg is self.zero_star is None, "APG and CFG-Zero* need classifier_free.")
        _need(None in (apg, self.zero_star), "APG and CFG-Zero* change the same. Choose one.")
        guided = self.base == "conditional" and bool(self.terms)
        free = guided or not (self.rescale or self.matched or self.channels)
        _need(free, "A rescale needs terms upon the conditional pass.")
        _need(0 <= self.rescale <= 1, f"A rescale of {self.rescale} is not in 0 to 1.")
        eta, limit, momentum = apg or (0.0, inf, 0.0)
        _need(isfinite(eta) and limit > 0 and abs(momentum) < 1, f"APG of {apg} is not offered.")
        _need(0 <= self.threshold <= 1, f"A threshold of {self.threshold} is no quantile.")
        _need(0 <= self.clip < inf, f"Pixels are not cut at {self.clip}.")
        _need((self.zero_star or 0) >= 0, f"{self.zero_star} is no number of steps.")
        _need(isfinite(self.told or 0), f"A guidance of {self.told} cannot be told.")

    def __add__(self, other: Guidance) -> Guidance:
        """With the terms of another. Raises InvalidValue if that has another base, or options."""
        plain = Guidance(base=self.base, terms=other.terms)
        _need(other == plain, f"Only terms upon {self.base} can be added: set options on the sum.")
        return replace(self, terms=self.terms + other.terms)


def classifier_free(weight: float, interval: Pair = EVERYWHERE) -> Guidance:
    """u + w (c - u) (Ho and Salimans, 2022); outside the interval c, as with w = 1."""
    return Guidance(terms=(Term(weight - 1, "conditional", "unconditional", interval),))


def autoguidance(weight: float, interval: Pair = EVERYWHERE) -> Guidance:
    """weak + w (c - weak), weak being a worse network (Karras et al., 2024)."""
    return Guidance(terms=(Term(weight - 1, "conditional", "weak", interval),))


def perturbed(scale: float, interval: Pair = EVERYWHERE, **fading: float) -> Guidance:
    """c + s (c - perturbed), `fade` and `start` as in Term (PAG, Ahn et al., 2024)."""
    return Guidance(terms=(Term(scale, "conditional", "perturbed", interval, **fading),))


def two_condition(text: float, image: float, interval: Pair = EVERYWHERE) -> Guidance:
    """u + w_T (c - i) + w_I (i - u), i: the image without words (Brooks et al., 2023, eq. 3)."""
    words = Term(text - 1, "conditional", "image", interval)
    return Guidance(terms=(words, Term(image - 1, "image", "unconditional", interval)))


def composed(weights: Sequence[float]) -> Guidance:
    """u + sum_i w_i (c_i - u), passes `conditional-1` and on (Liu et al., 2022)."""
    terms = (Term(w, f"conditional-{i}", "unconditional") for i, w in enumerate(weights, 1))
    return Guidance(base="unconditional", terms=tuple(terms))


def passes(guidance: Guidance, node: Node, step: int = 0) -> dict[str, float]:
    """What a row asks for at this node in this solver step, with weights, whose sum is one; 0
    for a conditional pass that only an option reads. Nothing at all: 0 is said."""
    if step < (guidance.zero_star or 0):
        return {}
    weights = {guidance.base: 1.0}
    for term in guidance.terms:
        for name, weight in ((term.plus, term.at(node)), (term.minus, -term.at(node))):
            weights[name] = weights.get(name, 0.0) + weight
    reads = guidance.rescale or guidance.projection or guidance.zero_star is not None
    reads = reads or guidance.matched or guidance.channels
    return {n: w for n, w in weights.items() if abs(w) > 1e-12 or (reads and n == guidance.base)}


def guided(
    ask: Ask, x: Tensor, guidances: Sequence[Guidance], nodes: Sequence[Node], prediction: str,
    steps: Sequence[int] | None = None, momentum: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """One call of the network for all rows of x [B, ...], each with its guidance, node and solver
    step -> what is said [B, ...], and APG's d in x0 [B, ...] for the next time, if a row has it.
    Rows know nothing of each other. Raises InvalidValue for CFG-Zero* without a velocity and
    counted steps, and where x0 is needed and cannot be told."""
    star = any(row.zero_star is not None for row in guidances)
    fit = not star or (prediction == "velocity" and steps is not None)
    _need(fit, f"CFG-Zero* needs a velocity and counted steps, not {prediction} at {steps}.")
    asked = [passes(*row) for row in zip(guidances, nodes, steps or [0] * len(x), strict=True)]
    rows = [i for i, weights in enumerate(asked) for _ in weights]
    seen = x if rows == list(range(len(x))) else x[rows]
    said = ask(seen, rows, [n for w in asked for n in w]).to(x.dtype) if rows else x[:0]
    before = x.new_zeros(()).expand_as(x) if momentum is None else momentum
    made: list[tuple[Tensor, Tensor]] = []
    # Row by row: to gather rows of one kind took 1.2 to 7 times as long, for 8 rows on a CPU.
    for i, part in enumerate(said.split([len(weights) for weights in asked])):
        row, parts = guidances[i], dict(zip(asked[i], part, strict=True))
        pair = (
            to_x0(prediction, nodes[i])
            if row.projection or row.threshold or row.clip
            else (0.0, 1.0)
        )
        made.append(_of_row(row, asked[i], parts, x[i], pair, before[i]))
    out, kept = zip(*made, strict=True)
    return torch.stack(out), torch.stack(kept) if any(g.projection for g in guidances) else None


def toward(out: Tensor, gradient: Tensor, scale: float, node: Node, prediction: str) -> Tensor:
    """Classifier guidance (Dhariwal and Nichol, 2021, algorithm 2): eps - scale sigma gradient of
    ln p(y | x), in any prediction: x0 + scale sigma^2 / alpha gradient; all [B, ...]."""
    _need(node.alpha > 0, "Noise alone shows no class: guide from a later node on.")
    return out + scale * node.sigma**2 / node.alpha / to_x0(prediction, node)[1] * gradient


def _of_row(
    row: Guidance, weights: dict[str, float], said: dict[str, Tensor], x: Tensor, pair: Pair,
    before: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """base + sum_k weight_k (pass_k - base), its first pass being the base, then the options."""
    if not said:
        return torch.zeros_like(x), before
    (first, *others), (p, q) = said, pair
    base = out = said[first]
    if "unconditional" in others and row.zero_star is not None:
        said["unconditional"] = _share(base, said["unconditional"]) * said["unconditional"]
    if "unconditional" in others and row.projection:
        eta, limit, beta = row.projection
        x0, before = p * x + q * base, q * (base - said["unconditional"]) + beta * before
        d = before * (limit / before.norm()).clamp(max=1)
        said["unconditional"] = base - (d + (eta - 1) * _share(d, x0) * x0) * (1 / q)
    for name in others:
        out = out.add(said[name] - base, alpha=weights[name])
    if row.channels:
        out = torch.cat([out[: row.channels], base[row.channels :]])
    if row.matched and others:
        out = out * (base.norm(dim=-1, keepdim=True) / out.norm(dim=-1, keepdim=True)).nan_to_num(1)
    if row.rescale:
        out = out * (1 + row.rescale * ((base.std() / out.std()).nan_to_num(1, posinf=1) - 1))
    if row.threshold:
        x0 = p * x + q * out
        most = torch.quantile(x0.abs().flatten(), row.threshold).clamp(min=1)
        out = out + (x0.clamp(-most, most) / most - x0) * (1 / q)
    if row.clip:
        x0 = p * x + q * out
        out = out + (x0.clamp(-row.clip, row.clip) - x0) * (1 / q)
    return out, before


def _share(a: Tensor, b: Tensor) -> Tensor:
    return ((a * b).sum() / (b * b).sum()).nan_to_num(0.0)  # <a, b> / |b|^2, 0 for b = 0


def _need(right: bool, what: str) -> None:
    if not right:
        raise InvalidValue(what)
