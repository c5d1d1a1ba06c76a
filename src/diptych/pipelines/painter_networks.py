"""The scenes painter's networks, as painting asks them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.diffusion.guidance import Guidance, classifier_free
from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_kl import AutoencoderKL
from diptych.models.painter import Painter
from diptych.nn.reuse import FirstBlock, FirstBlocks
from diptych.pipelines.painting import Asked, Networks, Request, in_groups
from diptych.pipelines.reusing import of_its_own, of_kind, said_by_blocks, uncut
from diptych.pipelines.sampling import Sampling
from diptych.text.word_tokenizer import WordTokenizer


class Words(NamedTuple):
    """Tokens [1, L] of a prompt, and of what to keep away from, and what is used again."""

    tokens: Tensor
    against: Tensor
    reuse: FirstBlock | None = None


@dataclass(frozen=True)
class TextToImageNetworks(Networks):
    """Painter, autoencoder and tokenizer; the painter reads words and paints in one."""

    painter: Painter
    autoencoder: AutoencoderKL
    tokenizer: WordTokenizer
    latent_size: int
    prediction: str = "velocity"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        side = self.latent_size * self.autoencoder.factor
        return side, side

    def modules(self) -> list[nn.Module]:
        return [self.painter, self.autoencoder]

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        own = self.size
        if (width or own[0], height or own[1]) != own:
            raise InvalidValue(
                f"{width or own[0]} x {height or own[1]} is not offered.",
                do=f"This model paints {own[0]} x {own[1]}.",
            )
        return self.painter.config.denoiser.latent_channels, self.latent_size, self.latent_size

    @property
    def shown(self) -> str:
        return ""

    def tell(self, request: Request) -> list[Words]:
        request.extras.only("approximation")
        reuse = of_kind(request.extras.approximation, FirstBlock)
        against = self._tokens(request.negative_prompt)
        return [Words(self._tokens(prompt), against, reuse) for prompt in request.prompts]

    def _tokens(self, text: str) -> Tensor:
        # One length for all requests: a row's bits must not depend on its neighbours' words.
        tokenizer, longest = self.tokenizer, self.painter.config.text.length
        sentence = [tokenizer.bos, *tokenizer.check(text, longest - 2), tokenizer.eos]
        tokens = torch.full((1, longest), tokenizer.pad)
        tokens[0, : len(sentence)] = torch.tensor(sentence)
        return tokens.to(self.device)

    def table(self, sampling: Sampling, shape: tuple[int, ...]) -> Table:
        return sampling.table()

    def guidance(self, sampling: Sampling) -> Guidance:
        return classifier_free(sampling.guidance)

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        return noise

    def key(self, one: Asked) -> Hashable:
        return of_its_own(one.told, one.told.reuse)  # one length for all

    def part(self, told: Words, top: int, left: int, height: int, width: int) -> Words:
        uncut(told.reuse)
        return told

    def ask(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        return in_groups(self.key, self._answer, x, times, asked)

    def _answer(self, x: Tensor, times: Tensor, asked: Sequence[Asked]) -> Tensor:
        said = [one.told.tokens if one.name == "conditional" else one.told.against for one in asked]
        tokens = torch.cat(said)

        def ask(reuse: FirstBlocks | None) -> Tensor:
            return self.painter(x, times, tokens, tokens != self.tokenizer.pad, reuse)[0]

        return said_by_blocks(ask, asked, asked[0].told.reuse)

    def encode(self, image: Tensor) -> Tensor:
        return self.autoencoder.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent)
