"""Stable Diffusion's networks, as painting asks them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diptych.adapters.rows import RowPlan, applied
from diptych.checkpoints.presets import Preset
from diptych.diffusion.guidance import Guidance, classifier_free, two_condition
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.unet import UNet
from diptych.models.unet_blocks import Attention, Seen
from diptych.models.unet_reuse import Given
from diptych.nn.reuse import DeepCache
from diptych.pipelines.adapting import plans_for
from diptych.pipelines.conditioning import (
    ClipEncoder,
    TextCond,
    TextRecipe,
    condition,
    size_numbers,
    size_vector,
)
from diptych.pipelines.encoded import EncodedStore
from diptych.pipelines.looking import PLAIN, Own, look_of, owns, sight
from diptych.pipelines.painting import Asked, Begin, Networks, Request, in_groups, sides_of
from diptych.pipelines.reusing import deep_of, of_kind, said_by_unet, uncut
from diptych.pipelines.sampling import Sampling, scheduled
from diptych.pipelines.steering import Added, Looks, Seeing, Steer, added, looks, steers
from diptych.pipelines.text_to_image import latent_of

LARGEST = 4096  # pixels a side
# How a picture is shown to a U-Net that takes more channels than it gives: not at all, as many
# again beside (InstructPix2Pix), or those and a mask (inpainting).
SHOWN = {0: "", 4: "beside", 5: "inside"}
AESTHETIC = (6.0, 2.5)  # what the refiner is told of the wanted picture and of the other


class Side(NamedTuple):
    """One side of guidance: words [1, L, D], what SDXL is told beside them [1, V], and what each
    attention sees of the words."""

    sequence: Tensor
    vector: Tensor | None
    seen: dict[Attention, Seen]


@dataclass(frozen=True, eq=False)
class Told:
    """One picture's: the words, what to keep away from, channels [1, C, h, w] that are given
    beside the noisy latent, or None, what is followed, how adapters change the networks, what is
    used again, and how it looks at itself."""

    words: Side
    against: Side
    beside: Tensor | None = None
    steers: tuple[Steer, ...] = ()
    adapted: RowPlan | None = None
    reuse: DeepCache | None = None
    own: Own = PLAIN

    def side(self, name: str) -> Side:
        return self.words if name == "conditional" else self.against

    def shown(self, name: str) -> Tensor:
        """The channels beside, nothing where guidance asks without words and without picture."""
        assert self.beside is not None
        picture = self.beside.shape[1] == 4
        return self.beside * 0 if picture and name == "unconditional" else self.beside


def active(one: Asked) -> tuple[Steer, ...]:
    """What is followed in an evaluation."""
    return tuple(s for s in one.told.steers if s.active(one.name, one.gone, one.then))


def joined(rows: Sequence[Seen]) -> Seen:
    """What rows see, as one batch."""
    if len(rows) == 1:
        return rows[0]
    others = [
        tuple(torch.cat(parts) for parts in zip(*column, strict=True))
        for column in zip(*(row.others for row in rows), strict=True)
    ]
    k, v = (torch.cat(parts) for parts in zip(*(row[:2] for row in rows), strict=True))
    return Seen(k, v, tuple((a, b, c) for a, b, c in others))


@dataclass(frozen=True)
class StableDiffusionNetworks(Networks):
    """`encoders` read words by the family's `recipe`, `unet` paints latents, `vae` makes them
    pictures; `preset` says how the family is sampled, `size` is width and height in pixels where
    nothing is said."""

    unet: UNet
    vae: AutoencoderSD
    encoders: Mapping[str, ClipEncoder]
    recipe: TextRecipe
    preset: Preset
    size: tuple[int, int]
    encoded: EncodedStore = field(default_factory=EncodedStore, compare=False, repr=False)

    @property
    def prediction(self) -> str:
        return self.preset.prediction

    def modules(self) -> list[nn.Module]:
        return [self.unet, self.vae, *(one.network for one in self.encoders.values())]

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        factor = self.vae.factor
        sides = sides_of(width, height, self.size, factor, LARGEST)
        return self.vae.config.latent_channels, sides[1] // factor, sides[0] // factor

    @property
    def shown(self) -> str:
        config = self.unet.config
        return SHOWN[config.in_channels - config.out_channels]

    def table(self, sampling: Sampling, shape: tuple[int, ...]) -> Table:
        return scheduled(sampling, self.preset, self.prediction)

    def guidance(self, sampling: Sampling) -> Guidance:
        if self.shown == "beside":
            return two_condition(sampling.guidance, sampling.image_guidance)
        return classifier_free(sampling.guidance)

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        # A leading list leaves noise itself out, and was published with pure noise all the same.
        return noise if sampling.spacing == "leading" else noise * node.sigma

    def tell(self, request: Request) -> list[Told]:
        """An empty negative prompt is an absent one: SDXL then has zeros in its place."""
        size = (request.size[0] or self.size[0], request.size[1] or self.size[1])
        beside, extras = self._beside(request.begin, size), request.extras
        follows = steers(self.unet, extras.controls, size)
        pictures = looks(self.unet, extras.image_prompts)
        against = request.negative_prompt or None
        told: list[Told] = []
        reuse = self._reuse(request)
        plans = plans_for(self.components(), extras.loras, len(request.prompts))
        owned = self._owned(request, size)
        for prompt, plan, own in zip(request.prompts, plans, owned, strict=True):
            with applied([plan]):
                store = self.encoded if plan is None else None
                pair = condition(self.encoders, self.recipe, prompt, against, extras.reading, store)
                sides = [self._side(pair[k], size, pictures[k], k) for k in (0, 1)]
            told.append(Told(sides[0], sides[1], beside, follows, plan, reuse, own))
        return told

    def _owned(self, request: Request, size: tuple[int, int]) -> list[Own]:
        """Raises InvalidValue for what does not go with looking otherwise."""
        extras, factor = request.extras, self.vae.factor
        if extras.hidiffusion is not None and extras.controls:
            raise InvalidValue("HiDiffusion goes without controls.", do="Leave one out.")
        cells = size[1] // factor, size[0] // factor
        return owns(self.unet, extras.hidiffusion, extras.consistent, len(request.prompts), cells)

    def _reuse(self, request: Request) -> DeepCache | None:
        """Raises InvalidValue for what does not go with it."""
        extras = request.extras
        reuse: DeepCache | None = of_kind(extras.approximation, DeepCache)
        if reuse is not None and extras.controls:
            raise InvalidValue("DeepCache goes without controls.", do="Leave one out.")
        if reuse is not None and reuse.layers > self.unet.config.blocks + 1:
            raise InvalidValue(
                f"{reuse.layers} layers are more than the last level of this network has.",
                do=f"Choose 1 to {self.unet.config.blocks + 1}.",
            )
        return reuse

    def components(self) -> dict[str, nn.Module]:
        encoders = {one.component: one.network for one in self.encoders.values()}
        return {"unet": self.unet, **encoders}

    def knowing(self, word: str, rows: Mapping[str, Tensor]) -> StableDiffusionNetworks:
        encoders = {
            name: one.knowing(word, rows[one.component]) if one.component in rows else one
            for name, one in self.encoders.items()
        }
        return replace(self, encoders=encoders)

    def _side(self, cond: TextCond, size: tuple[int, int], pictures: Looks, negative: int) -> Side:
        """`size` in pixels. SDXL is told that the picture was never larger and is not cut."""
        sequence, vector = cond.sequence.to(self.dtype), None
        if self.recipe.sizes and cond.pooled is not None:
            numbers = size_numbers(self.recipe, size, aesthetic=AESTHETIC[negative])
            each = (self.unet.config.vector_width - cond.pooled.shape[1]) // len(numbers)
            vector = size_vector(cond.pooled, numbers, each).to(self.dtype)
        seen = {one: one.look(sequence)._replace(others=also) for one, also in pictures.items()}
        return Side(sequence, vector, seen)

    def _beside(self, begin: Begin | None, size: tuple[int, int]) -> Tensor | None:
        """Channels that the network is given beside the noisy latent, [1, C, h, w]."""
        if not self.shown:
            return None
        if begin is None or begin.picture is None:
            raise InvalidValue("This model edits a picture.", do="Name one to begin from.")
        if self.shown == "beside":
            if begin.mask is not None:
                raise InvalidValue("This model edits by words alone.", do="Leave the mask out.")
            # The published network was shown latents that are not scaled.
            return latent_of(self, begin.picture).to(self.dtype) / self.vae.config.scale
        mask = begin.mask if begin.mask is not None else np.ones(begin.picture.shape[:2], bool)
        # Grey where it is painted: 0 in -1..1.
        hidden = np.where(mask[:, :, None], np.float32(127.5), begin.picture)
        known = latent_of(self, hidden).to(self.device, self.dtype)
        where = interpolate(
            torch.from_numpy(mask.astype(np.float32))[None, None], known.shape[2:], mode="nearest"
        )
        return torch.cat([where.to(known), known], dim=1)

    def key(self, one: Asked) -> Hashable:
        """As many tokens, pictures of as many, and the same controls: no row is padded."""
        side = one.told.side(one.name)
        seen = next(iter(side.seen.values()))
        pictures = tuple(other[0].shape[2] for other in seen.others)
        follows = tuple((id(s.control.network), s.control.guess) for s in active(one))
        told = one.told
        apart = deep_of(one, told.reuse), look_of(told.own, one.gone, one.number)
        return side.sequence.shape[1], pictures, follows, *apart

    def part(self, told: Told, top: int, left: int, height: int, width: int) -> Told:
        uncut(told.reuse)
        if told.own.large is not None:
            raise InvalidValue("HiDiffusion paints a picture whole.", do="Leave the tiles out.")
        if told.beside is None:
            beside = None
        else:
            beside = told.beside[:, :, top : top + height, left : left + width]
        follows = tuple(steer.part(top, left, height, width) for steer in told.steers)
        return replace(told, beside=beside, steers=follows)

    def ask(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        return in_groups(self.key, self._answer, x, times, asked)

    def _answer(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        """The network's word where all that is asked has one shape."""
        sides = [one.told.side(one.name) for one in asked]
        beside = [one.told.shown(one.name) for one in asked if one.told.beside is not None]
        given = torch.cat([x, torch.cat(beside)], dim=1) if beside else x
        words = {one: joined([side.seen[one] for side in sides]) for one in sides[0].seen}
        first, owned = asked[0], [one.told.own for one in asked]
        look = look_of(first.told.own, first.gone, first.number)
        seen = sight(self.unet, words, look, [one.name for one in asked], owned)
        vectors = [side.vector for side in sides if side.vector is not None]
        vector = torch.cat(vectors) if vectors else None
        rows, more = [active(one) for one in asked], Added()
        if rows[0]:
            context = torch.cat([side.sequence for side in sides])
            more = added(Seeing(x, times, context, vector), rows)
        reuse = asked[0].told.reuse
        with applied([one.told.adapted for one in asked]):
            if reuse is not None:
                return said_by_unet(self.unet, Given(given, times, seen, vector), asked, reuse)
            return self.unet(given, times, seen, vector, more.down, more.middle, more.features)

    def encode(self, image: Tensor) -> Tensor:
        return self.vae.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent)
