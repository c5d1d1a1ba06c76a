"""A config said as a published config.json is read back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diptych.checkpoints.families.config_said import config_said
from diptych.checkpoints.layouts import KINDS
from diptych.foundation.errors import InvalidValue
from diptych.models import (
    autoencoder_sd,
    clip_text,
    dit,
    flux,
    gemma_encoder,
    lumina2,
    lumina_next,
    pixart,
    sd3,
    t5_encoder,
    unet,
)
from diptych.models.unet_adm import UNetADMConfig

_CLIP = {"projection": 24, "eos": 49407}
# kind -> published sizes, and a tiny one in which every value is unlike its default
SIZES: dict[str, list[Any]] = {
    "unet": [
        unet.SD1, unet.SD1_INPAINT, unet.SD1_PIX2PIX, unet.SD2, unet.SDXL, unet.SDXL_REFINER,
        unet.UNetConfig.tiny(in_channels=5, out_channels=3, heads=(2, 8)),
    ],
    "vae": [
        autoencoder_sd.SD_VAE, autoencoder_sd.SDXL_VAE, autoencoder_sd.SD3_VAE,
        autoencoder_sd.FLUX_VAE, autoencoder_sd.AutoencoderSDConfig.tiny(image_channels=1),
    ],
    "text_encoder": [
        clip_text.CLIP_L, clip_text.OPENCLIP_H, clip_text.OPENCLIP_BIGG,
        clip_text.CLIPTextConfig.tiny(norm_epsilon=1e-4, **_CLIP),
    ],
    "t5": [
        t5_encoder.T5_XXL,
        t5_encoder.T5EncoderConfig.tiny(buckets=16, distance=64, norm_epsilon=1e-4),
    ],
    "gemma": [
        gemma_encoder.GEMMA_2B, gemma_encoder.GEMMA2_2B, gemma_encoder.GemmaConfig.tiny(base=500.0),
        gemma_encoder.GemmaConfig.tiny(cap=0.0, norm_epsilon=1e-4),
    ],
    "sd3": [sd3.SD3_MEDIUM, sd3.SD35_MEDIUM, sd3.SD35_LARGE, sd3.SD3Config.tiny(out_channels=5)],
    "flux": [
        flux.FLUX_DEV, flux.FLUX_SCHNELL, flux.FLUX_FILL, flux.FLUX_CONTROL, flux.FluxConfig.tiny(),
    ],
    "pixart": [
        pixart.PIXART_ALPHA, pixart.PIXART_ALPHA_512, pixart.PIXART_SIGMA,
        pixart.PixArtConfig.tiny(sizes=True, out_channels=4, interpolation=1.5),
    ],
    "dit": [dit.DIT_XL_2, dit.DiTConfig.tiny(out_channels=4, in_channels=3)],
    "lumina-next": [
        lumina_next.LUMINA_NEXT, lumina_next.LuminaNextConfig.tiny(norm_epsilon=1e-4),
        lumina_next.LuminaNextConfig.tiny(out_channels=4, hidden=61),
    ],
    "lumina2": [lumina2.LUMINA2, lumina2.Lumina2Config.tiny(norm_epsilon=1e-4, hidden=97)],
}  # fmt: skip
CASES = [(kind, config) for kind, configs in SIZES.items() for config in configs]


@pytest.mark.parametrize(("kind", "config"), CASES)
def test_what_is_said_is_read_back(kind: str, config: Any):
    said = json.loads(json.dumps(config_said(config)))
    assert KINDS[kind].of_json(said) == config


def test_what_no_file_can_say_is_refused():
    deeper = unet.UNetConfig.tiny(depths=(0, 1), mid_depth=2)
    with pytest.raises(InvalidValue, match="as deep as the last level"):
        config_said(deeper)
    with pytest.raises(InvalidValue, match="A UNetADM has no published"):
        config_said(UNetADMConfig.tiny())
