"""Words become a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.diffusion.flow import euler_step, flow_nodes
from diptych.diffusion.guidance import guided
from diptych.diffusion.noise import first_noise
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress, Report, silent
from diptych.models.autoencoder_kl import AutoencoderKL
from diptych.models.painter import Painter
from diptych.text.word_tokenizer import WordTokenizer


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a picture is sampled: what a model's card recommends and a request may change.

    Raises InvalidValue for values that mean nothing.
    """

    steps: int = 20
    guidance: float = 3.0
    shift: float = 3.0

    def __post_init__(self) -> None:
        flow_nodes(self.steps, self.shift)
        if not 0 <= self.guidance <= 30:
            raise InvalidValue(
                f"A guidance of {self.guidance} is not offered.", do="Choose 0 to 30."
            )


@dataclass(frozen=True)
class PaintState:
    """A batch of pictures on its way: x [B, C, h, w] float32, whatever the networks compute in;
    words and empty words beside each other."""

    x: Tensor
    tokens: Tensor
    mask: Tensor
    sampling: Sampling
    step: int = 0


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
    x = first_noise(seeds, shape).to(device)
    return PaintState(x, tokens, tokens != tokenizer.pad, sampling)


def step(networks: TextToImageNetworks, state: PaintState) -> PaintState:
    """One Euler step with classifier-free guidance."""
    nodes = flow_nodes(state.sampling.steps, state.sampling.shift)
    now, following = nodes[state.step], nodes[state.step + 1]
    x, rows = state.x, len(state.x)
    alone = state.sampling.guidance == 1
    tokens, mask = (state.tokens[:rows], state.mask[:rows]) if alone else (state.tokens, state.mask)
    asked = x if alone else torch.cat([x, x])
    t = asked.new_full((len(asked),), now)
    velocity = networks.painter(asked.to(networks.dtype), t, tokens, mask)[0].float()
    if not alone:
        velocity = guided(velocity[rows:], velocity[:rows], state.sampling.guidance)
    return replace(state, x=euler_step(x, velocity, now, following), step=state.step + 1)


def finish(networks: TextToImageNetworks, state: PaintState) -> NDArray[np.uint8]:
    """Latents to pictures [B, H, W, 3] uint8. Raises ValueError for a latent that is not finite."""
    if not torch.isfinite(state.x).all():
        raise ValueError("the latent is not finite: the weights or the sampling are broken")
    image = networks.autoencoder.decode(state.x.to(networks.dtype)).float().clamp(-1, 1)
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
    while state.step < sampling.steps:
        state = step(networks, state)
        report(Progress(state.step, sampling.steps))
    return finish(networks, state)
