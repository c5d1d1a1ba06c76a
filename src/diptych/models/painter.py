"""Words and a noisy latent to a velocity: a text encoder and an MMDiT trained as one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from diptych.models.mmdit import MMDiT, MMDiTConfig
from diptych.models.text_encoder import TextEncoder, TextEncoderConfig
from diptych.nn.reuse import FirstBlocks


@dataclass(frozen=True, kw_only=True)
class PainterConfig:
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    denoiser: MMDiTConfig = field(default_factory=MMDiTConfig)

    @classmethod
    def tiny(cls, **changes: object) -> PainterConfig:
        return replace(cls(text=TextEncoderConfig.tiny(), denoiser=MMDiTConfig.tiny()), **changes)


class Painter(nn.Module):
    """Words and a noisy latent to a velocity, which a solver asks for."""

    def __init__(self, config: PainterConfig):
        super().__init__()
        self.config = config
        self.text, self.denoiser = TextEncoder(config.text), MMDiT(config.denoiser)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor,
        mask: Tensor,
        reuse: FirstBlocks | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, C, H, W], t [B] in 0..1 (1: noise), tokens [B, L] int64, mask [B, L] (True: a
        word) -> velocity [B, C, H, W], layout logits [B, N, K] or None"""
        context, pooled = self.text(tokens, mask)
        return self.denoiser(x, t, context, mask, pooled, reuse)
