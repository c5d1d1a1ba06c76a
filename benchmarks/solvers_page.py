"""Writes docs/solvers.md: every solver with its measured order, its error against evaluations of
the network, what to choose, and its pictures.

    python -m benchmarks.solvers_page

What is solved has an exact answer, so nothing here is a matter of taste: the orders come from
`benchmarks.solver_orders`, the errors from a mixture of five Gaussians in the plane, on the lists
of nodes that are used in practice. The picture of a mixture being sampled and the sheet of one
prompt by several solvers are made in the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import cos, log2, pi, sin
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.exact import Mixture, solve
from benchmarks.solver_orders import NOISY, ODE, error, variance_error
from diptych.diffusion.adaptive import Flow, sample
from diptych.diffusion.kernel import begin, step
from diptych.diffusion.noise import first_noise, step_noise
from diptych.diffusion.paths import FlowPath, Node, scaled_linear_betas, vp_of_betas
from diptych.diffusion.paths import Path as NoisePath
from diptych.diffusion.solvers import ALIASES, SOLVERS, table_of
from diptych.diffusion.spacings import SPACINGS, nodes_of
from diptych.foundation.errors import InvalidValue
from diptych.foundation.files import write_whole, write_with

DOCS = Path(__file__).parents[1] / "docs"
PROMPT = "a large red circle above a small blue square"
BUDGETS = (6, 12, 24, 48)
GRID_SOLVERS = ("euler", "dpmpp-2m", "unipc", "heun", "euler-ancestral", "dpmpp-2m-sde")
GRID_STEPS = (2, 4, 6, 8, 12, 20)
SHOWN = {
    "euler": "#7f7f7f", "heun": "#8c564b", "dpmpp-2m": "#1f77b4", "unipc": "#d62728",
    "unipc-3": "#ff9896", "exp-ab3": "#2ca02c", "deis-3": "#9467bd", "rk4": "#e6a000",
}  # fmt: skip


def ring() -> Mixture:
    """Five Gaussians on a circle of radius 1.5, the second as wide as the others are narrow."""
    places = [(1.5 * cos(2 * pi * k / 5 + 0.3), 1.5 * sin(2 * pi * k / 5 + 0.3)) for k in range(5)]
    widths = [0.04, 0.16, 0.04, 0.04, 0.09]
    return Mixture(
        torch.tensor([0.25, 0.15, 0.2, 0.25, 0.15], dtype=torch.float64),
        torch.tensor(places, dtype=torch.float64),
        torch.tensor(widths, dtype=torch.float64)[:, None].expand(5, 2),
    )


DATA = ring()


@dataclass(frozen=True)
class Setting:
    """A path and a list of nodes as they are used."""

    title: str
    path: NoisePath
    prediction: str
    spacing: str
    options: tuple[tuple[str, float], ...] = ()

    def nodes(self, steps: int) -> list[Node]:
        return nodes_of(self.spacing, self.path, steps, **dict(self.options))


SETTINGS = {
    "flow": Setting("flow, even times, shift 3", FlowPath(), "velocity", "trailing",
                    (("shift", 3.0),)),
    "karras": Setting("SD path, Karras list", vp_of_betas(scaled_linear_betas()), "eps", "karras"),
    "trailing": Setting("SD path, trailing", vp_of_betas(scaled_linear_betas()), "eps", "trailing"),
}  # fmt: skip


@cache
def exact_end(name: str) -> tuple[Tensor, Tensor]:
    """64 starts and where the probability flow carries them."""
    setting = SETTINGS[name]
    nodes = setting.nodes(4)
    x = first_noise(range(64), (2,), "philox").double() * nodes[0].sigma
    flow = Flow(lambda x, node: DATA.says(setting.prediction, x, node), setting.prediction,
                setting.path, rtol=1e-9, atol=1e-9)  # fmt: skip
    return x, sample(flow, x, nodes[0], nodes[-1])[0]


@cache
def missed(solver: str, setting: str, evaluations: int) -> float | None:
    """Root mean square distance from the exact end; None where it is not offered."""
    by = SETTINGS[setting]
    x, wanted = exact_end(setting)
    steps = max(1, evaluations // SOLVERS[solver].evaluations)
    try:
        table = table_of(solver, by.path, by.nodes(steps), by.prediction)
    except InvalidValue:
        return None
    end = solve(DATA, table, by.prediction, x)
    return float((end - wanted).square().sum(1).mean().sqrt())


def draw_errors(path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9), sharey=True, layout="constrained")
    counts = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
    for place, (name, setting) in zip(axes, SETTINGS.items(), strict=True):
        for solver, color in SHOWN.items():
            found = [(n, missed(solver, name, n)) for n in counts]
            known = [(n, value) for n, value in found if value is not None]
            if known:
                place.loglog(*zip(*known, strict=True), "o-", ms=3, lw=1.4, color=color,
                             label=solver)  # fmt: skip
        place.set_title(setting.title, fontsize=10)
        place.set_xlabel("evaluations of the network")
        place.set_xticks((4, 8, 16, 32, 64), ("4", "8", "16", "32", "64"))
        place.minorticks_off()
        place.grid(alpha=0.25)
        place.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("distance from the exact end")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=8,
                  frameon=False, fontsize=9)  # fmt: skip
    write_with(path, lambda part: figure.savefig(part, format="png", dpi=110))
    plt.close(figure)


def draw_mixture(path: Path, frames: int = 14) -> None:
    """Noise becomes the ring, by three solvers with as many evaluations each."""
    import matplotlib.pyplot as plt
    from PIL import Image

    solvers = {"euler": "first order", "unipc": "third order", "euler-ancestral": "with noise"}
    setting, count = SETTINGS["karras"], 500
    nodes = setting.nodes(frames)
    ways = {name: way(name, setting, nodes, count) for name in solvers}
    span = np.linspace(-3, 3, 120)
    places = torch.from_numpy(np.stack(np.meshgrid(span, span), -1).reshape(-1, 2))
    pictures = []
    for i, node in enumerate(nodes):
        figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.75), dpi=80, layout="constrained")
        # Both shown at a spread that does not grow with the noise.
        width = (1.5**2 * node.alpha**2 + node.sigma**2) ** 0.5 / 1.5
        density = DATA.log_density(places * width, node).exp().reshape(120, 120)
        for place, (name, line) in zip(axes, solvers.items(), strict=True):
            x = (ways[name][i] / width).numpy()
            place.imshow(density, extent=(-3, 3, -3, 3), origin="lower", cmap="Blues",
                         vmax=float(density.max()) * 1.6)  # fmt: skip
            place.scatter(*x.T, s=5, color="#d9480f", alpha=0.6, lw=0)
            place.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
            place.set_title(f"{name}, {line}", fontsize=9)
            place.spines[:].set_visible(False)
        figure.supxlabel(f"{i} of {frames} steps,  sigma / alpha = {node.rho:.2f}", fontsize=9)
        figure.canvas.draw()
        shown = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
        pictures.append(shown)
        plt.close(figure)
    # One palette for all, without dots: still places stay still.
    strip = np.concatenate([np.asarray(one) for one in pictures[:: max(1, frames // 4)]])
    colors = Image.fromarray(strip).quantize(128)
    pictures = [one.quantize(palette=colors, dither=Image.Dither.NONE) for one in pictures]
    stay = [300] * len(pictures)
    stay[0], stay[-1] = 900, 2500
    write_with(path, lambda part: pictures[0].save(
        part, format="GIF", save_all=True, append_images=pictures[1:], duration=stay, loop=0,
        optimize=True))  # fmt: skip


def way(name: str, setting: Setting, nodes: list[Node], count: int) -> list[Tensor]:
    """x at each node, [count, 2]."""
    table = table_of(name, setting.path, nodes, setting.prediction)
    x = first_noise(range(count), (2,), "philox").double() * nodes[0].sigma
    state, shown = begin(x), [x]
    for i, (node, by) in enumerate(zip(table.nodes, table.coefficients(x), strict=True)):
        noise = step_noise(range(count), i, (2,), "philox").double() if by.noisy else None
        state = step(state, DATA.says(setting.prediction, state.x, node), by, noise)
        if table.after[i] is not None:
            shown.append(state.x)
    return shown


def draw_sheet(path: Path) -> None:
    """One prompt and seed by several solvers (rows) and numbers of steps (columns)."""
    from diptych.imaging.sheet import write_sheet
    from diptych.pipelines.painter_front import TextToImage

    model = TextToImage.load("scenes-t2i")
    pictures, captions = [], []
    for solver in GRID_SOLVERS:
        for steps in GRID_STEPS:
            picture = model(PROMPT, seed=1, steps=steps, solver=solver)
            pictures.append(np.asarray(picture))
            captions.append(f"{solver}, {steps} steps")
    write_sheet(pictures, captions, None, path, columns=len(GRID_STEPS))


def orders() -> str:
    """The table of all solvers."""
    lines = ["| name | order | measured | asks a step | what it is |", "|---|---|---|---|---|"]
    for name, solver in SOLVERS.items():
        measured = "" if not solver.order else f"{measured_order(name):.2f}"
        stated = str(solver.order or "")
        lines.append(f"| `{name}` | {stated} | {measured} | {solver.evaluations} | {solver.line} |")
    return "\n".join(lines)


def measured_order(name: str) -> float:
    measure = variance_error if name in NOISY else error
    return log2(measure(name, 256) / measure(name, 512))


def errors(setting: str) -> str:
    """Distances at equal numbers of evaluations, the best of each column in bold."""
    rows = {name: [missed(name, setting, n) for n in BUDGETS] for name in ODE if name != "ddim"}
    rows = {name: found for name, found in rows.items() if None not in found}
    best = [min(values) for values in zip(*rows.values(), strict=True)]
    head = [f"| solver | {' | '.join(map(str, BUDGETS))} |", "|---" * (len(BUDGETS) + 1) + "|"]
    return "\n".join(head + [
        f"| `{name}` | " + " | ".join(
            f"**{value:.1e}**" if value == least else f"{value:.1e}"
            for value, least in zip(found, best, strict=True)) + " |"
        for name, found in rows.items()
    ])  # fmt: skip


def page() -> str:
    template = (Path(__file__).with_name("solvers_page.md")).read_text()
    parts = {
        "ORDERS": orders(),
        "FLOW": errors("flow"),
        "KARRAS": errors("karras"),
        "TRAILING": errors("trailing"),
        "ALIASES": ", ".join(f"`{a}` is `{name}`" for a, name in sorted(ALIASES.items())),
        "SPACINGS": "\n".join(f"| `{name}` | {one.line} |" for name, one in SPACINGS.items()),
        "PROMPT": PROMPT,
    }
    for name, text in parts.items():
        template = template.replace("{" + name + "}", text)
    return template


def main() -> None:
    pictures = DOCS / "pictures"
    draw_errors(pictures / "solver_errors.png")
    draw_mixture(pictures / "mixture.gif")
    draw_sheet(pictures / "solver_sheet.png")
    write_whole(DOCS / "solvers.md", page())


if __name__ == "__main__":
    main()
