"""A vision tower, a connector and a language model: LLaVA (Liu et al., 2023), Idefics 3 and SmolVLM
(Laurençon et al., 2024; Marafioti et al., 2025), InternVL (Chen et al., 2024), PaliGemma (Beyer et
al., 2024), by their configs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diptych.imaging.plan import Newline, Rows, TokenPlan
from diptych.models.clip import CLIP_L14_336
from diptych.models.connectors import Connector, ConnectorConfig
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import DecoderConfig
from diptych.models.vision_tower import VisionTower, VisionTowerConfig

_TINY = VisionTowerConfig.tiny(
    registers=0, layer_scale=0.0, pooling="class", activation="quick_gelu", norm_epsilon=1e-5,
    patch_bias=False, input_norm=True, placing="fixed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """`layer`: of the tower, whose states are looked through; those behind it are not run.
    `normed`: behind the tower's last norm; `drops_class`: without the class token. `picture_token`:
    the word that stands for a picture's rows in a prompt. `sees_all`: rows of pictures and question
    see one another (PaliGemma), else each the rows before it."""

    vision: VisionTowerConfig = field(default_factory=lambda: CLIP_L14_336.vision)
    layer: int = -2
    normed: bool = False
    drops_class: bool = True
    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    language: DecoderConfig = field(default_factory=DecoderConfig)
    picture_token: int = 32_000
    sees_all: bool = False

    @classmethod
    def tiny(cls, **changes: Any) -> VLMConfig:
        small = cls(
            vision=_TINY, language=DecoderConfig.tiny(), picture_token=39
        )  # fmt: skip
        return replace(small, **changes)

    @property
    def side(self) -> int:
        """Patches along a tile."""
        return self.vision.image_size // self.vision.patch_size

    @property
    def rows(self) -> tuple[int, int]:
        """Of one tile: rows and columns."""
        side = self.side // self.connector.shuffle
        return side, side


LLAVA_15_7B = VLMConfig(vision=CLIP_L14_336.vision, language=DecoderConfig(vocabulary=32_064))


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
        config = self.config
        seen = self.vision(tiles, layer=config.layer)
        h = seen.last if config.normed and seen.last is not None else seen.states
        if config.drops_class:
            h = h[:, config.vision.prefix :]
        return self.connector(h, config.side, config.side)

    def see(self, tiles: Tensor, plan: TokenPlan) -> Tensor:
        """tiles [T, 3, S, S] float32 of a picture -> its rows [plan.count(), D]. One at a time:
        the bits of a tile do not depend on how many there are."""
        weight = self.language.embed_tokens.weight
        ready = tiles.to(weight.device, weight.dtype)
        return self.rows_of(torch.cat([self.look(tile[None]) for tile in ready]), plan)

    def places(self, tokens: Sequence[int], plans: Sequence[TokenPlan]) -> tuple[Tensor, int]:
        """Of a prompt's rows, [N], and that of the next token."""
        return torch.arange(len(tokens)), len(tokens)

    def rows_of(self, seen: Tensor, plan: TokenPlan) -> Tensor:
        """seen [T, N, D] of a picture's tiles -> its rows [plan.count(), D], in order."""
        grid = None if plan.grid is None else self._laid(seen.unflatten(1, self.config.rows), plan)
        parts, done = list[Tensor](), 0
        for segment in plan.segments:
            if isinstance(segment, Newline):
                parts.append(self._newline()[None])
            elif isinstance(segment, Rows) and segment.tile is not None:
                parts.append(seen[segment.tile])
            elif isinstance(segment, Rows) and grid is not None:
                count = segment.rows * segment.columns
                parts.append(grid[done : done + count])
                done += count
        rows = torch.cat(parts)
        plan.check(len(rows), index=0, what="rows")
        return rows

    def _newline(self) -> Tensor:
        if self.image_newline is None:
            raise ValueError("the model has no row that ends a line")
        return self.image_newline

    def _laid(self, seen: Tensor, plan: TokenPlan) -> Tensor:
        """seen [T, rows, columns, D]: the tiles that were cut, side by side, their margins taken
        off, shrunk if they are too many -> [cells, D] in reading order."""
        grid = plan.grid
        if grid is None:
            raise ValueError("the plan has no grid")
        cut = [i for i, tile in enumerate(plan.tiles) if tile.of == "cut"]
        down = grid.height // seen.shape[1]
        tiles = seen[cut].unflatten(0, (down, -1)).transpose(1, 2)
        left, top, right, bottom = grid.box
        inside = tiles.flatten(2, 3).flatten(0, 1)[top:bottom, left:right]
        if (grid.rows, grid.columns) != tuple(inside.shape[:2]):
            moved = inside.permute(2, 0, 1)[None]
            size = (grid.rows, grid.columns)
            inside = interpolate(moved, size, mode="bilinear")[0].permute(1, 2, 0)
        return inside.flatten(0, 1)

    def forward(self, tiles: Tensor, tokens: Tensor) -> Tensor:
        """tiles [T, 3, S, S], tokens [B, L] with a picture token for each row of the tiles, in
        order -> logits of the next tokens [B, L, V]"""
        language = self.language
        rows = language.embed(tokens)
        seen = (tokens == self.config.picture_token)[..., None]
        rows = rows.masked_scatter(seen, self.look(tiles).to(rows.dtype))
        return language.logits(language(rows))
