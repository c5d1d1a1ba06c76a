"""Pictures that a U-Net follows besides words: edges, depth or the like through ControlNets and
T2I-Adapters, and pictures that IP-Adapters read like words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue, NotFound
from diptych.imaging.clip_pictures import clip_image
from diptych.models import controlnet, t2i_adapter
from diptych.models.clip_vision import CLIPVision
from diptych.models.controlnet import ControlNet
from diptych.models.controlnet_union import ControlNetUnion
from diptych.models.ip_adapter import IPAdapter
from diptych.models.t2i_adapter import T2IAdapter
from diptych.models.unet import UNet
from diptych.models.unet_blocks import Attention

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, kw_only=True)
class Control:
    """A `picture` of the painted size, of Pillow or [H, W, 3] uint8, that is followed with a
    `strength`, from the share `start` of the steps to the share `end`. `network`: a ControlNet or
    T2I-Adapter, or the name that one was added by. `kind`: which of its kinds a union of
    ControlNets is shown. `guess`: for prompts that say nothing, the other side of guidance goes
    without. Raises InvalidValue for shares outside 0..1.
    """

    network: nn.Module | str
    picture: Image.Image | Pixels
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    kind: int = 0
    guess: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise InvalidValue(
                f"A control from {self.start} to {self.end} of the steps is never asked.",
                do="Choose 0 to 1, the first below the second.",
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class ImagePrompt:
    """A `picture`, of Pillow or [H, W, 3] uint8, that counts beside the words with a `strength`. It
    is read by `encoder` and `network`, an IP-Adapter or the name that one was added by; for faces
    the `embedding` [W] of the face is given instead."""

    network: IPAdapter | str
    encoder: CLIPVision | None = None
    picture: Image.Image | Pixels | None = None
    embedding: NDArray[np.float32] | None = None
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Steer:
    """A control ready for use: what its network makes of the picture once, [1, ...] each."""

    control: Control
    made: tuple[Tensor, ...]

    def part(self, top: int, left: int, height: int, width: int) -> Steer:
        """The same for a window of cells. Raises InvalidValue for a T2I-Adapter, whose coarse
        features do not part at every cell."""
        if isinstance(self.control.network, T2IAdapter):
            raise InvalidValue(
                "A T2I-Adapter does not steer single windows.", do="Take a ControlNet for tiles."
            )
        hint, kind = self.made
        return Steer(self.control, (hint[:, :, top : top + height, left : left + width], kind))

    def active(self, name: str, gone: float, then: float) -> bool:
        """Whether it is asked in a pass, in a step from one share of the way to another."""
        control = self.control
        if gone < control.start or then > control.end or control.strength == 0:
            return False
        return name == "conditional" or not control.guess


@dataclass
class Added:
    """What is added to the U-Net's states."""

    down: tuple[Tensor, ...] | None = None
    middle: Tensor | None = None
    features: tuple[Tensor, ...] = ()

    def and_residuals(self, residuals: Sequence[Tensor]) -> None:
        """What a ControlNet says."""
        *down, middle = residuals
        if self.down is None or self.middle is None:
            self.down, self.middle = tuple(down), middle
        else:
            self.down = tuple(a + b for a, b in zip(self.down, down, strict=True))
            self.middle = self.middle + middle

    def and_features(self, features: Sequence[Tensor]) -> None:
        """What a T2I-Adapter says."""
        known = self.features or [torch.zeros_like(one) for one in features]
        self.features = tuple(a + b for a, b in zip(known, features, strict=True))


@dataclass(frozen=True, eq=False)
class Seeing:
    """What the U-Net is given in one call, for controls that look on."""

    x: Tensor
    times: Tensor
    context: Tensor
    vector: Tensor | None


def added(seeing: Seeing, rows: Sequence[Sequence[Steer]]) -> Added:
    """What all controls add. `rows`: the active ones of each row; their networks are the same."""
    found = Added()
    for column in zip(*rows, strict=True):
        first = column[0].control
        strength = torch.tensor([steer.control.strength for steer in column])
        made = [torch.cat(parts) for parts in zip(*(steer.made for steer in column), strict=True)]
        _WAYS[type(first.network)].say(first, seeing, made, strength, found)
    return found


def steers(unet: UNet, controls: Sequence[Control], size: tuple[int, int]) -> tuple[Steer, ...]:
    """Controls made ready for a picture of a size (width, height). Raises InvalidValue for one
    whose network belongs to another family, or whose picture is of another size."""
    ready: list[Steer] = []
    for control in controls:
        way = _WAYS.get(type(control.network))
        if way is None or not way.fits(control.network, unet):
            raise InvalidValue(
                f"A {type(control.network).__name__} of this shape does not steer this model.",
                do="Take a control that was made for the model's family.",
            )
        if control.kind and not isinstance(control.network, ControlNetUnion):
            raise InvalidValue(
                f"kind={control.kind} is for a union of ControlNets.", do="Leave it out."
            )
        pixels = pixels_of(control.picture)
        height, width, _ = pixels.shape
        if (width, height) != size:
            raise InvalidValue(
                f"The picture to follow is {width} x {height}, the painted one {size[0]} x "
                f"{size[1]}.",
                do="Make them of one size.",
            )
        weight = unet.conv_in.weight
        image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 255
        ready.append(Steer(control, tuple(way.make(control, image.to(weight)))))
    return tuple(ready)


@dataclass(frozen=True)
class _Way:
    """How a kind of network steers: whether it `fits`, what it makes of a picture once, and what
    it says in a call."""

    fits: Callable[[Any, UNet], bool]
    make: Callable[[Control, Tensor], Sequence[Tensor]]
    say: Callable[[Control, Seeing, list[Tensor], Tensor, Added], None]


def _fits(network: ControlNet, unet: UNet) -> bool:
    of, to = network.unet, unet.config
    return (of.widths, of.context_width, of.vector_width) == (
        to.widths, to.context_width, to.vector_width,
    )  # fmt: skip


def _hint(control: Control, image: Tensor) -> list[Tensor]:
    network = control.network
    assert isinstance(network, ControlNet)
    if isinstance(network, ControlNetUnion) and not 0 <= control.kind < network.config.kinds:
        raise InvalidValue(
            f"kind={control.kind} is no kind of this network.",
            do=f"Choose 0 to {network.config.kinds - 1}.",
        )
    return [network.hint(image), torch.tensor([control.kind], device=image.device)]


def _residuals(
    control: Control, seeing: Seeing, made: list[Tensor], strength: Tensor, found: Added
) -> None:
    network, (hint, kind) = control.network, made
    given = (seeing.x, seeing.times, seeing.context, hint)
    if isinstance(network, ControlNetUnion):
        said = network.told(*given, kind, seeing.vector)
    else:
        assert isinstance(network, ControlNet)
        said = network.residuals(*given, seeing.vector)
    found.and_residuals(controlnet.weighed(said, strength, guess=control.guess))


def _features_of(control: Control, image: Tensor) -> list[Tensor]:
    network = control.network
    assert isinstance(network, T2IAdapter)
    channels = network.config.channels
    return network(image if channels == 3 else image.mean(dim=1, keepdim=True))


def _features(
    control: Control, seeing: Seeing, made: list[Tensor], strength: Tensor, found: Added
) -> None:
    found.and_features(t2i_adapter.scaled(made, strength))


_WAYS: dict[type, _Way] = {
    ControlNet: _Way(_fits, _hint, _residuals),
    ControlNetUnion: _Way(_fits, _hint, _residuals),
    T2IAdapter: _Way(
        lambda network, unet: (
            network.config.widths[: len(unet.config.widths)] == unet.config.widths
        ),
        _features_of,
        _features,
    ),
}

Looks = dict[Attention, tuple[tuple[Tensor, Tensor, Tensor], ...]]


def looks(unet: UNet, prompts: Sequence[ImagePrompt]) -> tuple[Looks, Looks]:
    """What each attention sees of pictures beside the words, [1, heads, T, D] each with its
    strength, and what the other side of guidance sees. Raises InvalidValue for an adapter of
    another family, and for a picture or embedding that is missing."""
    attentions = unet.attentions()
    wanted: Looks = dict.fromkeys(attentions, ())
    other: Looks = dict.fromkeys(attentions, ())
    widths = tuple(one.to_k.out_features for one in attentions)
    for prompt in prompts:
        network = prompt.network
        if not isinstance(network, IPAdapter) or network.config.widths != widths:
            raise InvalidValue(
                "This IP-Adapter was made for another family of models.",
                do="Take one for this model.",
            )
        strength = torch.tensor(prompt.strength).to(unet.conv_in.weight).view(1, 1, 1, 1)
        for side, encoded in zip((wanted, other), _encoded(prompt, network), strict=True):
            seen = network(encoded)
            for attention, (k, v) in zip(attentions, seen, strict=True):
                pair = attention.heads_of(k), attention.heads_of(v)
                side[attention] = (*side[attention], (*pair, strength))
    return wanted, other


def _encoded(prompt: ImagePrompt, network: IPAdapter) -> tuple[Tensor, Tensor]:
    """What the adapter reads of the picture, and of none."""
    kind, like = network.config.kind, next(network.parameters())
    if kind == "face":
        if prompt.embedding is None:
            raise InvalidValue("This IP-Adapter reads the vector of a face.", do="Give embedding.")
        vector = torch.as_tensor(prompt.embedding).to(like).reshape(1, -1)
        return vector, torch.zeros_like(vector)
    if prompt.encoder is None or prompt.picture is None:
        raise InvalidValue("An IP-Adapter reads a picture by its image encoder.", do="Name both.")
    image = clip_image(pixels_of(prompt.picture), prompt.encoder.config.image_size)[None].to(like)
    states = prompt.encoder(image)
    if kind == "plain":
        if states.projected is None:
            raise NotFound("This image encoder has no projection, which the IP-Adapter reads.")
        return states.projected, torch.zeros_like(states.projected)
    return states.layers[-2], prompt.encoder(torch.zeros_like(image)).layers[-2]


def pixels_of(picture: Image.Image | Pixels) -> Pixels:
    """[H, W, 3]"""
    return np.asarray(picture.convert("RGB")) if isinstance(picture, Image.Image) else picture
