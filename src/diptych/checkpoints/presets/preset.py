"""What a preset is: how a family of models is sampled, as data with a source for each value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from diptych.diffusion.kernel import Q, Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.solvers import table_of
from diptych.diffusion.spacings import MOST_STEPS, nodes_of
from diptych.foundation.errors import InvalidValue

ANY = range(1, MOST_STEPS + 1)
ONE_STEP = "one step of a leading list would begin where hardly any noise is left"
# Sources that many presets share.
LEADING = "by arithmetic: the first time of diffusion.spacings.leading"
LIBRARY = "diffusers 0.42.1, "


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a family is sampled. What is not given here is as the path has it.

    `spacing` is a name of `diffusion.spacings.SPACINGS`, or a function (path, steps) -> nodes
    where none of them is the published list; `shift` is that of a flow's times, a number or a
    function (tokens, steps) -> number. `offered` are the step counts that make sense, `limit`
    says why where not all do. `guidance` is the recommended scale, 1 where the network is asked
    once; `embedded` what the network itself is told of guidance. `sign` is what the network's
    word must be multiplied by to be `prediction`; `rounds_time`: the published programs round
    the time to the latent's dtype before the network sees it, which equality with them needs and
    quality does not. `note` is for people; `sources` tells where each other value was read.
    """

    path: Path = field(repr=False)
    prediction: str
    spacing: str | Callable[[Path, int], list[Node]]
    spacing_options: Mapping[str, object] = field(default_factory=dict)
    shift: float | Callable[[int, int], float] | None = None
    solver: str
    solver_options: Mapping[str, object] = field(default_factory=dict)
    steps: int
    offered: Sequence[int] = ANY
    limit: str = ""
    guidance: float
    embedded: float | None = None
    sign: float = 1.0
    rounds_time: bool = False
    note: str = ""
    sources: Mapping[str, str] = field(repr=False)

    def nodes(self, steps: int | None = None, *, tokens: int | None = None) -> list[Node]:
        """Where the network is asked and where the way ends, steps + 1 places, noise first.

        `tokens`: how many the picture is to the network; only some shifts look at it. Raises
        InvalidValue for a number of steps that is not offered, and for `tokens` missing or < 1.
        """
        steps = self.steps if steps is None else steps
        if steps not in self.offered:
            raise InvalidValue(
                f"steps={steps} is not offered{': ' if self.limit else ''}{self.limit}.",
                do=f"Choose {_told(self.offered)}.",
            )
        if not isinstance(self.spacing, str):
            return self.spacing(self.path, steps)
        options = dict(self.spacing_options)
        if self.shift is not None:
            options["shift"] = self._shift_at(tokens, steps)
        return nodes_of(self.spacing, self.path, steps, **options)

    def table(
        self, steps: int | None = None, *, tokens: int | None = None, solver: str | None = None
    ) -> Table:
        """The coefficients over `nodes`, made for the network's own word: `sign` is in them.

        Another `solver` has its own defaults. Raises as `nodes`; NotFound for an unknown solver,
        InvalidValue for one that does not go with the path.
        """
        name = self.solver if solver is None else solver
        options = self.solver_options if name == self.solver else {}
        nodes = self.nodes(steps, tokens=tokens)
        table = table_of(name, self.path, nodes, self.prediction, **options)
        if self.sign == 1:
            return table
        rows = table.rows.copy()
        rows[:, Q] *= self.sign
        return replace(table, rows=rows)

    def _shift_at(self, tokens: int | None, steps: int) -> float | None:
        if not callable(self.shift):
            return self.shift
        if tokens is None or tokens < 1:
            raise InvalidValue(
                f"This family's list of times follows the picture's size, and tokens={tokens}.",
                do="Give tokens=, the number that the picture is to the network.",
            )
        return self.shift(tokens, steps)


def cited(groups: Mapping[str, str]) -> dict[str, str]:
    """Sources by field, from sources by several fields in one string."""
    return {name: source for names, source in groups.items() for name in names.split()}


def _told(steps: Sequence[int]) -> str:
    if isinstance(steps, range):
        return f"{steps[0]} to {steps[-1]}"
    *most, last = map(str, steps)
    return f"{', '.join(most)} or {last}" if most else last
