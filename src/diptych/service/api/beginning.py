"""Pictures to begin from: made as large as what is painted, and kept as inputs of the job."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from PIL import Image, ImageOps

from diptych.service.api.asking import Ask
from diptych.service.api.sources import decoded_of, png_of
from diptych.service.api.state import ModelInfo
from diptych.service.guards.fields import one_source
from diptych.service.guards.pictures import Decoded
from diptych.service.guards.problem import Problem
from diptych.service.jobs.store import Stored

Size = tuple[int, int]
Source = str | bytes | None


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a picture begins from; nothing but noise unless there is an `init`. `strength`: the
    share of the steps that are made from it. `warnings`: what was done to it."""

    init: Stored | None = None
    mask: Stored | None = None
    strength: float | None = None
    size: Size | None = None
    warnings: tuple[str, ...] = ()

    @property
    def spec(self) -> dict[str, Any]:
        """As it stands in a job."""
        return {
            "init": None if self.init is None else self.init.sha256,
            "mask": None if self.mask is None else self.mask.sha256,
            "strength": self.strength,
        }

    @property
    def inputs(self) -> tuple[Stored, ...]:
        """What the job reads."""
        return tuple(one for one in (self.init, self.mask) if one is not None)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A picture from one of `images`, by the name of its field, and a mask of its size. `erased`:
    where a mask is see-through is painted anew, as OpenAI has it; else where it is white. `size`:
    of what is painted, where it is said."""

    images: Mapping[str, Source]
    mask: Source = None
    strength: float | None = None
    size: tuple[int | None, int | None] = (None, None)
    erased: Literal["clear", "white"] = "white"


async def beginning(ask: Ask, info: ModelInfo, given: Sources, at: str = "") -> Beginning:
    """The pictures of a request, decoded, fitted and kept. Raises Problem."""
    images = {name: one for name, one in given.images.items() if one is not None}
    if not images:
        _check_nothing(given, info, at)
        return Beginning()
    if info.begins is None:
        raise Problem("not-offered", detail="This model begins from no picture.", field=at)
    if info.begins == "beside" and given.strength is not None:
        detail = "This model is shown the picture and begins at noise."
        raise Problem("bad-field", detail=detail, field=f"{at}/strength")
    name = one_source(images)
    picture = await decoded_of(ask, name, images[name], f"{at}/{name}")
    size = _size(info, (picture.width, picture.height), given.size)
    init = await _fitted(ask, _rgb(picture), size)
    warnings = list(picture.warnings)
    if (picture.width, picture.height) != size:
        warnings.append(f"The picture was cut and scaled to {size[0]} x {size[1]}.")
    mask = None
    if given.mask is not None:
        mask = await _mask(ask, given, (picture.width, picture.height), size, at)
    elif info.begins == "inside":
        raise Problem("bad-source", detail="This model needs a mask.", field=f"{at}/mask")
    return Beginning(
        init=init, mask=mask, strength=given.strength, size=size, warnings=tuple(warnings)
    )


def _check_nothing(given: Sources, info: ModelInfo, at: str) -> None:
    for name, one in (("mask", given.mask), ("strength", given.strength)):
        if one is not None:
            detail = "It belongs to a picture to begin from."
            raise Problem("bad-field", detail=detail, field=f"{at}/{name}")
    if info.begins in ("inside", "beside"):
        raise Problem("bad-source", detail="This model changes a picture; send one.", field=at)


async def _mask(ask: Ask, given: Sources, own: Size, size: Size, at: str) -> Stored:
    """White is painted anew."""
    mask = await decoded_of(ask, "mask", given.mask, f"{at}/mask")
    if (mask.width, mask.height) != own:
        detail = f"The mask is as large as the picture: {own[0]} x {own[1]}."
        raise Problem("bad-shape", detail=detail, field=f"{at}/mask")
    if given.erased == "white":
        where = _rgb(mask).convert("L")
    elif mask.alpha is None:
        detail = "Make transparent what shall be painted anew."
        raise Problem("bad-source", detail=detail, field=f"{at}/mask")
    else:
        alpha = Image.frombytes("L", own, mask.alpha)
        where = ImageOps.invert(alpha)
    return await _fitted(ask, where, size, hard=True)


def _rgb(picture: Decoded) -> Image.Image:
    return Image.frombytes("RGB", (picture.width, picture.height), picture.pixels)


async def _fitted(ask: Ask, picture: Image.Image, size: Size, *, hard: bool = False) -> Stored:
    """Cut to the shape, scaled to the size, and kept. `hard`: nothing between black and white."""

    def kept() -> Stored:
        way = Image.Resampling.BOX if hard else Image.Resampling.LANCZOS
        fitted = ImageOps.fit(picture, size, way)
        if hard:
            fitted = fitted.point([0] * 128 + [255] * 128)
        return ask.state.artifacts.put(png_of(fitted), "image/png", "input")

    return await asyncio.to_thread(kept)


def _size(info: ModelInfo, own: Size, said: tuple[int | None, int | None]) -> Size:
    """What is said; else the picture's own size if the model paints it and it is not far from what
    the model likes; else that shape with as many pixels as the model likes."""
    width, height = said
    if width is not None or height is not None:
        return width or info.size[0], height or info.size[1]
    likes = info.size[0] * info.size[1]
    legal = all(side == nearest(info, side) for side in own)
    if legal and own[0] * own[1] <= 4 * likes:
        return own
    scale = sqrt(likes / (own[0] * own[1]))
    return nearest(info, own[0] * scale), nearest(info, own[1] * scale)


def nearest(info: ModelInfo, side: float) -> int:
    """The nearest side that a model paints."""
    most = info.most_side // info.multiple
    return max(1, min(most, round(side / info.multiple))) * info.multiple
