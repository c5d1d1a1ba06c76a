"""The curves of a run as a picture: loss and its parts, and below them the probes' scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.foundation.files import write_with
from diptych.training.log import read

NAME = "loss.png"
_NO_PARTS = frozenset({"step", "loss", "norm", "rate", "seconds"})
_INK, _PALE, _GRID = "#1f4e8c", "#a9c1de", "#e4e7eb"
_COLORS = ("#c2542d", "#2f7d5b", "#8a5fb0", "#b58a1c", "#4a6a78", "#b0457a")
_DASHES = ("-", "--", ":")


def draw_curve(run: Path) -> Path | None:
    """Draw `loss.png` from the run's log; none when there is too little to draw."""
    lines = list(read(run))
    losses = [line for line in lines if line.get("loss") is not None]
    if len(losses) < 2:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = _series([line for line in lines if "probe" in line], "probe")
    figure = Figure(figsize=(8, 6 if scores else 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [2, 1] if scores else [1]
    axes = figure.subplots(len(ratios), sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    _draw_losses(axes[0], losses)
    if scores:
        for number, (name, (steps, values)) in enumerate(scores.items()):
            color, dashes = _COLORS[number % len(_COLORS)], _DASHES[number // len(_COLORS) % 3]
            axes[1].plot(steps, values, dashes, marker=".", color=color, linewidth=1.4, label=name)
        axes[1].set_ylabel("score")
        axes[1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes[-1].set_xlabel("step")
    for panel in axes:
        panel.grid(True, which="both", color=_GRID, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    return write_with(run / NAME, lambda path: figure.savefig(path, format="png"))


def smoothed(values: list[float], share: float = 0.05) -> list[float]:
    """A moving average whose window is a share of the curve, centered, shorter at the ends."""
    half = max(int(len(values) * share / 2), 1)
    means: list[float] = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        means.append(sum(window) / len(window))
    return means


def _draw_losses(axes: Any, lines: list[dict[str, Any]]) -> None:
    steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
    axes.plot(steps, losses, color=_PALE, linewidth=0.8)
    axes.plot(steps, smoothed(losses), color=_INK, linewidth=2, label="loss")
    parts = {name: line for name, line in _series(lines).items() if name not in _NO_PARTS}
    for color, (name, (at, values)) in zip(_COLORS, parts.items(), strict=False):
        axes.plot(at, smoothed(values), color=color, linewidth=1.2, label=name)
    drawn = losses + [value for _, values in parts.values() for value in values]
    if min(drawn) > 0 and max(drawn) > 4 * min(drawn):
        axes.set_yscale("log")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _series(
    lines: list[dict[str, Any]], prefix: str = ""
) -> dict[str, tuple[list[int], list[float]]]:
    """Lines of the log -> name -> (steps, values); `prefix` is the key whose value goes before."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for key, value in line.items():
            if key in ("step", prefix) or value is None:
                continue
            name = f"{line[prefix]} {key}" if prefix else key
            steps, values = series.setdefault(name, ([], []))
            steps.append(line["step"])
            values.append(value)
    return series
