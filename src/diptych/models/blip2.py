"""BLIP-2 (Li et al., 2023) with OPT or with T5: a Q-Former's rows before the words of a language
model, or in its encoder; and InstructBLIP (Dai et al., 2023), whose Q-Former reads what is asked,
with T5 or with Vicuna."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.blip import BLIP_TOWER
from diptych.models.classic_config import OPT_27B, ClassicConfig
from diptych.models.classic_decoder import ClassicDecoder, ClassicStack
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import DecoderConfig
from diptych.models.qformer import QFormer, QFormerConfig
from diptych.models.vision_tower import VisionTower, VisionTowerConfig

EVA_TOWER = replace(
    BLIP_TOWER, image_size=224, patch_size=14, width=1408, depth=39, heads=16, hidden=6144,
    norm_epsilon=1e-6,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Blip2Config:
    """`reader`: the encoder of a language model that has one (T5), or None; its words are those of
    `words`. `llama`: a language model of that layout in the place of `words`, or None."""

    vision: VisionTowerConfig = field(default_factory=lambda: EVA_TOWER)
    former: QFormerConfig = field(default_factory=QFormerConfig)
    words: ClassicConfig = field(default_factory=lambda: OPT_27B)
    reader: ClassicConfig | None = None
    llama: DecoderConfig | None = None

    @classmethod
    def tiny(cls, **changes: Any) -> Blip2Config:
        vision = replace(
            EVA_TOWER, image_size=16, patch_size=4, width=20, depth=2, heads=4, hidden=40
        )
        former = QFormerConfig.tiny()
        former = replace(former, layers=replace(former.layers, vocabulary=0, positions=0))
        words = ClassicConfig.tiny(activation="relu", offset=2, memory=0, head_bias=False)
        return replace(cls(vision=vision, former=former, words=words), **changes)

    @property
    def rows(self) -> tuple[int, int]:
        """Of a picture."""
        return 1, self.former.queries


class Blip2(nn.Module):
    """A picture, and words about it."""

    def __init__(self, config: Blip2Config):
        super().__init__()
        self.config = config
        self.vision = VisionTower(config.vision)
        self.former = QFormer(config.former)
        width = config.words.width if config.llama is None else config.llama.width
        self.linear = nn.Linear(config.former.layers.width, width)
        self.reader = None if config.reader is None else ClassicStack(config.reader)
        self.language: ClassicDecoder | Decoder = (
            ClassicDecoder(config.words) if config.llama is None else Decoder(config.llama)
        )

    def opening(
        self, tiles: Tensor, question: Tensor | None = None, asked: Tensor | None = None
    ) -> Tensor:
        """tiles [B, 3, S, S], normalized as CLIP's, a question [L] for a model that has an encoder,
        and what is asked [M] in words of a Q-Former that reads -> rows of a picture
        [B, queries, D], or states of both [B, queries + L, D]"""
        last = self.vision(tiles).last
        assert last is not None
        words = None if asked is None else asked.expand(len(last), -1)
        rows = self.linear(self.former(last, words))
        if self.reader is None:
            return rows
        if question is not None:
            words = self.language.embed(question).expand(len(rows), -1, -1)
            rows = torch.cat([rows, words], dim=1)
        return self.reader(rows)

    def forward(
        self,
        image: Tensor,
        tokens: Tensor,
        question: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """image [B, 3, S, S], tokens [B, L] behind the picture, or, with an encoder, of an answer;
        `question` and `asked` as `opening` -> logits of the next tokens [B, L, V]"""
        language = self.language
        seen, words = self.opening(image, question, asked), language.embed(tokens)
        if self.reader is not None and isinstance(language, ClassicDecoder):
            return language.logits(language(words, memory=seen))
        states = language(torch.cat([seen, words], dim=1))
        return language.logits(states[:, seen.shape[1] :])
