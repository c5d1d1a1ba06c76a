"""Words become a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from diptych.diffusion import kernel
from diptych.diffusion.guidance import Guidance, classifier_free, guided
from diptych.diffusion.kernel import Table
from diptych.diffusion.noise import SOURCES, first_noise, step_noise
from diptych.diffusion.paths import FlowPath, Node, Path
from diptych.diffusion.solvers import solver_named, table_of
from diptych.diffusion.spacings import MOST_STEPS, nodes_of, options_of
from diptych.foundation.errors import InvalidValue, unknown
from diptych.foundation.progress import Progress, Report, silent
from diptych.pipelines.editing import from_strength, held, noised

FLOW = FlowPath()


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a picture is sampled: what a model's card recommends and a request may change.

    `solver` is one of `diffusion.solvers.SOLVERS`, some ask the network more than once a step;
    `spacing` one of `diffusion.spacings.SPACINGS`; `shift` a flow's, None for other paths;
    `noise` one of `diffusion.noise.SOURCES`; `strength` the share of the steps that are made,
    from a picture that is given. Raises InvalidValue for values that mean nothing, NotFound for
    an unknown name; what does not go with a path is refused by `table`.
    """

    steps: int = 20
    guidance: float = 3.0
    shift: float | None = 3.0
    solver: str = "euler"
    spacing: str = "trailing"
    noise: str = "torch"
    strength: float = 1.0

    def __post_init__(self) -> None:
        solver_named(self.solver)
        options_of(self.spacing)
        if not 1 <= self.steps <= MOST_STEPS:
            raise InvalidValue(
                f"{self.steps} steps are not offered.", do=f"Choose 1 to {MOST_STEPS}."
            )
        if not 0 <= self.guidance <= 30:
            raise InvalidValue(
                f"A guidance of {self.guidance} is not offered.", do="Choose 0 to 30."
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
        nodes = from_strength(nodes, self.strength)
        return table_of(self.solver, path, nodes, prediction)


class Painting(Protocol):
    """What painting needs of a model, whatever its family: networks in evaluation mode, on one
    device, of one dtype."""

    @property
    def prediction(self) -> str: ...

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels where nothing is said."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the networks, in place."""
        ...

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """[C, h, w]. Raises InvalidValue for a size that the model cannot paint."""
        ...

    def words(self, prompts: Sequence[str], negative_prompt: str) -> Any:
        """All that the network is told of the prompts, for `ask`. Raises InvalidValue for a
        prompt that the model cannot read."""
        ...

    def table(self, sampling: Sampling) -> Table:
        """The coefficients of a request. Raises InvalidValue."""
        ...

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        """Standard normal noise as the family begins with it at the first node."""
        ...

    def ask(
        self, words: Any, x: Tensor, times: Tensor, rows: Sequence[int], passes: Sequence[str]
    ) -> Tensor:
        """x [E, C, h, w], times [E], the request and the pass of each evaluation -> [E, C, h, w]"""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> latent [B, C, h, w]"""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """latent [B, C, h, w] -> image [B, 3, H, W], about -1..1"""
        ...


@dataclass(frozen=True, eq=False)
class Begin:
    """A picture to begin from, [H, W, 3] uint8, and where it is painted anew: `mask` [H, W] bool,
    None for everywhere. Elsewhere it stays to the pixel."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None = None


class Held(NamedTuple):
    """What is put back after every step where `mask` [1, 1, h, w] is 0: latents [1, C, h, w],
    with noise [B, C, h, w]."""

    known: Tensor
    mask: Tensor
    noise: Tensor


@dataclass(frozen=True)
class PaintState:
    """A batch of pictures on its way: latents [B, C, h, w] float32, whatever the networks compute
    in. `words`: what the network is told. `momentum`: what APG keeps. `step` counts evaluations."""

    solving: kernel.State
    words: Any
    seeds: tuple[int, ...]
    guidances: tuple[Guidance, ...]
    table: Table
    noise: str = "torch"
    momentum: Tensor | None = None
    held: Held | None = None
    step: int = 0

    @property
    def done(self) -> bool:
        """Whether the latents are the picture's."""
        return self.step == len(self.table)


def prepare(
    networks: Painting,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    negative_prompt: str = "",
    size: tuple[int, int] = (0, 0),
    begin: Begin | None = None,
) -> PaintState:
    """Words and first noise; `size` is width and height, 0 for the model's own. Raises
    InvalidValue for a prompt or size that the model has not."""
    shape = networks.latent_shape(*size)
    table = networks.table(sampling)
    words = networks.words(prompts, negative_prompt)
    noise = first_noise(seeds, shape, sampling.noise).to(networks.device)
    guidances = (classifier_free(sampling.guidance),) * len(prompts)
    held = None
    if begin is None:
        x = networks.first(noise, sampling, table.nodes[0])
    else:
        known = _latent(networks, begin.picture)
        x = noised(known, noise, table.nodes[0])
        held = None if begin.mask is None else Held(known, _cells(begin.mask, x), noise)
    state = kernel.begin(x)
    return PaintState(state, words, tuple(seeds), guidances, table, sampling.noise, held=held)


def _latent(networks: Painting, picture: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3] -> [1, C, h, w] float32"""
    image = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    return networks.encode(image.to(networks.device, networks.dtype)).float()


def _cells(mask: NDArray[np.bool_], like: Tensor) -> Tensor:
    """[H, W] -> [1, 1, h, w] float32: a cell is painted if any of its pixels is."""
    whole = torch.from_numpy(mask.astype(np.float32))[None, None].to(like.device)
    return max_pool2d(whole, mask.shape[0] // like.shape[2])


def step(networks: Painting, state: PaintState) -> PaintState:
    """One evaluation for all rows with their guidance, and the solver's step."""
    x, rows, at = state.solving.x, len(state.seeds), state.step
    node, scale = state.table.nodes[at], float(state.table.scale[at])

    def ask(x: Tensor, of: list[int], passes: list[str]) -> Tensor:
        seen = x if scale == 1 else x * scale
        times = x.new_full((len(x),), node.time)
        return networks.ask(state.words, seen.to(networks.dtype), times, of, passes)

    said, momentum = guided(
        ask, x, state.guidances, [node] * rows, networks.prediction, [at] * rows, state.momentum
    )
    noise = None
    if state.table.noisy[at]:
        noise = step_noise(state.seeds, at, tuple(x.shape[1:]), state.noise).to(x.device)
    by = kernel.coefficients(state.table.rows[at][None], x)
    solving = kernel.step(state.solving, said, by, noise)
    if state.held is not None:
        known, mask, first = state.held
        solving = held(solving, known, mask, first, [state.table.after[at]] * rows)
    return replace(state, solving=solving, momentum=momentum, step=at + 1)


def finish(networks: Painting, state: PaintState) -> NDArray[np.uint8]:
    """Latents to pictures [B, H, W, 3] uint8. Raises ValueError for a latent that is not finite."""
    x = state.solving.x
    if not torch.isfinite(x).all():
        raise ValueError("the latent is not finite: the weights or the sampling are broken")
    image = networks.decode(x.to(networks.dtype)).float().clamp(-1, 1)
    return ((image + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.inference_mode()
def paint(
    networks: Painting,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    negative_prompt: str = "",
    size: tuple[int, int] = (0, 0),
    begin: Begin | None = None,
    report: Report = silent,
) -> NDArray[np.uint8]:
    """The whole road: prompts and seeds to pictures [B, H, W, 3] uint8."""
    state = prepare(networks, prompts, seeds, sampling, negative_prompt, size, begin)
    while not state.done:
        state = step(networks, state)
        report(Progress(state.step, len(state.table)))
    pictures = finish(networks, state)
    if begin is not None and begin.mask is not None:
        pictures = np.where(begin.mask[None, :, :, None], pictures, begin.picture[None])
    return pictures
