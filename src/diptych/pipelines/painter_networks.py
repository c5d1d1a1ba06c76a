"""The scenes painter's networks, as painting asks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_kl import AutoencoderKL
from diptych.models.painter import Painter
from diptych.pipelines.text_to_image import Sampling
from diptych.text.word_tokenizer import WordTokenizer


class Words(NamedTuple):
    """`tokens` and `mask` [2 B, L]: words, then what to keep away from."""

    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True)
class TextToImageNetworks:
    """Painter, autoencoder and tokenizer; the painter reads words and paints in one."""

    painter: Painter
    autoencoder: AutoencoderKL
    tokenizer: WordTokenizer
    latent_size: int
    prediction: str = "velocity"

    @property
    def dtype(self) -> torch.dtype:
        return next(self.painter.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.painter.parameters()).device

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        side = self.latent_size * self.autoencoder.factor
        return side, side

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.painter.to(device, dtype)
        self.autoencoder.to(device, dtype)

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        own = self.size
        if (width or own[0], height or own[1]) != own:
            raise InvalidValue(
                f"{width or own[0]} x {height or own[1]} is not offered.",
                do=f"This model paints {own[0]} x {own[1]}.",
            )
        return self.painter.config.denoiser.latent_channels, self.latent_size, self.latent_size

    def words(self, prompts: Sequence[str], negative_prompt: str) -> Words:
        tokenizer, longest = self.tokenizer, self.painter.config.text.length
        texts = [*prompts, *[negative_prompt] * len(prompts)]
        ids = [
            [tokenizer.bos, *tokenizer.check(text, longest - 2), tokenizer.eos] for text in texts
        ]
        # One length for all requests: a row's bits must not depend on its neighbours' words.
        tokens = torch.full((len(ids), longest), tokenizer.pad)
        for row, sentence in enumerate(ids):
            tokens[row, : len(sentence)] = torch.tensor(sentence)
        tokens = tokens.to(self.device)
        return Words(tokens, tokens != tokenizer.pad)

    def table(self, sampling: Sampling) -> Table:
        return sampling.table()

    def first(self, noise: Tensor, sampling: Sampling, node: Node) -> Tensor:
        return noise

    def ask(
        self, words: Words, x: Tensor, times: Tensor, rows: Sequence[int], passes: Sequence[str]
    ) -> Tensor:
        half = len(words.tokens) // 2
        at = [
            r if name == "conditional" else half + r for r, name in zip(rows, passes, strict=True)
        ]
        return self.painter(x, times, words.tokens[at], words.mask[at])[0]

    def encode(self, image: Tensor) -> Tensor:
        return self.autoencoder.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent)
