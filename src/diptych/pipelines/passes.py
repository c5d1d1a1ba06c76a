"""Pictures in two passes: the last steps by a second model, or made again at a larger size (known
as high-resolution fix)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Report, silent
from diptych.pipelines.painting import Begin, Painting, Request
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.text_to_image import (
    PLAIN,
    PaintState,
    Way,
    finish,
    latent_of,
    on_the_way,
    paint,
)


@dataclass(frozen=True, kw_only=True)
class Enlarge:
    """`scale`: of both sides. `strength`: the share of the steps made at the large size. `by`:
    whether the `latent` is enlarged, which is free and asks for a strength of a half and more, or
    the `pixels` are, which are decoded and encoded for it. Raises InvalidValue."""

    scale: float = 2.0
    strength: float = 0.6
    by: Literal["latent", "pixels"] = "latent"

    def __post_init__(self) -> None:
        if not 1 < self.scale <= 8:
            raise InvalidValue(f"A scale of {self.scale} is not offered.", do="Choose 1 to 8.")
        if not 0 < self.strength <= 1:
            raise InvalidValue(f"A strength of {self.strength} is none.", do="Choose 0 to 1.")


def enlarged(
    networks: Painting,
    request: Request,
    enlarge: Enlarge,
    report: Report = silent,
    way: Way = PLAIN,
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Pictures [B, H, W, 3] uint8 in two passes, and their width and height. Raises InvalidValue
    for a request that begins from a picture or follows one, whose size would not fit."""
    if request.begin is not None or request.extras.controls:
        raise InvalidValue(
            "A picture that begins from another or follows one is not enlarged in passing.",
            do="Enlarge the picture that is given, and paint at that size.",
        )
    first = on_the_way(networks, request, report, way)
    width, height = (request.size[k] or networks.size[k] for k in (0, 1))
    factor = height // first.solving.x.shape[2]
    wide, high = (round(side * enlarge.scale / factor) * factor for side in (width, height))
    latent = _enlarged(networks, first, enlarge, (wide, high), way)
    sampling = replace(request.sampling, strength=enlarge.strength)
    again = replace(request, sampling=sampling, size=(wide, high), begin=Begin(latent=latent))
    return finish(networks, on_the_way(networks, again, report, way), way), (wide, high)


def _enlarged(
    networks: Painting, state: PaintState, enlarge: Enlarge, size: tuple[int, int], way: Way
) -> Tensor:
    """The latent [B, C, h, w] for a picture of this width and height."""
    if enlarge.by == "latent":
        _, rows, columns = networks.latent_shape(*size)
        return interpolate(state.solving.x, size=(rows, columns), mode="bilinear")
    pictures = [Image.fromarray(one) for one in finish(networks, state, way)]
    large = [np.asarray(one.resize(size, Image.Resampling.LANCZOS)) for one in pictures]
    return torch.cat([latent_of(networks, one) for one in large])


class Second(NamedTuple):
    """A second model, how it is sampled, and how its networks are used."""

    networks: Painting
    sampling: Sampling
    way: Way = PLAIN


def refined(
    networks: Painting,
    second: Second,
    request: Request,
    switch: float,
    report: Report = silent,
    way: Way = PLAIN,
) -> NDArray[np.uint8]:
    """Pictures [B, H, W, 3] uint8, the first share of the way by one model and the rest by another
    of the same latents (an ensemble of experts, Podell et al., 2023, 2.5). Raises InvalidValue for
    a request that begins from a picture, and a share outside 0..1."""
    if request.begin is not None:
        raise InvalidValue("A refiner goes on from words, not from a picture.", do="Leave one out.")
    if not 0 < switch < 1:
        raise InvalidValue(f"switch={switch} is no share of the way.", do="Choose 0 to 1: 0.8.")
    sampling = request.sampling
    base = replace(request, sampling=replace(sampling, part=(0.0, switch)))
    state = on_the_way(networks, base, report, way)
    rest = replace(
        sampling,
        part=(switch, 1.0),
        solver=second.sampling.solver,
        spacing=second.sampling.spacing,
    )
    begin = Begin(under_way=state.solving.x)
    extras = replace(request.extras, loras=())  # the first model's
    asked = replace(request, sampling=rest, begin=begin, extras=extras)
    return paint(second.networks, asked, report, second.way)
