"""Words become a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
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
from diptych.diffusion.predictions import to_x0
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
    evaluations. `x0`: what the pictures were held to be in the last of them, where it is kept.
    `kept`: what the network has of each picture for the next evaluation, by pass of guidance,
    empty before the first and where nothing is used again."""

    solving: kernel.State
    told: tuple[Any, ...]
    seeds: tuple[int, ...]
    guidances: tuple[Guidance, ...]
    table: Table
    noise: str = "torch"
    momentum: Tensor | None = None
    held: Held | None = None
    step: int = 0
    x0: Tensor | None = None
    kept: tuple[Mapping[str, Any], ...] = ()

    @property
    def done(self) -> bool:
        """Whether the latents are the picture's."""
        return self.step == len(self.table)


def prepare(networks: Painting, request: Request) -> PaintState:
    """Words and first noise. Raises InvalidValue for a prompt, a size or a picture to begin from
    that the model cannot take."""
    sampling, begin = request.sampling, request.begin
    if sampling.true_guidance != 1 and not networks.true_guided:
        raise InvalidValue(
            "A true guidance is for models that are told their guidance, as FLUX is.",
            do="Leave it out: guidance is this model's own.",
        )
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


# x [E, ...], times [E], what is asked and by which of several states -> what is said [E, ...]
Call = Callable[[Tensor, Tensor, Sequence[Asked], Sequence[int]], Tensor]


@dataclass(frozen=True, eq=False)
class Way:
    """How the networks are used: `call` asks the painter, `decode` a latent [B, C, h, w] to
    [B, 3, H, W]; None for plainly. `watch` sees every state and what the picture is then held to
    be, x0 [B, C, h, w]; an error that it raises ends the painting."""

    call: Call | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    watch: Callable[[PaintState, Tensor], None] | None = None


PLAIN = Way()


def step(networks: Painting, state: PaintState, way: Way = PLAIN) -> PaintState:
    """One evaluation for all rows with their guidance, and the solver's step."""
    (moved,) = together(networks, [state], way.call, keeps=way.watch is not None)
    if way.watch is not None and moved.x0 is not None:
        way.watch(moved, moved.x0)
    return moved


def together(
    networks: Painting, states: Sequence[PaintState], call: Call | None = None, *,
    keeps: bool = False,
) -> list[PaintState]:  # fmt: skip
    """A step of several requests of one latent shape, each at its own place of its own table, in
    one asking of the network; `call` may part it. A row's step is what it is alone, as far as the
    network's own rows are. `keeps`: what the pictures are held to be is kept as `x0`."""
    owners = [k for k, state in enumerate(states) for _ in state.seeds]
    rows = [states[k] for k in owners]
    alone = len(states) == 1
    solving = states[0].solving if alone else kernel.joined([state.solving for state in states])
    nodes = [row.table.nodes[row.step] for row in rows]
    told = [one for state in states for one in state.told]
    scales = [float(row.table.scale[row.step]) for row in rows]
    shares = [(r.step / len(r.table), (r.step + 1) / len(r.table)) for r in rows]
    # This step's own copies, which the network writes to.
    kept = [dict(one) for state in states for one in state.kept or [{}] * len(state.seeds)]

    def ask(x: Tensor, of: list[int], passes: list[str]) -> Tensor:
        seen = x if all(scales[row] == 1 for row in of) else x * _column(scales, of, x)
        times = x.new_tensor([nodes[row].time for row in of])
        asked = [
            Asked(told[row], name, *shares[row], rows[row].step, kept[row])
            for row, name in zip(of, passes, strict=True)
        ]
        seen = seen.to(networks.dtype)
        if call is None:
            return networks.ask(seen, times, asked)
        return call(seen, times, asked, [owners[row] for row in of])

    said, momentum = guided(
        ask, solving.x, [one for state in states for one in state.guidances], nodes,
        networks.prediction, [row.step for row in rows], _momentum(states),
    )  # fmt: skip
    places = [state.table.rows[state.step] for state in (states if alone else rows)]
    by = kernel.coefficients(np.stack(places), solving.x)
    moved = kernel.step(solving, said, by, _fresh(states))
    parted = _parted(states, moved, momentum, kept)
    if not keeps:
        return parted
    pairs = [to_x0(networks.prediction, node) for node in nodes]
    every = range(len(pairs))
    p, q = (_column([pair[k] for pair in pairs], every, said) for k in (0, 1))
    x0 = (p * solving.x + q * said).split([len(state.seeds) for state in states])
    return [replace(state, x0=part) for state, part in zip(parted, x0, strict=True)]


def _column(numbers: Sequence[float], rows: Sequence[int], like: Tensor) -> Tensor:
    """[E, 1, 1, 1]"""
    return like.new_tensor([numbers[row] for row in rows]).view(-1, *[1] * (like.ndim - 1))


def _momentum(states: Sequence[PaintState]) -> Tensor | None:
    if all(state.momentum is None for state in states):
        return None
    kept = [torch.zeros_like(s.solving.x) if s.momentum is None else s.momentum for s in states]
    return torch.cat(kept)


def _fresh(states: Sequence[PaintState]) -> Tensor | None:
    """The noise of this step, zeros for those who add none."""
    if not any(state.table.noisy[state.step] for state in states):
        return None
    parts: list[Tensor] = []
    for state in states:
        x = state.solving.x
        if state.table.noisy[state.step]:
            drawn = step_noise(state.seeds, state.step, tuple(x.shape[1:]), state.noise)
            parts.append(drawn.to(x.device))
        else:
            parts.append(torch.zeros_like(x))
    return torch.cat(parts)


def _parted(
    states: Sequence[PaintState],
    moved: kernel.State,
    momentum: Tensor | None,
    every: Sequence[Mapping[str, Any]],
) -> list[PaintState]:
    """Every request's own rows again, with what it holds put back."""
    counts, rest = [len(state.seeds) for state in states], iter(every)
    base, x = moved.base.split(counts), moved.x.split(counts)
    stored = list(zip(*(slot.split(counts) for slot in moved.stored), strict=True))
    kept = [None] * len(states) if momentum is None else momentum.split(counts)
    parted: list[PaintState] = []
    for k, state in enumerate(states):
        solving = kernel.State(base[k], x[k], stored[k] if stored else ())
        if state.held is not None:
            known, mask, first = state.held
            after = [state.table.after[state.step]] * counts[k]
            solving = held(solving, known, mask, first, after)
        own = tuple(islice(rest, counts[k]))
        parted.append(
            replace(state, solving=solving, momentum=kept[k], step=state.step + 1, kept=own)
        )
    return parted


def finish(networks: Painting, state: PaintState, way: Way = PLAIN) -> NDArray[np.uint8]:
    """Latents to pictures [B, H, W, 3] uint8. Raises ValueError for a latent that is not finite."""
    x = state.solving.x
    if not torch.isfinite(x).all():
        raise ValueError("the latent is not finite: the weights or the sampling are broken")
    image = (way.decode or networks.decode)(x.to(networks.dtype)).float().clamp(-1, 1)
    return ((image + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.inference_mode()
def paint(
    networks: Painting, request: Request, report: Report = silent, way: Way = PLAIN
) -> NDArray[np.uint8]:
    """The whole road: prompts and seeds to pictures [B, H, W, 3] uint8."""
    state = on_the_way(networks, request, report, way)
    return restored(finish(networks, state, way), request.begin)


def restored(pictures: NDArray[np.uint8], begin: Begin | None) -> NDArray[np.uint8]:
    """The pictures [B, H, W, 3] with what a mask holds put back to the pixel."""
    if begin is None or begin.mask is None or begin.picture is None:
        return pictures
    return np.where(begin.mask[None, :, :, None], pictures, begin.picture[None])


@torch.inference_mode()
def on_the_way(
    networks: Painting, request: Request, report: Report = silent, way: Way = PLAIN
) -> PaintState:
    """All steps of a request, without its pictures."""
    state = prepare(networks, request)
    while not state.done:
        state = step(networks, state, way)
        report(Progress(state.step, len(state.table)))
    return state
