"""What painting needs of a model, whatever its family, and what is asked of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diptych.adapters.adapter import Weighted
from diptych.diffusion.guidance import Guidance
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.nn.reuse import Approximation
from diptych.pipelines.conditioning import Reading
from diptych.pipelines.looking import Consistent, HiDiffusion
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.steering import Control, ImagePrompt


@dataclass(frozen=True, eq=False, kw_only=True)
class Begin:
    """What painting begins from: a `picture` [H, W, 3] uint8, with a `mask` [H, W] bool, true where
    it is painted anew (None: everywhere; elsewhere it stays to the pixel); or a clean `latent`
    [B or 1, C, h, w] that noise is added to; or latents `under_way` [B, C, h, w], which stand at
    the first node already."""

    picture: NDArray[np.uint8] | None = None
    mask: NDArray[np.bool_] | None = None
    latent: Tensor | None = None
    under_way: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Extras:
    """What pictures are made of besides words, one for all of a call, but for `loras`: the
    adapters of each picture, empty for none at all. `approximation`: by which they are painted
    faster, and are others. `hidiffusion` and `consistent`: how they look at themselves and at one
    another."""

    controls: tuple[Control, ...] = ()
    image_prompts: tuple[ImagePrompt, ...] = ()
    reading: Reading = field(default_factory=Reading)
    loras: tuple[Weighted, ...] = ()
    approximation: Approximation | None = None
    hidiffusion: HiDiffusion | None = None
    consistent: Consistent | None = None

    def only(self, *taken: str) -> None:
        """Raises InvalidValue for what is given and not among the names that a model takes."""
        plain = Extras()
        for name in (one.name for one in fields(self) if one.name not in taken):
            if getattr(self, name) != getattr(plain, name):
                raise InvalidValue(f"This model takes no {name}.", do="Leave them out.")


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Pictures that are asked for in one call: prompts and as many seeds; `size` is width and
    height, 0 for the model's own."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    sampling: Sampling
    negative_prompt: str = ""
    size: tuple[int, int] = (0, 0)
    begin: Begin | None = None
    extras: Extras = field(default_factory=Extras)


class Asked(NamedTuple):
    """One evaluation of the network: what it is `told`, for which pass of guidance, the shares of
    the way that have `gone` before its step and `then`, 0 at noise, its `number`, and what a
    picture has `kept` for it of the step before, by pass: the network takes it from there and puts
    there what the next step is given."""

    told: Any
    name: str
    gone: float
    then: float
    number: int
    kept: dict[str, Any]


def in_groups(
    key: Callable[[Asked], Hashable],
    answer: Callable[[Tensor, Tensor, Sequence[Asked]], Tensor],
    x: Tensor,
    times: Tensor,
    asked: Sequence[Asked],
) -> Tensor:
    """A call of `answer` for the evaluations of each key, x [E, ...] -> [E, ...]."""
    found: dict[Hashable, list[int]] = {}
    for i, one in enumerate(asked):
        found.setdefault(key(one), []).append(i)
    if len(found) == 1:
        return answer(x, times, asked)
    out: Tensor | None = None
    for at in found.values():
        said = answer(x[at], times[at], [asked[i] for i in at])
        out = said.new_empty((len(x), *said.shape[1:])) if out is None else out
        out[at] = said
    return x if out is None else out


def sides_of(
    width: int, height: int, own: tuple[int, int], step: int, most: int
) -> tuple[int, int]:
    """Width and height, 0 standing for the model's own. Raises InvalidValue for a side that is no
    multiple of `step` up to `most`."""
    sides = (width or own[0], height or own[1])
    if any(side % step or not step <= side <= most for side in sides):
        raise InvalidValue(
            f"{sides[0]} x {sides[1]} is not offered.",
            do=f"Choose multiples of {step} up to {most}; {own[0]} x {own[1]} is this model's own.",
        )
    return sides


class Networks(ABC):
    """What all families do alike with their networks."""

    @abstractmethod
    def modules(self) -> list[nn.Module]:
        """All networks, the one that paints first."""

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return next(self.modules()[0].parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.modules()[0].parameters()).device

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the networks, in place."""
        for network in self.modules():
            network.to(device, dtype)

    @property
    def reads(self) -> str:
        """What a prompt is to the model: `words`, `classes`, of which one is named, or `nothing`,
        and then it is empty."""
        return "words"

    @property
    def true_guided(self) -> bool:
        """Whether a second pass is asked for by `Sampling.true_guidance`."""
        return False


class Painting(Protocol):
    """Networks in evaluation mode, on one device, of one dtype."""

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

    @property
    def shown(self) -> str:
        """How the network is shown a picture to begin from: not at all, ``, and it is noised;
        `inside`, with the part to be painted cut out; `beside`, whole, for an instruction."""
        ...

    @property
    def reads(self) -> str:
        """What a prompt is to the model: `words`, `classes`, of which one is named, or `nothing`,
        and then it is empty."""
        ...

    @property
    def true_guided(self) -> bool:
        """Whether a second pass is asked for by `Sampling.true_guidance`."""
        ...

    def modules(self) -> Sequence[nn.Module]:
        """All networks."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the networks, in place."""
        ...

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """[C, h, w]. Raises InvalidValue for a size that the model cannot paint."""
        ...

    def tell(self, request: Request) -> Sequence[Any]:
        """All that the network is told of each picture, once for all steps. Raises InvalidValue
        for what the model cannot read or take."""
        ...

    def table(self, sampling: Sampling, shape: tuple[int, ...]) -> Table:
        """The coefficients for latents of a shape. Raises InvalidValue."""
        ...

    def guidance(self, sampling: Sampling) -> Guidance:
        """How the family is guided by the numbers of a request."""
        ...

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        """Standard normal noise as the family begins with it at the first node."""
        ...

    def key(self, one: Asked) -> Hashable:
        """Evaluations of one key may share a call of the network."""
        ...

    def part(self, told: Any, top: int, left: int, height: int, width: int) -> Any:
        """What is told of a window of the latent's cells. Raises InvalidValue where what is
        told cannot be cut."""
        ...

    def ask(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        """x [E, C, h, w], times [E] -> [E, C, h, w], of any keys"""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> latent [B, C, h, w]"""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """latent [B, C, h, w] -> image [B, 3, H, W], about -1..1"""
        ...
