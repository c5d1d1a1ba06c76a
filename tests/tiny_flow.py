"""SD3 and FLUX of few weights, all drawn, each as one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from diptych.checkpoints.write import write_single_file
from diptych.models.autoencoder_sd import FLUX_VAE, SD3_VAE, AutoencoderSD
from diptych.models.clip_text import CLIPText
from diptych.models.flux import Flux, FluxConfig
from diptych.models.sd3 import SD3, SD3Config
from diptych.models.t5_encoder import T5Encoder, T5EncoderConfig
from tests.tiny_stable_diffusion import CLIP, VAE, all_drawn

# What a file of weights does not say is as `checkpoints` assumes it: SD3 has as many blocks as
# heads of 64 channels, FLUX has heads of 128.
SD3_TINY = SD3Config(
    depth=2, heads=2, context_width=256, pooled_width=64 + 48, positions=8, normed=True, dual=(0,)
)
FLUX = FluxConfig(depth=1, single_depth=2, heads=1, context_width=256, pooled_width=64)
T5 = T5EncoderConfig(vocabulary=220, width=256, depth=2, heads=2, head_dim=24, hidden=64)
CLIP_L = replace(CLIP, activation="gelu")
CLIP_G = replace(CLIP, width=128, depth=3, heads=2, projection=48)


def _sd3(config: SD3Config) -> dict[str, nn.Module]:
    return {
        "transformer": SD3(config),
        "vae": AutoencoderSD(_vae(SD3_VAE.scale, SD3_VAE.shift)),
        "text_encoder": CLIPText(CLIP_L),
        "text_encoder_2": CLIPText(CLIP_G),
        "text_encoder_3": T5Encoder(T5),
    }


def _flux(config: FluxConfig) -> dict[str, nn.Module]:
    return {
        "transformer": Flux(config),
        "vae": AutoencoderSD(_vae(FLUX_VAE.scale, FLUX_VAE.shift)),
        "text_encoder": CLIPText(CLIP_L),
        "text_encoder_2": T5Encoder(T5),
    }


def _vae(scale: float, shift: float):
    return replace(VAE, latent_channels=16, quant_convs=False, scale=scale, shift=shift)


FLOWS: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "sd3": lambda: _sd3(replace(SD3_TINY, normed=False, dual=())),
    "sd3.5-medium": lambda: _sd3(SD3_TINY),
    "sd3.5-large": lambda: _sd3(replace(SD3_TINY, dual=())),
    "flux-dev": lambda: _flux(FLUX),
    "flux-schnell": lambda: _flux(replace(FLUX, guidance=False)),
    "flux-fill": lambda: _flux(replace(FLUX, in_channels=96)),
    "flux-control": lambda: _flux(replace(FLUX, in_channels=32)),
}


def tiny_flow(family: str, seed: int = 0) -> dict[str, nn.Module]:
    """The components of a family with drawn weights, float32."""
    return all_drawn(FLOWS[family](), seed)


def tiny_flow_file(path: Path, family: str) -> Path:
    """All of it in the original layout."""
    return write_single_file(path, tiny_flow(family))
