"""Pictures of a U-Net that look at themselves, or at one another, in a way that a request asks for:
larger than the network was trained on, or alike in what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from diptych.foundation.errors import InvalidValue
from diptych.models.unet import UNet
from diptych.models.unet_blocks import Context, Seen, Sight
from diptych.models.unet_looks import SHIFTS, OwnLook, finest_attentions, own_attentions


@dataclass(frozen=True)
class HiDiffusion:
    """A picture of twice the sides that the network was trained on, without its doubling what it
    shows (Zhang et al., 2023). Up to the share `until` of the way the first level goes down to a
    quarter of its sides at once, and up again as far, so that the levels below see the sides they
    know; `windows`: in the finest level that has attention the picture looks at itself in four
    windows, which move from step to step, in a quarter of the time. Raises InvalidValue."""

    until: float = 0.4
    windows: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.until <= 1:
            raise InvalidValue(f"until={self.until} is no share of the way.", do="Choose 0 to 1.")

    def __str__(self) -> str:
        return f"until {self.until:g}{', windows' if self.windows else ''}"


@dataclass(frozen=True)
class Consistent:
    """Pictures that show what the first of a call shows, as their own words say it: from evaluation
    `step` and the attention `layer` on, counted as they are asked from 0, they look at the first
    one's keys and values in place of their own (Cao et al., 2023, MasaCtrl; 4 of 50 steps and 10
    of 16 attentions in SD 1). None: the attentions from five eighths on. Raises InvalidValue."""

    step: int = 4
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.step < 0 or (self.layer or 0) < 0:
            raise InvalidValue(f"{self} is not offered.", do="Count from 0.")

    def __str__(self) -> str:
        layer = "" if self.layer is None else f", layer {self.layer}"
        return f"from step {self.step}{layer}"


@dataclass(frozen=True, eq=False)
class Group:
    """The pictures of a call that are alike, and in which attentions."""

    consistent: Consistent
    mutual: frozenset[nn.Module]


@dataclass(frozen=True, eq=False)
class Own:
    """How one picture looks at itself; `source`: whether the others of its group look at it."""

    large: HiDiffusion | None = None
    group: Group | None = None
    source: bool = False


PLAIN = Own()


def owns(
    unet: UNet, large: HiDiffusion | None, consistent: Consistent | None, count: int,
    cells: tuple[int, int],
) -> list[Own]:  # fmt: skip
    """For each of `count` pictures of so many cells. Raises InvalidValue for what the network
    cannot do."""
    if large is not None:
        _check_large(unet, large, cells)
    group = None if consistent is None else _group(unet, consistent, count)
    return [Own(large, group, group is not None and i == 0) for i in range(count)]


def _check_large(unet: UNet, large: HiDiffusion, cells: tuple[int, int]) -> None:
    level, attentions = finest_attentions(unet)
    if len(unet.config.widths) < 2 or (large.windows and not attentions):
        raise InvalidValue(
            "HiDiffusion is for networks of several levels with attention.", do="Leave it out."
        )
    whole = 2 ** (level + 1) * (2 if large.until and level else 1) if large.windows else 2
    if any(side % whole for side in cells):
        raise InvalidValue(
            f"{cells[1]} x {cells[0]} cells do not part into windows of this network.",
            do=f"Choose multiples of {whole} cells.",
        )


def _group(unet: UNet, consistent: Consistent, count: int) -> Group:
    if count < 2:
        raise InvalidValue("One picture has no other to be alike.", do="Give two prompts or more.")
    every = own_attentions(unet)
    layer = 5 * len(every) // 8 if consistent.layer is None else consistent.layer
    if layer >= len(every):
        raise InvalidValue(
            f"This network has {len(every)} attentions, none from {layer} on.",
            do=f"Choose a layer of 0 to {len(every) - 1}.",
        )
    return Group(consistent, frozenset(every[layer:]))


class Look(NamedTuple):
    """How an evaluation looks, which all of a call have in common: `coarse` and the place of the
    windows (`UNet`), -1 for none; the `group` that looks at its first picture."""

    coarse: bool
    shift: int
    group: Group | None


def look_of(own: Own, gone: float, number: int) -> Look | None:
    """Of the evaluation of a number, when a share of the way has gone; None for plainly."""
    coarse, shift, group = False, -1, own.group
    if own.large is not None:
        coarse = gone < own.large.until
        shift = number % SHIFTS if own.large.windows else -1
    if group is not None and number < group.consistent.step:
        group = None
    return Look(coarse, shift, group) if coarse or shift >= 0 or group is not None else None


def sight(
    unet: UNet, words: Mapping[nn.Module, Seen], look: Look | None, names: Sequence[str],
    owned: Sequence[Own],
) -> Context:  # fmt: skip
    """What the evaluations of one call see; `names`: for which pass of guidance each is. Raises
    InvalidValue where a picture's source is not among them."""
    if look is None:
        return words
    windowed: frozenset[nn.Module] = frozenset()
    mutual: frozenset[nn.Module] = frozenset()
    sources: list[int] = []
    if look.shift >= 0:
        windowed = finest_attentions(unet)[1]
    if look.group is not None:
        mutual, sources = look.group.mutual, _sources(names, owned)
    return Sight(words, OwnLook(windowed, look.shift, mutual, sources), look.coarse)


def _sources(names: Sequence[str], owned: Sequence[Own]) -> list[int]:
    """Which row each looks at: its group's first picture in the same pass."""
    places = {name: i for i, name in enumerate(names) if owned[i].source}
    if any(name not in places for name in names):
        raise InvalidValue(
            "Pictures that are alike are asked in one call, and here they are not.",
            do="Let an engine take as many, and say prompts of about one length.",
        )
    return [places[name] for name in names]
