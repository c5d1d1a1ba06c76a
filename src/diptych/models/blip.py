"""BLIP (Li et al., 2022): a vision tower whose states a BERT looks at, as a captioner, as one that
answers questions, and as one that tells whether a picture and a text belong together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.classic_config import ClassicConfig
from diptych.models.classic_decoder import ClassicDecoder, ClassicStack
from diptych.models.clip import unit
from diptych.models.vision_tower import VisionTower, VisionTowerConfig
from diptych.nn.blocks import RowLinear

BLIP_TOWER = VisionTowerConfig(
    image_size=384, norm_epsilon=1e-5, placing="fixed", pooling="none"
)  # fmt: skip
BLIP_WORDS = ClassicConfig(
    vocabulary=30_524, activation="gelu", positions=512, post_norm=True, embed_norm=True,
    final_norm=False, norm_epsilon=1e-12, memory=768,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BlipConfig:
    """`decoder`: says words, or None; `encoder`: reads a question or text beside the picture, or
    None. `projection`: width of the space of pictures and texts, of one that matches them; else 0.
    """

    vision: VisionTowerConfig = field(default_factory=lambda: BLIP_TOWER)
    decoder: ClassicConfig | None = field(
        default_factory=lambda: replace(BLIP_WORDS, head_bias=True, transform=True)
    )
    encoder: ClassicConfig | None = None
    projection: int = 0

    @classmethod
    def tiny(cls, **changes: Any) -> BlipConfig:
        vision = replace(
            BLIP_TOWER, image_size=16, patch_size=4, width=24, depth=2, heads=4, hidden=40
        )
        words = ClassicConfig.tiny(
            activation="gelu", post_norm=True, embed_norm=True, final_norm=False, memory=24,
            transform=True, tied=True,
        )  # fmt: skip
        return replace(cls(vision=vision, decoder=words), **changes)

    @property
    def rows(self) -> tuple[int, int]:
        """Patches of a picture: rows and columns."""
        side = self.vision.image_size // self.vision.patch_size
        return side, side


class Blip(nn.Module):
    """Pictures, and words about them."""

    def __init__(self, config: BlipConfig):
        super().__init__()
        self.config = config
        self.vision = VisionTower(config.vision)
        self.decoder = None if config.decoder is None else ClassicDecoder(config.decoder)
        self.encoder = None if config.encoder is None else ClassicStack(config.encoder)
        space, seen = config.projection, config.vision.width
        words = config.encoder.width if config.encoder is not None else 0
        self.vision_proj = RowLinear(seen, space) if space else None
        self.text_proj = RowLinear(words, space) if space else None
        self.itm_head = RowLinear(words, 2) if space else None

    @property
    def language(self) -> ClassicDecoder:
        """What says words. Raises ValueError for one that says none."""
        if self.decoder is None:
            raise ValueError("this BLIP says no words")
        return self.decoder

    def look(self, image: Tensor) -> Tensor:
        """image [B, 3, S, S], normalized as CLIP's -> states [B, N, D]"""
        last = self.vision(image).last
        assert last is not None
        return last

    def opening(self, tiles: Tensor, question: Tensor | None = None) -> Tensor:
        """A picture [1, 3, S, S] and a question [L] -> what the decoder looks at [1, M, D]: the
        picture, or the states of the question that has looked at it."""
        seen = self.look(tiles)
        if self.encoder is None or question is None:
            return seen
        return self.read(question[None], seen)

    def read(self, tokens: Tensor, seen: Tensor | None, filled: Tensor | None = None) -> Tensor:
        """tokens [B, L], of which `filled` [B, L] are no padding, beside a picture's states
        [B, N, D] or without -> states [B, L, D]"""
        assert self.encoder is not None
        mask = None if filled is None else filled[:, None, None]
        return self.encoder(self.encoder.embed(tokens), mask=mask, memory=seen)

    def match(self, image: Tensor, tokens: Tensor, filled: Tensor | None = None) -> Tensor:
        """Whether each picture and the text of its row belong together: logits [B, 2] of no and
        yes (section 3.2, image-text matching)."""
        assert self.itm_head is not None
        return self.itm_head(self.read(tokens, self.look(image), filled)[:, 0])

    def vectors(
        self, image: Tensor, tokens: Tensor, filled: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Of pictures and of texts, [B, E] of unit length: their product is a cosine (image-text
        contrast)."""
        assert self.vision_proj is not None and self.text_proj is not None
        seen, read = self.look(image)[:, 0], self.read(tokens, None, filled)[:, 0]
        return unit(self.vision_proj(seen)), unit(self.text_proj(read))

    def forward(self, image: Tensor, tokens: Tensor, question: Tensor | None = None) -> Tensor:
        """image [B, 3, S, S], tokens [B, L] of an answer that begins, and of a question [B, M] ->
        logits of the next tokens [B, L, V]"""
        seen = self.look(image)
        if question is not None:
            seen = self.read(question, seen)
        return self.language.logits(self.language(self.language.embed(tokens), memory=seen))


def caption_loss(logits: Tensor, tokens: Tensor, smoothing: float = 0.0, pad: int = 0) -> Tensor:
    """Cross-entropy of each next token, [B, L, V] and [B, L], without padding (section 3.2)."""
    wanted = tokens[:, 1:].masked_fill(tokens[:, 1:] == pad, -100)
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), wanted.flatten(), label_smoothing=smoothing
    )
