"""DiT, which paints classes and reads no words, as painting asks it: a prompt is the name of a
class, or its number."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.checkpoints.presets import Preset
from diptych.diffusion.guidance import Guidance, classifier_free
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue, unknown
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.dit import DiT
from diptych.pipelines.painting import Asked, Networks, Request
from diptych.pipelines.sampling import Sampling, scheduled


class Label(NamedTuple):
    """The number of a class."""

    number: int


def class_number(prompt: str, labels: Mapping[str, int], classes: int) -> Label:
    """Raises NotFound, which names the nearest class, or InvalidValue."""
    prompt = prompt.strip()
    if prompt in labels:
        return Label(labels[prompt])
    if prompt.isdecimal():
        if int(prompt) < classes:
            return Label(int(prompt))
        raise InvalidValue(
            f"There is no class {prompt}.", do=f"Choose 0 to {classes - 1}, or a name."
        )
    if labels:
        raise unknown("class", prompt, labels, see="A number will do as well.")
    raise InvalidValue(
        f"{prompt!r} is no number, and no file says the names of classes.",
        do=f"Choose 0 to {classes - 1}.",
    )


def labels_of(index: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of classes by their names, as a model_index.json says them: each class has
    several names with commas between."""
    said = index.get("id2label") or {}
    labels = {
        name.strip(): int(number) for number, names in said.items() for name in names.split(",")
    }
    return dict(sorted(labels.items()))


@dataclass(frozen=True)
class LabelledNetworks(Networks):
    """`labels`: the numbers of classes by their names, none where no file says them."""

    transformer: DiT
    vae: AutoencoderSD
    labels: Mapping[str, int]
    preset: Preset

    @property
    def prediction(self) -> str:
        return self.preset.prediction

    @property
    def size(self) -> tuple[int, int]:
        side = self.transformer.config.side * self.vae.factor
        return side, side

    @property
    def shown(self) -> str:
        return ""

    @property
    def reads(self) -> str:
        return "classes"

    def modules(self) -> list[nn.Module]:
        return [self.transformer, self.vae]

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        own = self.size
        if (width or own[0], height or own[1]) != own:
            raise InvalidValue(
                f"{width or own[0]} x {height or own[1]} is not offered.",
                do=f"This model paints {own[0]} x {own[1]}.",
            )
        side = self.transformer.config.side
        return self.vae.config.latent_channels, side, side

    def tell(self, request: Request) -> list[Label]:
        request.extras.only()
        if request.negative_prompt:
            raise InvalidValue("This model knows classes, no words.", do="Leave the negative out.")
        classes = self.transformer.config.classes
        return [class_number(prompt, self.labels, classes) for prompt in request.prompts]

    def table(self, sampling: Sampling, shape: tuple[int, ...]) -> Table:
        return scheduled(sampling, self.preset, self.prediction)

    def guidance(self, sampling: Sampling) -> Guidance:
        return classifier_free(sampling.guidance)

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        # A leading list leaves noise itself out, and was published with pure noise all the same.
        return noise if sampling.spacing == "leading" else noise * node.sigma

    def key(self, one: Asked) -> Hashable:
        return ()  # classes are all of one shape

    def part(self, told: Label, top: int, left: int, height: int, width: int) -> Label:
        patch = self.transformer.config.patch_size
        if height % patch or width % patch:
            raise InvalidValue(
                f"Windows of {width} x {height} cells part a token of this model.",
                do=f"Choose multiples of {patch}.",
            )
        return told

    def ask(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        none = self.transformer.config.classes
        numbers = [one.told.number if one.name == "conditional" else none for one in asked]
        said = self.transformer(x, times, torch.tensor(numbers, device=x.device))
        return said[:, : x.shape[1]]  # the rest is a variance

    def encode(self, image: Tensor) -> Tensor:
        return self.vae.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent)
