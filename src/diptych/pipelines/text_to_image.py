"""Words become a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.diffusion import kernel
from diptych.diffusion.guidance import Guidance, classifier_free, guided
from diptych.diffusion.kernel import Table
from diptych.diffusion.noise import SOURCES, first_noise, step_noise
from diptych.diffusion.paths import FlowPath
from diptych.diffusion.solvers import table_of
from diptych.diffusion.spacings import nodes_of, options_of
from diptych.foundation.errors import InvalidValue, unknown
from diptych.foundation.progress import Progress, Report, silent
from diptych.models.autoencoder_kl import AutoencoderKL
from diptych.models.painter import Painter
from diptych.text.word_tokenizer import WordTokenizer


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a picture is sampled: what a model's card recommends and a request may change.

    `solver` is one of `diffusion.solvers.SOLVERS`, some ask the network more than once a step;
    `spacing` one of `diffusion.spacings.SPACINGS` that a flow has; `noise` one of
    `diffusion.noise.SOURCES`. Raises InvalidValue for values that mean nothing, NotFound for an
    unknown name.
    """

    steps: int = 20
    guidance: float = 3.0
    shift: float = 3.0
    solver: str = "euler"
    spacing: str = "trailing"
    noise: str = "torch"

    def __post_init__(self) -> None:
        self.table()
        if self.noise not in SOURCES:
            raise unknown("source of noise", self.noise, SOURCES)
        if not 0 <= self.guidance <= 30:
            raise InvalidValue(
                f"A guidance of {self.guidance} is not offered.", do="Choose 0 to 30."
            )

    def table(self) -> Table:
        """The solver's coefficients from noise to picture. Raises as above."""
        path = FlowPath()
        shift = {"shift": self.shift} if "shift" in options_of(self.spacing) else {}
        nodes = nodes_of(self.spacing, path, self.steps, **shift)
        return table_of(self.solver, path, nodes, "velocity")


@dataclass(frozen=True)
class PaintState:
    """A batch of pictures on its way: latents [B, C, h, w] float32, whatever the networks compute
    in. `tokens` and `mask` [2 B, L]: words, then what to keep away from. `momentum`: what APG
    keeps. `step` counts evaluations of the network."""

    solving: kernel.State
    tokens: Tensor
    mask: Tensor
    seeds: tuple[int, ...]
    guidances: tuple[Guidance, ...]
    table: Table
    noise: str = "torch"
    momentum: Tensor | None = None
    step: int = 0

    @property
    def done(self) -> bool:
        """Whether the latents are the picture's."""
        return self.step == len(self.table)


@dataclass(frozen=True)
class TextToImageNetworks:
    """What painting needs; in evaluation mode, on one device, of one dtype."""

    painter: Painter
    autoencoder: AutoencoderKL
    tokenizer: WordTokenizer
    latent_size: int

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return next(self.painter.parameters()).dtype


def prepare(
    networks: TextToImageNetworks,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    negative_prompt: str = "",
) -> PaintState:
    """Tokens and first noise. Raises InvalidValue for a prompt the model cannot read."""
    tokenizer, longest = networks.tokenizer, networks.painter.config.text.length
    texts = [*prompts, *[negative_prompt] * len(prompts)]
    ids = [[tokenizer.bos, *tokenizer.check(text, longest - 2), tokenizer.eos] for text in texts]
    # One length for all requests: a row's bits must not depend on its neighbours' words.
    tokens = torch.full((len(ids), longest), tokenizer.pad)
    for row, sentence in enumerate(ids):
        tokens[row, : len(sentence)] = torch.tensor(sentence)
    size = networks.latent_size
    shape = (networks.painter.config.denoiser.latent_channels, size, size)
    device = next(networks.painter.parameters()).device
    tokens = tokens.to(device)
    x = first_noise(seeds, shape, sampling.noise).to(device)
    return PaintState(
        kernel.begin(x),
        tokens,
        tokens != tokenizer.pad,
        tuple(seeds),
        (classifier_free(sampling.guidance),) * len(prompts),
        sampling.table(),
        sampling.noise,
    )


def step(networks: TextToImageNetworks, state: PaintState) -> PaintState:
    """One evaluation for all rows with their guidance, and the solver's step."""
    x, rows, at = state.solving.x, len(state.seeds), state.step
    node = state.table.nodes[at]

    def ask(x: Tensor, of: list[int], passes: list[str]) -> Tensor:
        words = [
            i if name == "conditional" else rows + i for i, name in zip(of, passes, strict=True)
        ]
        t = x.new_full((len(x),), node.time)
        tokens, mask = state.tokens[words], state.mask[words]
        return networks.painter(x.to(networks.dtype), t, tokens, mask)[0]

    velocity, momentum = guided(
        ask, x, state.guidances, [node] * rows, "velocity", [at] * rows, state.momentum
    )
    noise = None
    if state.table.noisy[at]:
        noise = step_noise(state.seeds, at, tuple(x.shape[1:]), state.noise).to(x.device)
    by = kernel.coefficients(state.table.rows[at][None], x)
    solving = kernel.step(state.solving, velocity, by, noise)
    return replace(state, solving=solving, momentum=momentum, step=at + 1)


def finish(networks: TextToImageNetworks, state: PaintState) -> NDArray[np.uint8]:
    """Latents to pictures [B, H, W, 3] uint8. Raises ValueError for a latent that is not finite."""
    x = state.solving.x
    if not torch.isfinite(x).all():
        raise ValueError("the latent is not finite: the weights or the sampling are broken")
    image = networks.autoencoder.decode(x.to(networks.dtype)).float().clamp(-1, 1)
    return ((image + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.inference_mode()
def paint(
    networks: TextToImageNetworks,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    negative_prompt: str = "",
    report: Report = silent,
) -> NDArray[np.uint8]:
    """The whole road: prompts and seeds to pictures [B, H, W, 3] uint8."""
    state = prepare(networks, prompts, seeds, sampling, negative_prompt)
    while not state.done:
        state = step(networks, state)
        report(Progress(state.step, len(state.table)))
    return finish(networks, state)
