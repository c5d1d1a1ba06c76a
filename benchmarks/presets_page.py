"""Writes docs/presets.md: how families of models are sampled, and where each value was read.

python -m benchmarks.presets_page
"""

from __future__ import annotations

from pathlib import Path

from diptych.checkpoints.presets import PRESETS
from diptych.checkpoints.presets.preset import Preset
from diptych.diffusion import paths

PAGE = Path(__file__).parents[1] / "docs" / "presets.md"
SCHEDULES = {
    paths.vp_of_betas(paths.scaled_linear_betas()): "VP, scaled linear",
    paths.vp_of_betas(paths.linear_betas()): "VP, linear",
}
OPENING = """# Model families

How a published family of models is sampled stands as data in `diptych.checkpoints.presets`: the \
path from noise to data, what the network says, the list of times, the solver, steps and guidance. \
The values are the publishers' where they could be read, else those of diffusers; the sources \
below say which. The networks of these families are not all here yet: \
[Published models](checkpoints.md).

```python run
from diptych.checkpoints.presets import for_family

preset = for_family("flux-dev")
table = preset.table(20, tokens=64 * 64)
print(preset.embedded, table.times[:3])
```

This page is written by a command, and a test holds it to the data:

```bash shown
python -m benchmarks.presets_page
```

Of steps the recommended number is given, in brackets what is offered where that is little. \
Guidance that the network is told is an input of it, not a second pass.

"""
HEADS = ("family", "path", "the network says", "times", "solver", "steps", "guidance")


def page() -> str:
    """The whole document."""
    rows = [HEADS, tuple("---" for _ in HEADS), *(_row(*item) for item in PRESETS.items())]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{OPENING}{table}\n## Sources\n{''.join(_sources(*item) for item in PRESETS.items())}"


def _row(name: str, preset: Preset) -> tuple[str, ...]:
    says = f"{'-' if preset.sign == -1 else ''}{preset.prediction}"
    cells = (_path(preset.path), says, _times(preset), _solver(preset), _steps(preset))
    return (f"`{name}`", *cells, _guidance(preset))


def _path(path: paths.Path) -> str:
    if isinstance(path, paths.VariancePreserving):
        return SCHEDULES[path]
    if not isinstance(path, paths.FlowPath):
        return "VE"
    scale = f"{path.time_scale:g} " if path.time_scale != 1 else ""
    return f"flow, told {scale}{'(1 - t)' if path.reversed else 't'}"


def _times(preset: Preset) -> str:
    if not isinstance(preset.spacing, str):
        return preset.spacing.__name__.replace("_", " ")
    parts = [preset.spacing, *(f"{key} {value}" for key, value in preset.spacing_options.items())]
    if preset.shift is not None:
        parts.append("shift by size" if callable(preset.shift) else f"shift {preset.shift:g}")
    return ", ".join(parts)


def _solver(preset: Preset) -> str:
    options = (f"{key} {value}" for key, value in preset.solver_options.items())
    return ", ".join([f"`{preset.solver}`", *options])


def _steps(preset: Preset) -> str:
    """With what is offered, where that is not nearly every number."""
    few = preset.offered
    if few[-1] > 500:
        return str(preset.steps)
    told = f"{few[0]} to {few[-1]}" if isinstance(few, range) else ", ".join(map(str, few))
    return f"{preset.steps} ({told})"


def _guidance(preset: Preset) -> str:
    scale = "none" if preset.guidance == 1 else f"{preset.guidance:g}"
    return scale if preset.embedded is None else f"{scale}, told {preset.embedded:g}"


def _sources(name: str, preset: Preset) -> str:
    """One line a source, with all that was read there."""
    by_source: dict[str, list[str]] = {}
    for field, source in preset.sources.items():
        by_source.setdefault(source, []).append(field.replace("_", " "))
    lines = "".join(f"- {', '.join(found)}: {source}.\n" for source, found in by_source.items())
    return f"\n### `{name}`\n\n{preset.note + chr(10) * 2 if preset.note else ''}{lines}"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.name}: {len(PRESETS)} families")
