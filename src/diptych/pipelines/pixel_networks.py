"""The U-Nets of DDPM and ADM, which paint pixels and read no words, as painting asks them: where
there are classes a prompt is the name of one, or its number, and else it is empty."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diptych.checkpoints.presets import Preset
from diptych.diffusion.guidance import Guidance
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.models.unet_adm import UNetADM
from diptych.pipelines.labelled import Label, class_number
from diptych.pipelines.painting import Asked, Networks, Request, sides_of
from diptych.pipelines.sampling import Sampling, scheduled

LARGEST = 1024  # pixels a side


@dataclass(frozen=True)
class PixelNetworks(Networks):
    """`size`: width and height that the network was trained on. `labels`: the numbers of classes
    by their names, none where no file says them. `clip`: each picture that the network predicts is
    cut to -clip..clip, 0 for not (as both were published)."""

    unet: UNetADM
    labels: Mapping[str, int]
    preset: Preset
    size: tuple[int, int]
    clip: float = 0.0

    @property
    def prediction(self) -> str:
        return self.preset.prediction

    @property
    def shown(self) -> str:
        return ""

    @property
    def reads(self) -> str:
        return "classes" if self.unet.config.classes else "nothing"

    def modules(self) -> list[nn.Module]:
        return [self.unet]

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        sides, channels = (width or self.size[0], height or self.size[1]), self.unet.config
        if sides != self.size:
            sides = sides_of(*sides, self.size, 2 ** (len(channels.widths) - 1), LARGEST)
        return channels.in_channels, sides[1], sides[0]

    def tell(self, request: Request) -> list[Label | None]:
        request.extras.only()
        if request.negative_prompt:
            raise InvalidValue("This model reads no words.", do="Leave the negative out.")
        classes = self.unet.config.classes
        if classes:
            return [class_number(one, self.labels, classes) for one in request.prompts]
        if words := [one for one in request.prompts if one.strip()]:
            raise InvalidValue(
                f"This model paints what it was trained on, and reads no {words[0]!r}.",
                do='Leave the prompt empty: "".',
            )
        return [None for _ in request.prompts]

    def table(self, sampling: Sampling, shape: tuple[int, ...]) -> Table:
        return scheduled(sampling, self.preset, self.prediction)

    def guidance(self, sampling: Sampling) -> Guidance:
        if sampling.guidance != 1:
            raise InvalidValue(
                f"This model has nothing to be guided away from, and a guidance of "
                f"{sampling.guidance:g} is asked for.",
                do="Leave it out.",
            )
        return Guidance(clip=self.clip)

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        # A leading list leaves noise itself out, and was published with pure noise all the same.
        return noise if sampling.spacing == "leading" else noise * node.sigma

    def key(self, one: Asked) -> Hashable:
        return ()  # all are of one shape

    def part(self, told: Label | None, top: int, left: int, height: int, width: int) -> Any:
        return told

    def ask(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        numbers = [one.told.number for one in asked if one.told is not None]
        labels = torch.tensor(numbers, device=x.device) if numbers else None
        said = self.unet(x, times, labels)
        return said[:, : x.shape[1]]  # the rest is a variance, which DDIM does without

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, latent: Tensor) -> Tensor:
        return latent
