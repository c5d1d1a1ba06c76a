"""The networks of SD3 and FLUX, as painting asks them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from diptych.adapters.adapter import Adapter
from diptych.adapters.merging import merge
from diptych.adapters.rows import RowPlan, applied
from diptych.checkpoints.presets import Preset
from diptych.diffusion.guidance import Guidance, classifier_free
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.diffusion.spacings import options_of
from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.flux import Flux
from diptych.models.sd3 import SD3
from diptych.nn.reuse import FirstBlock, FirstBlocks
from diptych.pipelines.adapting import plans_for
from diptych.pipelines.conditioning import ClipEncoder, Encoder, TextCond, TextRecipe, condition
from diptych.pipelines.encoded import EncodedStore
from diptych.pipelines.painting import Asked, Begin, Networks, Request, in_groups, sides_of
from diptych.pipelines.reusing import of_its_own, of_kind, said_by_blocks, uncut
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.t5_conditioning import T5Reader
from diptych.pipelines.text_to_image import latent_of

LARGEST = 4096  # pixels a side
PATCH = 2  # latent cells a side of a token
# What guides: the difference to another prompt, a number that the network is told, nothing.
CFG, TOLD, NONE = "cfg", "told", "none"


@dataclass(frozen=True, eq=False)
class Told:
    """One picture's: the words, what to keep away from, the guidance that the network is told,
    channels [1, C, h, w] that are given beside the noisy latent, how adapters change the
    networks, and what is used again."""

    words: TextCond
    against: TextCond
    guidance: float | None = None
    beside: Tensor | None = None
    adapted: RowPlan | None = None
    reuse: FirstBlock | None = None

    def side(self, name: str) -> TextCond:
        """What is told in a pass of guidance."""
        return self.words if name == "conditional" else self.against


@dataclass(frozen=True)
class FlowTransformerNetworks(Networks):
    """`encoders` read words by the family's `recipe`, `transformer` paints latents, `vae` makes
    them pictures; `preset` says how the family is sampled, `guided` what guides, `shown` what a
    picture to begin from is to the network (`Painting`), `size` is width and height in pixels
    where nothing is said."""

    transformer: SD3 | Flux
    vae: AutoencoderSD
    encoders: Mapping[str, Encoder]
    recipe: TextRecipe
    preset: Preset
    guided: str
    shown: str
    size: tuple[int, int]
    encoded: EncodedStore = field(default_factory=EncodedStore, compare=False, repr=False)

    @property
    def prediction(self) -> str:
        return self.preset.prediction

    def modules(self) -> list[nn.Module]:
        return [*self.components().values(), self.vae]

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        factor, most = self.vae.factor, LARGEST
        if isinstance(self.transformer, SD3):
            most = min(most, self.transformer.config.positions * PATCH * factor)
        sides = sides_of(width, height, self.size, PATCH * factor, most)
        return self.vae.config.latent_channels, sides[1] // factor, sides[0] // factor

    def table(self, sampling: Sampling, shape: tuple[int, ...]) -> Table:
        shift = self.preset.shift if sampling.shift is None else sampling.shift
        if callable(shift):
            shift = shift(shape[1] * shape[2] // PATCH**2, sampling.steps)
        if "shift" not in options_of(sampling.spacing) and sampling.shift is not None:
            raise InvalidValue(
                f"The spacing {sampling.spacing!r} has no shift.", do="Leave it out."
            )
        return replace(sampling, shift=shift).table(self.preset.path, self.prediction)

    def guidance(self, sampling: Sampling) -> Guidance:
        if self.guided == NONE and sampling.guidance != self.preset.guidance:
            raise InvalidValue(
                f"This model takes no guidance, and {sampling.guidance:g} is asked for.",
                do=f"Leave it out, or choose {self.preset.guidance:g}.",
            )
        if self.guided == CFG:
            return classifier_free(sampling.guidance)
        told = Guidance(told=sampling.guidance if self.guided == TOLD else None)
        if sampling.true_guidance == 1:
            return told
        return told + classifier_free(sampling.true_guidance)

    @property
    def true_guided(self) -> bool:
        return self.guided != CFG

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        return noise * node.sigma

    def tell(self, request: Request) -> list[Told]:
        request.extras.only("reading", "loras", "approximation")
        reuse = of_kind(request.extras.approximation, FirstBlock)
        reading = request.extras.reading
        twice = self.guided == CFG or request.sampling.true_guidance != 1
        if request.negative_prompt and not twice:
            raise InvalidValue(
                "This model is asked once a step and reads no negative prompt.",
                do="Leave it out, or ask twice with a true guidance above 1, as 4.",
            )
        if self.guided != CFG and reading.clip_skip:
            raise InvalidValue("This model reads no layers of CLIP.", do="Leave clip_skip out.")
        guidance = request.sampling.guidance if self.guided == TOLD else None
        beside = self._beside(request.begin)
        told: list[Told] = []
        plans = plans_for(self.components(), request.extras.loras, len(request.prompts))
        # With two passes and no negative prompt, the empty text is kept away from.
        true = self.guided != CFG and twice
        negative = request.negative_prompt or ("" if true else None)
        for prompt, plan in zip(request.prompts, plans, strict=True):
            with applied([plan]):
                store = self.encoded if plan is None else None
                words, against = condition(
                    self.encoders, self.recipe, prompt, negative, reading, store
                )
            for cond in (words, against):
                if cond.truncated and reading.most is None:
                    raise InvalidValue(
                        f"The prompt is longer than T5 reads here: {cond.truncated[:60]!r} and "
                        "what follows would be lost.",
                        do="Shorten it.",
                    )
            told.append(Told(words, against, guidance, beside, plan, reuse))
        return told

    def components(self) -> dict[str, nn.Module]:
        readers = [one for one in self.encoders.values() if isinstance(one, ClipEncoder | T5Reader)]
        return {"transformer": self.transformer, **{one.component: one.network for one in readers}}

    def knowing(self, word: str, rows: Mapping[str, Tensor]) -> FlowTransformerNetworks:
        """T5 reads the word as its letters: nothing is learnt for it."""
        encoders: dict[str, Encoder] = {}
        for name, one in self.encoders.items():
            if isinstance(one, ClipEncoder) and one.component in rows:
                one = one.knowing(word, rows[one.component])
            encoders[name] = one
        return replace(self, encoders=encoders)

    def following(self, changes: Sequence[tuple[Adapter, float]]) -> FlowTransformerNetworks:
        """With a control LoRA in the weights, and from now on shown a picture beside the latent.
        Raises InvalidValue where it is shown one already, and for what does not fit."""
        if self.shown or self.guided == CFG:
            raise InvalidValue(
                "This model follows no picture by a LoRA, or follows one already.",
                do="FLUX.1 [dev] does.",
            )
        merge(self.components(), changes)
        return replace(self, shown="beside")

    def _beside(self, begin: Begin | None) -> Tensor | None:
        """Channels that the network is given beside the noisy latent, [1, C, h, w]."""
        if not self.shown:
            return None
        if begin is None or begin.picture is None:
            raise InvalidValue(
                "This model paints into a picture, or after a map of depth or edges.",
                do="Name it as the picture to begin from.",
            )
        if self.shown == "beside":
            if begin.mask is not None:
                raise InvalidValue("This model follows a whole map.", do="Leave the mask out.")
            return latent_of(self, begin.picture).to(self.dtype)
        mask = begin.mask if begin.mask is not None else np.ones(begin.picture.shape[:2], bool)
        # Grey where it is painted: 0 in -1..1.
        hidden = np.where(mask[:, :, None], np.float32(127.5), begin.picture)
        known = latent_of(self, hidden).to(self.dtype)
        pixels = torch.from_numpy(mask.astype(np.float32))[None, None]
        # Every pixel of a cell is a channel: the mask is as fine as the picture.
        return torch.cat([known, pixel_unshuffle(pixels, self.vae.factor).to(known)], dim=1)

    def key(self, one: Asked) -> Hashable:
        """Long prompts have more tokens, and no row is padded."""
        return one.told.side(one.name).sequence.shape[1], of_its_own(one.told, one.told.reuse)

    def part(self, told: Told, top: int, left: int, height: int, width: int) -> Told:
        uncut(told.reuse)
        if height % PATCH or width % PATCH:
            raise InvalidValue(
                f"Windows of {width} x {height} cells part a token of this model.",
                do=f"Choose multiples of {PATCH}.",
            )
        if told.beside is None:
            return told
        beside = told.beside[:, :, top : top + height, left : left + width]
        return replace(told, beside=beside)

    def ask(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        return in_groups(self.key, self._answer, x, times, asked)

    def _answer(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        """The network's word where all that is asked has one shape."""
        sides = [one.told.side(one.name) for one in asked]
        context = torch.cat([side.sequence for side in sides]).to(x.dtype)
        pooled = torch.cat([side.pooled for side in sides if side.pooled is not None]).to(x.dtype)
        beside = [one.told.beside for one in asked if one.told.beside is not None]
        given = torch.cat([x, torch.cat(beside)], dim=1) if beside else x
        guidance = [one.told.guidance for one in asked if one.told.guidance is not None]
        more = [times.new_tensor(guidance)] if guidance else []

        def ask(reuse: FirstBlocks | None) -> Tensor:
            return self.transformer(given, times, context, pooled, *more, reuse=reuse)

        with applied([one.told.adapted for one in asked]):
            return said_by_blocks(ask, asked, asked[0].told.reuse)

    def encode(self, image: Tensor) -> Tensor:
        return self.vae.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent)
