"""The loss curve of a run as a picture."""

from __future__ import annotations

from pathlib import Path

from diptych.foundation.files import write_with
from diptych.training.log import read

NAME = "loss.png"


def draw_curve(run: Path) -> Path | None:
    """Draw `loss.png` from the run's log; none when there is too little to draw."""
    lines = [line for line in read(run) if "loss" in line]
    if len(lines) < 2:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [line["step"] for line in lines]
    losses = [line["loss"] for line in lines]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#9db8d9", linewidth=1, label="loss")
    axes.plot(steps, smoothed(losses), color="#1f4e8c", linewidth=2, label="smoothed")
    if min(losses) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(True, which="both", color="#e4e7eb", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False)
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
