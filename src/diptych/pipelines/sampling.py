"""How pictures are sampled, as a request says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from diptych.checkpoints.presets import Preset
from diptych.diffusion.kernel import Table
from diptych.diffusion.noise import SOURCES
from diptych.diffusion.paths import FlowPath, Path
from diptych.diffusion.solvers import solver_named, table_of
from diptych.diffusion.spacings import MOST_STEPS, nodes_of, options_of
from diptych.foundation.errors import InvalidValue, unknown
from diptych.pipelines.editing import between, from_strength

FLOW = FlowPath()


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a picture is sampled: what a model's card recommends and a request may change.

    `solver` is one of `diffusion.solvers.SOLVERS`, some ask the network more than once a step;
    `spacing` one of `diffusion.spacings.SPACINGS`; `shift` a flow's, None for other paths;
    `noise` one of `diffusion.noise.SOURCES`; `strength` the share of the steps that are made,
    from a picture that is given; `image_guidance` how much a picture to be edited counts, where
    the network is shown one; `true_guidance` how hard a network that is told its guidance is kept
    away from a negative prompt as well, in a second pass, 1 for not; `part`: the share of the way
    that is made, from where to where, as a base and its refiner part it. Raises InvalidValue for
    values that mean nothing, NotFound for an unknown name; what does not go with a path is refused
    by `table`.
    """

    steps: int = 20
    guidance: float = 3.0
    shift: float | None = 3.0
    solver: str = "euler"
    spacing: str = "trailing"
    noise: str = "torch"
    strength: float = 1.0
    image_guidance: float = 1.5
    true_guidance: float = 1.0
    part: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        solver_named(self.solver)
        options_of(self.spacing)
        if not 1 <= self.steps <= MOST_STEPS:
            raise InvalidValue(
                f"{self.steps} steps are not offered.", do=f"Choose 1 to {MOST_STEPS}."
            )
        for guidance in (self.guidance, self.image_guidance, self.true_guidance):
            if not 0 <= guidance <= 30:
                raise InvalidValue(
                    f"A guidance of {guidance} is not offered.", do="Choose 0 to 30."
                )
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise InvalidValue(
                f"{self.part} is no part of the way.", do="Say from where to where in 0 to 1."
            )
        if self.noise not in SOURCES:
            raise unknown("source of noise", self.noise, SOURCES)

    def table(
        self,
        path: Path = FLOW,
        prediction: str = "velocity",
        options: Mapping[str, object] = MappingProxyType({}),
    ) -> Table:
        """The solver's coefficients from noise to picture; `options` are the spacing's. Raises
        InvalidValue for what does not go together."""
        shifts = self.shift is not None and "shift" in options_of(self.spacing)
        shift = {"shift": self.shift} if shifts else {}
        nodes = nodes_of(self.spacing, path, self.steps, **options, **shift)
        nodes = between(from_strength(nodes, self.strength), path, self.part)
        return table_of(self.solver, path, nodes, prediction)


def scheduled(sampling: Sampling, preset: Preset, prediction: str) -> Table:
    """The table of a family with a schedule of its own. Raises InvalidValue for a shift where
    there is none."""
    if sampling.shift is not None and preset.shift is None:
        raise InvalidValue(
            f"A shift of {sampling.shift:g} means something on a flow only.", do="Leave it out."
        )
    options = preset.spacing_options if sampling.spacing == preset.spacing else {}
    return sampling.table(preset.path, prediction, options)
