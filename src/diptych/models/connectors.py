"""From a vision tower's states to rows of a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import gelu


@dataclass(frozen=True, kw_only=True)
class ConnectorConfig:
    """`kind`: `linear`, one map; `mlp`, two with a GELU between (LLaVA 1.5; Liu et al., 2023);
    `normed_mlp`, a norm before them (InternVL). `shuffle` r: r x r patches become one row, of r * r
    times the width (Shi et al., 2016, undone). `bias` of the maps. `newline`: rows of patches are
    ended by a learnt row (LLaVA-NeXT)."""

    kind: Literal["linear", "mlp", "normed_mlp"] = "mlp"
    shuffle: int = 1
    bias: bool = True
    newline: bool = False


class Connector(nn.Module):
    """States of patches to rows, fewer and wider."""

    def __init__(self, config: ConnectorConfig, width: int, rows: int):
        """`width` of the tower, `rows`: of the language model."""
        super().__init__()
        self.config = config
        wide = width * config.shuffle**2
        self.norm = nn.LayerNorm(wide) if config.kind == "normed_mlp" else None
        self.linear_1 = nn.Linear(wide, rows, bias=config.bias)
        two = config.kind != "linear"
        self.linear_2 = nn.Linear(rows, rows, bias=config.bias) if two else None

    def forward(self, states: Tensor, height: int, width: int) -> Tensor:
        """states [B, height * width, D] of patches -> rows [B, N, E]"""
        h = unshuffled(states, height, width, self.config.shuffle)
        if self.norm is not None:
            h = self.norm(h)
        h = self.linear_1(h)
        return h if self.linear_2 is None else self.linear_2(gelu(h))


def unshuffled(states: Tensor, height: int, width: int, side: int) -> Tensor:
    """[B, height * width, D] -> [B, height * width / side^2, D * side^2]: a block of side x side
    patches, row by row, is one row; blocks in reading order."""
    if side == 1:
        return states
    blocks = states.unflatten(1, (height // side, side, width // side, side))
    return blocks.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)
