"""PaliGemma sees a picture once, squeezed (Beyer et al., 2024). Its three sizes."""

from __future__ import annotations

from diptych.models.llava.inputs import FixedSpec

PALIGEMMA_224 = FixedSpec(width=224, height=224, rows=16, columns=16)
PALIGEMMA_448 = FixedSpec(width=448, height=448, rows=32, columns=32)
# Its one resolution is beyond the default limit.
PALIGEMMA_896 = FixedSpec(width=896, height=896, rows=64, columns=64, max_visual_tokens=4096)
