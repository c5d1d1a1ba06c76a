"""A vision tower, a connector and a language model: LLaVA (Liu et al., 2023), Idefics 3 and SmolVLM
(Laurençon et al., 2024; Marafioti et al., 2025), InternVL (Chen et al., 2024), PaliGemma (Beyer et
al., 2024), by their configs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diptych.imaging.plan import Mosaic, TokenPlan, Whole
from diptych.models.connectors import Connector, ConnectorConfig
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import DecoderConfig
from diptych.models.vision_tower import TowerConfig, VisionTower


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """`picture_token`: the word that stands for a picture's rows in a prompt. `sees_all`: rows of
    pictures and question see one another (PaliGemma), else each the rows before it."""

    vision: TowerConfig = field(default_factory=TowerConfig)
    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    language: DecoderConfig = field(default_factory=DecoderConfig)
    picture_token: int = 32_000
    sees_all: bool = False

    @classmethod
    def tiny(cls, **changes: Any) -> VLMConfig:
        small = cls(
            vision=TowerConfig.tiny(), language=DecoderConfig.tiny(), picture_token=39
        )  # fmt: skip
        return replace(small, **changes)

    @property
    def rows(self) -> tuple[int, int]:
        """Of one tile: rows and columns."""
        side = self.vision.side // self.connector.shuffle
        return side, side


LLAVA_15_7B = VLMConfig(language=DecoderConfig(vocabulary=32_064))


class VLM(nn.Module):
    """Tiles of pictures to rows, and rows among words to words."""

    def __init__(self, config: VLMConfig):
        super().__init__()
        self.config = config
        self.vision = VisionTower(config.vision)
        width = config.language.width
        self.connector = Connector(config.connector, config.vision.width, width)
        self.language = Decoder(config.language)
        newline = config.connector.newline
        self.image_newline = nn.Parameter(torch.randn(width) * width**-0.5) if newline else None

    def look(self, tiles: Tensor) -> Tensor:
        """tiles [T, 3, S, S], normalized as it was trained -> rows [T, N, D]"""
        side = self.config.vision.side
        return self.connector(self.vision(tiles), side, side)

    def rows_of(self, seen: Tensor, plan: TokenPlan) -> Tensor:
        """seen [T, N, D] of a picture's tiles -> its rows [plan.count, D], in order."""
        side = self.config.rows
        parts = list[Tensor]()
        for segment in plan.segments:
            if isinstance(segment, Whole):
                parts.append(seen[segment.tile])
            elif isinstance(segment, Mosaic):
                parts.append(self._put_together(seen.unflatten(1, side), segment))
        rows = torch.cat(parts)
        plan.check(len(rows))
        return rows

    def _put_together(self, seen: Tensor, mosaic: Mosaic) -> Tensor:
        """seen [T, rows, columns, D] -> [mosaic.count, D]"""
        last = mosaic.first + mosaic.down * mosaic.across
        tiles = seen[mosaic.first : last].unflatten(0, (mosaic.down, mosaic.across))
        whole = tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1)
        height, width = mosaic.inside
        inside = whole[mosaic.top : mosaic.top + height, mosaic.left : mosaic.left + width]
        if mosaic.size != mosaic.inside:
            moved = inside.permute(2, 0, 1)[None]
            inside = interpolate(moved, mosaic.size, mode="bilinear")[0].permute(1, 2, 0)
        if self.image_newline is None:
            raise ValueError("the model has no row that ends a line")
        ends = self.image_newline.expand(inside.shape[0], 1, -1)
        return torch.cat([inside, ends], dim=1).flatten(0, 1)

    def forward(self, tiles: Tensor, tokens: Tensor) -> Tensor:
        """tiles [T, 3, S, S], tokens [B, L] with a picture token for each row of the tiles, in
        order -> logits of the next tokens [B, L, V]"""
        language = self.language
        rows = language.embed(tokens)
        seen = (tokens == self.config.picture_token)[..., None]
        rows = rows.masked_scatter(seen, self.look(tiles).to(rows.dtype))
        return language.logits(language(rows))
