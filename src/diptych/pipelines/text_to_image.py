"""Words become a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from diptych.diffusion import kernel
from diptych.diffusion.guidance import Guidance, guided
from diptych.diffusion.kernel import Table
from diptych.diffusion.noise import first_noise, step_noise
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress, Report, silent
from diptych.pipelines.editing import held, noised
from diptych.pipelines.painting import Asked, Begin, Painting, Request
from diptych.pipelines.sampling import Sampling


class Held(NamedTuple):
    """What is put back after every step where `mask` [1, 1, h, w] is 0: latents [1, C, h, w],
    with noise [B, C, h, w]."""

    known: Tensor
    mask: Tensor
    noise: Tensor


@dataclass(frozen=True)
class PaintState:
    """A batch of pictures on its way: latents [B, C, h, w] float32, whatever the networks compute
    in. `told`: what the network is told of each. `momentum`: what APG keeps. `step` counts
    evaluations."""

    solving: kernel.State
    told: tuple[Any, ...]
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


def prepare(networks: Painting, request: Request) -> PaintState:
    """Words and first noise. Raises InvalidValue for a prompt, a size or a picture to begin from
    that the model cannot take."""
    sampling, begin = request.sampling, request.begin
    shape = networks.latent_shape(*request.size)
    table, told = networks.table(sampling, shape), tuple(networks.tell(request))
    noise = first_noise(request.seeds, shape, sampling.noise).to(networks.device)
    guidances = (networks.guidance(sampling),) * len(told)
    x, kept = _first(networks, sampling, begin, noise, table.nodes[0])
    return PaintState(
        kernel.begin(x), told, tuple(request.seeds), guidances, table, sampling.noise, held=kept
    )


def _first(
    networks: Painting, sampling: Sampling, begin: Begin | None, noise: Tensor, node: Node
) -> tuple[Tensor, Held | None]:
    """Latents [B, C, h, w] at the first node, and what is held of them."""
    if begin is not None and begin.under_way is not None:
        if begin.under_way.shape != noise.shape:
            shapes = f"{list(begin.under_way.shape)}, not {list(noise.shape)}"
            raise InvalidValue(f"The latents to go on from are {shapes}.")
        return begin.under_way.to(noise), None
    whole = networks.shown == "inside" and sampling.strength == 1
    if begin is None or networks.shown == "beside" or whole:
        return networks.first(noise, sampling, node), None
    if begin.latent is not None:
        return noised(begin.latent.to(noise), noise, node), None
    if begin.picture is None:
        raise InvalidValue("There is nothing to begin from.", do="Name a picture or latents.")
    known = latent_of(networks, begin.picture)
    x = noised(known, noise, node)
    if begin.mask is None or networks.shown == "inside":
        return x, None
    return x, Held(known, cells_of(begin.mask, x.shape[2]).to(x.device), noise)


def latent_of(networks: Painting, picture: NDArray[np.number]) -> Tensor:
    """[H, W, 3] in 0..255 -> [1, C, h, w] float32"""
    image = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    return networks.encode(image.to(networks.device, networks.dtype)).float()


def cells_of(mask: NDArray[np.bool_], height: int) -> Tensor:
    """[H, W] -> [1, 1, h, w] float32: a cell is painted if any of its pixels is."""
    whole = torch.from_numpy(mask.astype(np.float32))[None, None]
    return max_pool2d(whole, mask.shape[0] // height)


def step(networks: Painting, state: PaintState) -> PaintState:
    """One evaluation for all rows with their guidance, and the solver's step."""
    x, rows, at = state.solving.x, len(state.seeds), state.step
    node, scale = state.table.nodes[at], float(state.table.scale[at])
    share = at / len(state.table), (at + 1) / len(state.table)

    def ask(x: Tensor, of: list[int], passes: list[str]) -> Tensor:
        seen = x if scale == 1 else x * scale
        times = x.new_full((len(x),), node.time)
        asked = [Asked(state.told[row], name, *share) for row, name in zip(of, passes, strict=True)]
        return networks.ask(seen.to(networks.dtype), times, asked)

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
def paint(networks: Painting, request: Request, report: Report = silent) -> NDArray[np.uint8]:
    """The whole road: prompts and seeds to pictures [B, H, W, 3] uint8."""
    begin = request.begin
    pictures = finish(networks, on_the_way(networks, request, report))
    if begin is not None and begin.mask is not None and begin.picture is not None:
        pictures = np.where(begin.mask[None, :, :, None], pictures, begin.picture[None])
    return pictures


@torch.inference_mode()
def on_the_way(networks: Painting, request: Request, report: Report = silent) -> PaintState:
    """All steps of a request, without its pictures."""
    state = prepare(networks, request)
    while not state.done:
        state = step(networks, state)
        report(Progress(state.step, len(state.table)))
    return state
