"""PixArt, DiT, Lumina and Gemma of few weights, all drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from diptych.checkpoints.write import write_single_file
from diptych.models.blip import Blip, BlipConfig
from diptych.models.blip2 import Blip2, Blip2Config
from diptych.models.clip import CLIP, CLIPConfig
from diptych.models.dit import DiT, DiTConfig
from diptych.models.florence2 import Florence2, Florence2Config
from diptych.models.gemma_encoder import GemmaConfig, GemmaEncoder
from diptych.models.git import Git, GitConfig
from diptych.models.lumina2 import Lumina2, Lumina2Config
from diptych.models.lumina_next import LuminaNext, LuminaNextConfig
from diptych.models.pixart import PixArt, PixArtConfig
from diptych.models.qwen_vl.network import QwenVL, QwenVLConfig
from diptych.models.siglip import SigLIP, SigLIPConfig
from diptych.models.unet_adm import UNetADM, UNetADMConfig
from diptych.models.vision_tower import VisionTower, VisionTowerConfig
from diptych.models.vit_gpt2 import VitGpt2, VitGpt2Config
from diptych.models.vlm import VLM, VLMConfig
from tests.tiny_stable_diffusion import all_drawn

# What a file of weights does not say is as `checkpoints` assumes it: heads of 64 channels, places
# that were first trained in pictures of 64 cells, pictures of 128.
DIT = DiTConfig(side=8, width=128, depth=2, heads=2, classes=10)
PIXART = PixArtConfig(side=96, interpolation=1.5, width=192, depth=2, heads=3, context_width=16)
NEXT = LuminaNextConfig.tiny(side=128)
LUMINA2 = Lumina2Config.tiny(side=128)

TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "dit": lambda: DiT(DIT),
    "pixart-sigma": lambda: PixArt(PIXART),
    "pixart-alpha": lambda: PixArt(PixArtConfig(**{**vars(PIXART), "sizes": True})),
    "lumina-next": lambda: LuminaNext(NEXT),
    "lumina2": lambda: Lumina2(LUMINA2),
}


def tiny_transformer(family: str, seed: int = 0) -> nn.Module:
    """With drawn weights, float32."""
    network = all_drawn({"transformer": TRANSFORMERS[family]()}, seed)["transformer"]
    if isinstance(network, LuminaNext):
        # One query in the original layout.
        for layer in network.layers:
            layer.attn2.to_q.load_state_dict(layer.attn1.to_q.state_dict())
            layer.attn2.norm_q.load_state_dict(layer.attn1.norm_q.state_dict())
    return network


def tiny_transformer_file(path: Path, family: str) -> Path:
    """In the original layout."""
    return write_single_file(path, {"transformer": tiny_transformer(family)})


def one_of_each() -> dict[str, nn.Module]:
    """By the kinds that layouts have for them."""
    return {
        "dit": DiT(DIT),
        "pixart": PixArt(PIXART),
        "lumina-next": LuminaNext(NEXT),
        "lumina2": Lumina2(LUMINA2),
        "gemma": GemmaEncoder(GemmaConfig.tiny()),
        "unet-adm": UNetADM(UNetADMConfig.tiny()),
        "blip": Blip(BlipConfig.tiny()),
        "blip2": Blip2(Blip2Config.tiny()),
        "git": Git(GitConfig.tiny()),
        "vit-gpt2": VitGpt2(VitGpt2Config.tiny()),
        "florence2": Florence2(Florence2Config.tiny()),
        "vlm": VLM(VLMConfig.tiny()),
        "qwen-vl": QwenVL(QwenVLConfig.tiny()),
        "clip": CLIP(CLIPConfig.tiny()),
        "siglip": SigLIP(SigLIPConfig.tiny()),
        "vision_tower": VisionTower(VisionTowerConfig.tiny()),
        "vision_tower_pooled": VisionTower(VisionTowerConfig.tiny(pooling="dense")),
    }
