"""The transformers that read words behind a mask, PixArt and Lumina, as painting asks them. How
they differ is data: a `Way`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.checkpoints.presets import Preset
from diptych.diffusion.guidance import Guidance, classifier_free
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.lumina2 import Lumina2
from diptych.models.lumina_next import LuminaNext
from diptych.models.pixart import PixArt
from diptych.nn.reuse import FirstBlock, FirstBlocks
from diptych.pipelines.painting import Asked, Networks, Request, in_groups, sides_of
from diptych.pipelines.reusing import of_its_own, of_kind, said_by_blocks, uncut
from diptych.pipelines.sampling import Sampling, scheduled
from diptych.pipelines.unpadded import Manner, Reader, read

LARGEST = 4096  # pixels a side
_GUIDED = 3  # channels of a latent that Lumina-Next guides


class Told(NamedTuple):
    """One picture's: words [1, L, D], those to keep away from, height and width [1, 2], and what
    is used again."""

    words: Tensor
    against: Tensor
    size: Tensor
    reuse: FirstBlock | None = None

    def side(self, name: str) -> Tensor:
        return self.words if name == "conditional" else self.against


# Of a network, x [B, C, h, w], times [B], words [B, L, D], their mask [B, L], sizes [B, 2] and
# what is used again, for those ways that know how.
Answer = Callable[[Any, Tensor, Tensor, Tensor, Tensor, Tensor, FirstBlocks | None], Tensor]


def _with_size(
    network: PixArt, x: Tensor, t: Tensor, words: Tensor, mask: Tensor, size: Tensor,
    reuse: FirstBlocks | None,
) -> Tensor:  # fmt: skip
    return network(x, t, words, mask, size if network.config.sizes else None, reuse)


def _plain(
    network: Lumina2 | LuminaNext, x: Tensor, t: Tensor, words: Tensor, mask: Tensor, size: Tensor,
    reuse: FirstBlocks | None,
) -> Tensor:  # fmt: skip
    return network(x, t, words, mask)


@dataclass(frozen=True, kw_only=True)
class Way:
    """`share`: of the steps, from noise on, that are guided; `matched` and `channels`: see
    `Guidance`. `approximation`: the kind that the answer knows."""

    manner: Manner
    answer: Answer
    share: float = 1.0
    matched: bool = False
    channels: int | None = None
    approximation: type | None = None


_SYSTEM = (
    "You are an assistant designed to generate superior images with the superior degree of "
    "image-text alignment based on textual prompts or user prompts. <Prompt Start> "
)
WAYS: dict[str, Way] = {
    "pixart-alpha": Way(
        manner=Manner(length=120, lower=True), answer=_with_size, approximation=FirstBlock
    ),
    "pixart-sigma": Way(
        manner=Manner(length=300, lower=True), answer=_with_size, approximation=FirstBlock
    ),
    "lumina-next": Way(
        manner=Manner(length=256, lower=True), answer=_plain, channels=_GUIDED
    ),
    "lumina2": Way(
        manner=Manner(length=256, before=_SYSTEM), answer=_plain, share=0.25, matched=True
    ),
}  # fmt: skip


@dataclass(frozen=True)
class WordedNetworks(Networks):
    """`reader` reads words, `transformer` paints latents in its family's `way`, `vae` makes them
    pictures; `preset` says how the family is sampled."""

    transformer: PixArt | LuminaNext | Lumina2
    vae: AutoencoderSD
    reader: Reader
    way: Way
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

    def modules(self) -> list[nn.Module]:
        return [self.transformer, self.vae, self.reader.network]

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        factor = self.vae.factor
        whole = factor * self.transformer.config.patch_size
        sides = sides_of(width, height, self.size, whole, LARGEST)
        return self.vae.config.latent_channels, sides[1] // factor, sides[0] // factor

    def tell(self, request: Request) -> list[Told]:
        request.extras.only("reading", "approximation")
        reuse = of_kind(request.extras.approximation, self.way.approximation)
        reading, manner = request.extras.reading, self.way.manner
        own = self.size
        sides = [float(request.size[1] or own[1]), float(request.size[0] or own[0])]
        size = torch.tensor([sides], device=self.device)
        against = read(self.reader, manner, request.negative_prompt, reading, negative=True)
        return [
            Told(
                read(self.reader, manner, prompt, reading).to(self.dtype),
                against.to(self.dtype),
                size,
                reuse,
            )
            for prompt in request.prompts
        ]

    def table(self, sampling: Sampling, shape: tuple[int, ...]) -> Table:
        return scheduled(sampling, self.preset, self.prediction)

    def guidance(self, sampling: Sampling) -> Guidance:
        interval = (0.0, inf)
        if self.way.share < 1:
            # Of one evaluation a step, whatever the solver.
            whole = replace(sampling, solver="euler", strength=1.0, part=(0.0, 1.0))
            nodes = self.table(whole, ()).nodes
            guided = int(sampling.steps * self.way.share)
            interval = (nodes[guided - 1].sigma, inf) if guided else (inf, inf)
        free = classifier_free(sampling.guidance, interval)
        return replace(free, matched=self.way.matched, channels=self.way.channels)

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        # A leading list leaves noise itself out, and was published with pure noise all the same.
        return noise if sampling.spacing == "leading" else noise * node.sigma

    def key(self, one: Asked) -> Hashable:
        """As many tokens: no row is padded."""
        return one.told.side(one.name).shape[1], of_its_own(one.told, one.told.reuse)

    def part(self, told: Told, top: int, left: int, height: int, width: int) -> Told:
        uncut(told.reuse)
        patch = self.transformer.config.patch_size
        if height % patch or width % patch:
            raise InvalidValue(
                f"Windows of {width} x {height} cells part a token of this model.",
                do=f"Choose multiples of {patch}.",
            )
        return told

    def ask(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        return in_groups(self.key, self._answer, x, times, asked)

    def _answer(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        """The network's word where all words are of one length."""
        context = torch.cat([one.told.side(one.name) for one in asked])
        mask = context.new_ones(context.shape[:2], dtype=torch.bool)
        size = torch.cat([one.told.size for one in asked])

        def ask(reuse: FirstBlocks | None) -> Tensor:
            return self.way.answer(self.transformer, x, times, context, mask, size, reuse)

        said = said_by_blocks(ask, asked, asked[0].told.reuse)
        # Of more channels than the latent has, the rest is a variance, or nothing.
        return self.preset.sign * said[:, : x.shape[1]]

    def encode(self, image: Tensor) -> Tensor:
        return self.vae.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent)
