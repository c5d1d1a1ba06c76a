"""Stable Diffusion's networks, as painting asks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.checkpoints.presets import Preset
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.unet import UNet
from diptych.pipelines.conditioning import (
    ClipEncoder,
    TextCond,
    TextRecipe,
    condition,
    size_numbers,
    size_vector,
)
from diptych.pipelines.text_to_image import Sampling

LARGEST = 4096  # pixels a side


@dataclass(frozen=True)
class StableDiffusionNetworks:
    """`encoders` read words by the family's `recipe`, `unet` paints latents, `vae` makes them
    pictures; `preset` says how the family is sampled, `size` is width and height in pixels where
    nothing is said."""

    unet: UNet
    vae: AutoencoderSD
    encoders: Mapping[str, ClipEncoder]
    recipe: TextRecipe
    preset: Preset
    size: tuple[int, int]

    @property
    def prediction(self) -> str:
        return self.preset.prediction

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        for network in (self.unet, self.vae, *(one.network for one in self.encoders.values())):
            network.to(device, dtype)

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        factor = self.vae.factor
        sides = (width or self.size[0], height or self.size[1])
        if any(side % factor or not factor <= side <= LARGEST for side in sides):
            raise InvalidValue(
                f"{sides[0]} x {sides[1]} is not offered.",
                do=f"Choose multiples of {factor} up to {LARGEST}; {self.size[0]} x "
                f"{self.size[1]} is this model's own.",
            )
        return self.vae.config.latent_channels, sides[1] // factor, sides[0] // factor

    def table(self, sampling: Sampling) -> Table:
        own = sampling.spacing == self.preset.spacing
        options = self.preset.spacing_options if own else {}
        if sampling.shift is not None:
            raise InvalidValue(
                f"A shift of {sampling.shift:g} means something on a flow only.", do="Leave it out."
            )
        return sampling.table(self.preset.path, self.prediction, options)

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        # A leading list leaves noise itself out, and was published with pure noise all the same.
        return noise if sampling.spacing == "leading" else noise * node.sigma

    def words(self, prompts: Sequence[str], negative_prompt: str) -> list[TextCond]:
        """The prompts' rows, then what each is to keep away from, of the same lengths. An empty
        negative prompt is an absent one: SDXL then has zeros in its place."""
        pairs = [
            condition(self.encoders, self.recipe, prompt, negative_prompt or None)
            for prompt in prompts
        ]
        return [positive for positive, _ in pairs] + [negative for _, negative in pairs]

    def ask(
        self,
        words: list[TextCond],
        x: Tensor,
        times: Tensor,
        rows: Sequence[int],
        passes: Sequence[str],
    ) -> Tensor:
        half = len(words) // 2
        said = [
            words[row if name == "conditional" else half + row]
            for row, name in zip(rows, passes, strict=True)
        ]
        lengths = [one.sequence.shape[1] for one in said]
        out, vectors = torch.empty_like(x), self._vectors(said, x)
        # Long prompts have more tokens: one call for each length, so that no row is padded.
        for length in sorted(set(lengths)):
            at = [i for i, other in enumerate(lengths) if other == length]
            context = torch.cat([said[i].sequence for i in at]).to(x.dtype)
            vector = None if vectors is None else vectors[at]
            out[at] = self.unet(x[at], times[at], context, vector)
        return out

    def _vectors(self, said: Sequence[TextCond], x: Tensor) -> Tensor | None:
        """What SDXL is told beside the words, [E, V]: the whole text, and that the picture was
        never larger than it is and is not cut."""
        if not self.recipe.sizes:
            return None
        height, width = (side * self.vae.factor for side in x.shape[-2:])
        numbers = size_numbers(self.recipe, (width, height))
        pooled = torch.cat([one.pooled for one in said if one.pooled is not None])
        each = (self.unet.config.vector_width - pooled.shape[1]) // len(numbers)
        return torch.cat([size_vector(row[None], numbers, each) for row in pooled]).to(x.dtype)

    def encode(self, image: Tensor) -> Tensor:
        return self.vae.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent)
