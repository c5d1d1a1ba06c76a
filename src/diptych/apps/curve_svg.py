"""A loss curve as SVG that stands inside a page and takes the page's colors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Any

from diptych.training.curve import smoothed

# Half a page wide at its own size: the letters stay readable on a telephone.
WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 12, 36


def curve_svg(lines: Sequence[dict[str, Any]]) -> str:
    """The losses of a log's lines against steps; empty when there is too little to draw.

    Where the steps begin again, a run went on from another's weights: they are counted on.
    """
    steps, losses = _joined(lines)
    if len(steps) < 2:
        return ""
    loss_ticks, logarithmic = _loss_ticks(losses)
    step_ticks = _round_steps(0, steps[-1], 5)
    low, high = min(loss_ticks[0], *losses), max(loss_ticks[-1], *losses)
    bend: Callable[[float], float] = log10 if logarithmic else float

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps[-1]

    def y(loss: float) -> float:
        share = (bend(loss) - bend(low)) / (bend(high) - bend(low))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    drawn = [
        f'<path class="grid" d="M{LEFT} {y(t):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in loss_ticks
    ]
    drawn += [
        f'<text x="{x(t):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{t:g}</text>'
        for t in step_ticks
    ]
    drawn += [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>',
        _path("raw", [(x(s), y(loss)) for s, loss in zip(steps, losses, strict=True)]),
        _path("mean", [(x(s), y(loss)) for s, loss in zip(steps, smoothed(losses), strict=True)]),
    ]
    said = f"loss from {losses[0]:.3g} to {losses[-1]:.3g} in {steps[-1]} steps"
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f"<title>{said}</title>{''.join(drawn)}</svg>"
    )


def _joined(lines: Sequence[dict[str, Any]]) -> tuple[list[int], list[float]]:
    steps: list[int] = []
    losses: list[float] = []
    before = last = 0
    for line in lines:
        before += last if line["step"] < last else 0
        last = line["step"]
        if line.get("loss") is not None:
            steps.append(before + last)
            losses.append(line["loss"])
    return steps, losses


def _loss_ticks(losses: Sequence[float]) -> tuple[list[float], bool]:
    """Round values, and whether they stand on a logarithmic scale."""
    low, high = min(losses), max(losses)
    if low <= 0 or high <= 4 * low:
        return _round_steps(low, high, 4) or [low, high], False
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    round_ones = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    inside = [value for value in round_ones if low <= value <= high]
    return inside or [low, high], True


def _round_steps(low: float, high: float, count: int) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    span = (high - low) or 1.0
    power = 10.0 ** floor(log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * count >= span)
    return [step * i for i in range(ceil(low / step), floor(high / step) + 1)]


def _path(kind: str, points: Sequence[tuple[float, float]]) -> str:
    return f'<path class="{kind}" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>'
