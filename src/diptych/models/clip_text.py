"""CLIP's text transformer (Radford et al., 2021, section 2.4): what Stable Diffusion 1, 2 and XL,
SD3 and FLUX read words with. OpenCLIP's (Cherti et al., 2023) differ in size and GELU alone.

Names are those of the published `text_encoder` folders as transformers 5 writes them for a model
without projection, `embeddings.token_embedding.weight`. Older files, and all with a projection,
have `text_model.` before everything but `text_projection.weight`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from diptych.models.clip_blocks import Activation, ClipLayers
from diptych.nn.blocks import RowLinear


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
    """`projection`: width of the common space with pictures (0: no projection).

    `eos` ends each text, and its state stands for the whole. Many published configs say
    `eos_token_id` 2, which is wrong: their tokenizer's is 49407. transformers reads that 2 as
    "the largest number in the row", which is the end only while no word has a larger number, as
    every word of a textual inversion has. Here `eos` is the tokenizer's number, always.
    """

    vocabulary: int = 49408
    length: int = 77
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    activation: Activation = "quick_gelu"
    norm_epsilon: float = 1e-5
    projection: int = 0
    eos: int = 49407

    @classmethod
    def tiny(cls, **changes: Any) -> CLIPTextConfig:
        small = cls(
            vocabulary=40, length=10, width=24, depth=3, heads=4, hidden=40, projection=20, eos=39
        )
        return replace(small, **changes)


CLIP_L = CLIPTextConfig()
# The folders of SD 2 leave out the last of 24 layers, which nothing there reads.
OPENCLIP_H = CLIPTextConfig(width=1024, depth=23, heads=16, hidden=4096, activation="gelu")
OPENCLIP_BIGG = CLIPTextConfig(
    width=1280, depth=32, heads=20, hidden=5120, activation="gelu", projection=1280
)


class CLIPTextStates(NamedTuple):
    """`layers`: depth + 1 states [B, L, D], the embeddings first, none normed; `last` [B, L, D]:
    the last of them after the final norm; `pooled` [B, D]: `last` where a text ends; `projected`
    [B, P] or None."""

    layers: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor
    projected: Tensor | None


class CLIPText(nn.Module):
    """Tokens to their states after every layer, and to one vector for the whole text."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config)
        self.encoder = ClipLayers(config)
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.text_projection = (
            RowLinear(config.width, config.projection, bias=False) if config.projection else None
        )

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, learnt: Tensor | None = None
    ) -> CLIPTextStates:
        """tokens [B, L] int64, L <= `length`, `eos` in every row; mask [B, L] (True: a token; the
        first always is). The painters were trained without a mask: padding is read too.

        `learnt` [N, D]: what is read for the numbers from `vocabulary` on (textual inversion; Gal
        et al., 2022)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        seen = (places[:, None] >= places)[None, None]  # a token looks at itself and back
        if mask is not None:
            seen = seen & mask[:, None, None]
        layers = self.encoder(self.embeddings(tokens, learnt), seen)
        last = self.final_layer_norm(layers[-1])
        # The first: where padding is `eos` too, more of them follow.
        end = (tokens == self.config.eos).int().argmax(dim=1)
        pooled = last[torch.arange(len(last), device=last.device), end]
        project = self.text_projection
        return CLIPTextStates(layers, last, pooled, None if project is None else project(pooled))


class TextShape(Protocol):
    """What the embeddings need of a config."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def width(self) -> int: ...


class TextEmbeddings(nn.Module):
    """Words and their places."""

    def __init__(self, config: TextShape):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.length, config.width)

    def forward(self, tokens: Tensor, learnt: Tensor | None = None) -> Tensor:
        """tokens [B, L], L <= `length`, learnt [N, D] or None -> [B, L, D]"""
        places = self.position_embedding.weight[: tokens.shape[1]]
        table = self.token_embedding
        if learnt is None:
            return table(tokens) + places
        new = tokens >= table.num_embeddings
        words = table(tokens.masked_fill(new, 0))
        rows = learnt.to(words)[(tokens - table.num_embeddings).clamp(min=0)]
        return torch.where(new[..., None], rows, words) + places
