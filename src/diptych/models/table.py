"""The networks by name. A new network is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from diptych.models.autoencoder_sd import AutoencoderSD, AutoencoderSDConfig
from diptych.models.autoencoder_tiny import AutoencoderTiny, AutoencoderTinyConfig
from diptych.models.blip import Blip, BlipConfig
from diptych.models.blip2 import Blip2, Blip2Config
from diptych.models.captioners.table import CAPTIONERS
from diptych.models.classic_config import ClassicConfig
from diptych.models.classic_decoder import ClassicDecoder
from diptych.models.clip import CLIP, CLIPConfig
from diptych.models.clip_text import CLIPText, CLIPTextConfig
from diptych.models.clip_vision import CLIPVision, CLIPVisionConfig
from diptych.models.controlnet import ControlNet, ControlNetConfig
from diptych.models.controlnet_union import ControlNetUnion, ControlNetUnionConfig
from diptych.models.davit import DaViT, DaViTConfig
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import DecoderConfig
from diptych.models.dit import DiT, DiTConfig
from diptych.models.dual_encoder import DualEncoderConfig, DualEncoderNetwork
from diptych.models.florence2 import Florence2, Florence2Config
from diptych.models.flux import Flux, FluxConfig
from diptych.models.gemma_encoder import GemmaConfig, GemmaEncoder
from diptych.models.git import Git, GitConfig
from diptych.models.ip_adapter import IPAdapter, IPAdapterConfig
from diptych.models.lumina2 import Lumina2, Lumina2Config
from diptych.models.lumina_next import LuminaNext, LuminaNextConfig
from diptych.models.mlp_flow import MLPFlow, MLPFlowConfig
from diptych.models.mmdit import MMDiT, MMDiTConfig
from diptych.models.painter import Painter, PainterConfig
from diptych.models.pixart import PixArt, PixArtConfig
from diptych.models.qformer import QFormer, QFormerConfig
from diptych.models.qwen_vl.network import QwenVL, QwenVLConfig
from diptych.models.sd3 import SD3, SD3Config
from diptych.models.siglip import SigLIP, SigLIPConfig
from diptych.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from diptych.models.t5_encoder import T5Encoder, T5EncoderConfig
from diptych.models.text_encoder import TextEncoder, TextEncoderConfig
from diptych.models.unet import UNet, UNetConfig
from diptych.models.unet_adm import UNetADM, UNetADMConfig
from diptych.models.vision_language import VisionLanguage, VisionLanguageConfig
from diptych.models.vision_tower import VisionTower, VisionTowerConfig
from diptych.models.vit_gpt2 import VitGpt2, VitGpt2Config
from diptych.models.vlm import VLM, VLMConfig

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class ModelEntry:
    """`example(config, batch, seed)` makes arguments of `forward`, rows first. `idle`: patterns of
    parameters that published files hold and nothing reads."""

    config: type[Any]
    build: Callable[[Any], nn.Module]
    example: Callable[[Any, int, int], Inputs]
    idle: tuple[str, ...] = ()


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _autoencoder(config: AutoencoderKLConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    return {
        "image": torch.randn(batch, config.image_channels, 32, 32, generator=draw),
        "noise": torch.randn(batch, config.latent_channels, 4, 4, generator=draw),
    }


def _clip_text(config: CLIPTextConfig, batch: int, seed: int) -> Inputs:
    draw, length = _random(seed), config.length
    tokens = torch.randint(config.eos, (batch, length), generator=draw)
    ends = torch.randint(2, length, (batch, 1), generator=draw)
    return {"tokens": torch.where(torch.arange(length) < ends, tokens, config.eos)}


def _autoencoder_sd(config: AutoencoderSDConfig, batch: int, seed: int) -> Inputs:
    draw, cells = _random(seed), 32 // 2 ** (len(config.widths) - 1)
    return {
        "image": torch.randn(batch, config.image_channels, 32, 32, generator=draw),
        "noise": torch.randn(batch, config.latent_channels, cells, cells, generator=draw),
    }


def _autoencoder_tiny(config: AutoencoderTinyConfig, batch: int, seed: int) -> Inputs:
    return {"image": torch.randn(batch, config.image_channels, 16, 16, generator=_random(seed))}


def _mlp_flow(config: MLPFlowConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    x = torch.randn(batch, config.dimensions, generator=draw)
    return {"x": x, "t": torch.rand(batch, generator=draw)}


def _sentence(config: TextEncoderConfig, batch: int, draw: torch.Generator) -> Inputs:
    tokens = torch.randint(1, config.vocabulary, (batch, config.length), generator=draw)
    lengths = torch.randint(2, config.length, (batch, 1), generator=draw)
    return {"tokens": tokens, "mask": torch.arange(config.length)[None] < lengths}


def _text_encoder(config: TextEncoderConfig, batch: int, seed: int) -> Inputs:
    return _sentence(config, batch, _random(seed))


def _latent(config: MMDiTConfig, batch: int, draw: torch.Generator) -> Inputs:
    x = torch.randn(batch, config.latent_channels, 4, 4, generator=draw)
    return {"x": x, "t": torch.rand(batch, generator=draw)}


def _mmdit(config: MMDiTConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    return _latent(config, batch, draw) | {
        "context": torch.randn(batch, 5, config.context_width, generator=draw),
        "mask": torch.tensor([[True, True, True, True, False]]).repeat(batch, 1),
        "pooled": torch.randn(batch, config.context_width, generator=draw),
    }


def _painter(config: PainterConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    return _latent(config.denoiser, batch, draw) | _sentence(config.text, batch, draw)


def _dual_encoder(config: DualEncoderConfig, batch: int, seed: int) -> Inputs:
    draw, size = _random(seed), config.vision.image_size
    image = torch.randn(batch, 3, size, size, generator=draw)
    return {"image": image} | _sentence(config.text, batch, draw)


def _unet(config: UNetConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    vector = torch.randn(batch, config.vector_width, generator=draw)
    return {
        # Odd, so that a level on the way up is not twice the one below.
        "x": torch.randn(batch, config.in_channels, 8, 7, generator=draw),
        "t": 1000 * torch.rand(batch, generator=draw),
        "context": torch.randn(batch, 5, config.context_width, generator=draw),
        **({"vector": vector} if config.vector_width else {}),
    }


def _unet_adm(config: UNetADMConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    labels = torch.randint(max(1, config.classes), (batch,), generator=draw)
    return {
        "x": torch.randn(batch, config.in_channels, 8, 12, generator=draw),
        "t": 1000 * torch.rand(batch, generator=draw),
        **({"labels": labels} if config.classes else {}),
    }


def _controlnet(config: ControlNetConfig, batch: int, seed: int) -> Inputs:
    inputs = _unet(config.unet, batch, seed)
    height, width = (side << len(config.hint_widths) - 1 for side in inputs["x"].shape[2:])
    hint = torch.rand(batch, config.hint_channels, height, width, generator=_random(seed))
    return inputs | {"hint": hint}


def _controlnet_union(config: ControlNetUnionConfig, batch: int, seed: int) -> Inputs:
    kind = torch.randint(config.kinds, (batch,), generator=_random(seed))
    return _controlnet(config.control, batch, seed) | {"kind": kind}


def _clip_vision(config: CLIPVisionConfig, batch: int, seed: int) -> Inputs:
    size = config.image_size
    return {"image": torch.randn(batch, 3, size, size, generator=_random(seed))}


def _vision_tower(config: VisionTowerConfig, batch: int, seed: int) -> Inputs:
    height, width = config.image_size, config.image_size + 2 * config.patch_size
    return {"image": torch.randn(batch, 3, height, width, generator=_random(seed))}


def _clip(config: CLIPConfig, batch: int, seed: int) -> Inputs:
    size = config.vision.image_size
    image = torch.randn(batch, 3, size, size, generator=_random(seed))
    return {"image": image} | _clip_text(config.text, batch, seed)


def _siglip(config: SigLIPConfig, batch: int, seed: int) -> Inputs:
    draw, size = _random(seed), config.vision.image_size
    shape = (batch, config.text.length)
    return {
        "image": torch.randn(batch, 3, size, size, generator=draw),
        "tokens": torch.randint(config.text.vocabulary, shape, generator=draw),
    }


def _t2i_adapter(config: T2IAdapterConfig, batch: int, seed: int) -> Inputs:
    height, width = 5 * config.factor, 3 * config.factor
    return {"picture": torch.rand(batch, config.channels, height, width, generator=_random(seed))}


def _ip_adapter(config: IPAdapterConfig, batch: int, seed: int) -> Inputs:
    shape = (config.input_width,) if config.kind in ("plain", "face") else (6, config.input_width)
    return {"encoded": torch.randn(batch, *shape, generator=_random(seed))}


def _worded(config: SD3Config | FluxConfig, batch: int, draw: torch.Generator) -> Inputs:
    return {
        "x": torch.randn(batch, config.in_channels, 8, 6, generator=draw),
        "t": torch.rand(batch, generator=draw),
        "context": torch.randn(batch, 5, config.context_width, generator=draw),
        "pooled": torch.randn(batch, config.pooled_width, generator=draw),
    }


def _sd3(config: SD3Config, batch: int, seed: int) -> Inputs:
    inputs = _worded(config, batch, _random(seed))
    return inputs | {"t": 1000 * inputs["t"]}


def _flux(config: FluxConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    inputs = _worded(config, batch, draw)
    return inputs | {"guidance": 1 + 9 * torch.rand(batch, generator=draw)}


def _t5_encoder(config: T5EncoderConfig, batch: int, seed: int) -> Inputs:
    draw, length = _random(seed), 9
    lengths = torch.randint(2, length, (batch, 1), generator=draw)
    tokens = torch.randint(config.vocabulary, (batch, length), generator=draw)
    return {"tokens": tokens, "mask": torch.arange(length) < lengths}


def _dit(config: DiTConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    return {
        "x": torch.randn(batch, config.in_channels, 8, 12, generator=draw),
        "t": 1000 * torch.rand(batch, generator=draw),
        "labels": torch.randint(config.classes + 1, (batch,), generator=draw),
    }


def _gemma_encoder(config: GemmaConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    lengths = torch.randint(2, 6, (batch, 1), generator=draw)
    return {
        "tokens": torch.randint(config.vocabulary, (batch, 6), generator=draw),
        "mask": torch.arange(6)[None] < lengths,
    }


def _masked_words(config: Any, batch: int, draw: torch.Generator) -> Inputs:
    return {
        "x": torch.randn(batch, config.in_channels, 8, 12, generator=draw),
        "t": torch.rand(batch, generator=draw),
        "context": torch.randn(batch, 5, config.context_width, generator=draw),
        "mask": torch.tensor([[True, True, True, True, False]]).repeat(batch, 1),
    }


def _lumina(config: Lumina2Config | LuminaNextConfig, batch: int, seed: int) -> Inputs:
    return _masked_words(config, batch, _random(seed))


def _pixart(config: PixArtConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    inputs = _masked_words(config, batch, draw)
    size = {"size": 1024 * torch.rand(batch, 2, generator=draw)} if config.sizes else {}
    return inputs | {"t": 1000 * inputs["t"]} | size


def _vision_language(config: VisionLanguageConfig, batch: int, seed: int) -> Inputs:
    draw, size = _random(seed), config.vision.image_size
    return {
        "image": torch.randn(batch, 3, size, size, generator=draw),
        "tokens": torch.randint(config.vocabulary, (batch, 6), generator=draw),
    }


def _decoder(config: DecoderConfig, batch: int, seed: int) -> Inputs:
    return {"rows": torch.randn(batch, 6, config.width, generator=_random(seed))}


def _classic(config: ClassicConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    return {
        "rows": torch.randn(batch, 6, config.width, generator=draw),
        "memory": torch.randn(batch, 5, config.memory, generator=draw),
    }


def _davit(config: DaViTConfig, batch: int, seed: int) -> Inputs:
    return {"image": torch.randn(batch, 3, 40, 56, generator=_random(seed))}


def _florence2(config: Florence2Config, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    return {
        "image": torch.randn(batch, 3, 40, 56, generator=draw),
        "tokens": torch.randint(30, (batch, 6), generator=draw),
    }


def _qformer(config: QFormerConfig, batch: int, seed: int) -> Inputs:
    draw = _random(seed)
    return {
        "seen": torch.randn(batch, 7, config.layers.memory, generator=draw),
        "tokens": torch.randint(config.layers.vocabulary, (batch, 5), generator=draw),
    }


def _captioner(
    config: BlipConfig | Blip2Config | GitConfig | VitGpt2Config, batch: int, seed: int
) -> Inputs:
    draw, size = _random(seed), config.vision.image_size
    return {
        "image": torch.randn(batch, 3, size, size, generator=draw),
        "tokens": torch.randint(30, (batch, 6), generator=draw),
    }


def _vlm(config: VLMConfig, batch: int, seed: int) -> Inputs:
    draw, size = _random(seed), config.vision.image_size
    words = torch.randint(config.picture_token, (batch, 6), generator=draw)
    rows = torch.full((batch, config.rows[0] * config.rows[1]), config.picture_token)
    return {
        "tiles": torch.randn(batch, 3, size, size, generator=draw),
        "tokens": torch.cat([words[:, :2], rows, words[:, 2:]], dim=1),
    }


def _qwen_vl(config: QwenVLConfig, batch: int, seed: int) -> Inputs:
    draw, merge = _random(seed), config.vision.merge
    rows = torch.full((batch, 4), config.picture_token)
    words = torch.randint(config.picture_token, (batch, 6), generator=draw)
    places = torch.arange(10)[None, :, None].repeat(batch, 1, 3)
    return {
        "patches": torch.randn(batch, 4 * merge**2, config.vision.values, generator=draw),
        "tokens": torch.cat([words[:, :2], rows, words[:, 2:]], dim=1),
        "places": places,
    }


MODELS: dict[str, ModelEntry] = {
    "autoencoder-kl": ModelEntry(AutoencoderKLConfig, AutoencoderKL, _autoencoder),
    "autoencoder-sd": ModelEntry(AutoencoderSDConfig, AutoencoderSD, _autoencoder_sd),
    "autoencoder-tiny": ModelEntry(AutoencoderTinyConfig, AutoencoderTiny, _autoencoder_tiny),
    "blip": ModelEntry(BlipConfig, Blip, _captioner),
    "blip2": ModelEntry(Blip2Config, Blip2, _captioner),
    # As the decoder's.
    "classic-decoder": ModelEntry(
        ClassicConfig,
        ClassicDecoder,
        _classic,
        (r"embed_tokens\.weight", r"lm_head\.weight", r"head_bias"),
    ),
    "clip": ModelEntry(CLIPConfig, CLIP, _clip),
    "clip-text": ModelEntry(CLIPTextConfig, CLIPText, _clip_text),
    "clip-vision": ModelEntry(CLIPVisionConfig, CLIPVision, _clip_vision),
    "controlnet": ModelEntry(ControlNetConfig, ControlNet, _controlnet),
    "controlnet-union": ModelEntry(ControlNetUnionConfig, ControlNetUnion, _controlnet_union),
    # Words are told apart before it, and chosen behind it.
    "decoder": ModelEntry(
        DecoderConfig, Decoder, _decoder, (r"embed_tokens\.weight", r"lm_head\.weight")
    ),
    "davit": ModelEntry(DaViTConfig, DaViT, _davit),
    "dit": ModelEntry(DiTConfig, DiT, _dit),
    "dual-encoder": ModelEntry(DualEncoderConfig, DualEncoderNetwork, _dual_encoder),
    "ip-adapter": ModelEntry(IPAdapterConfig, IPAdapter, _ip_adapter),
    "florence2": ModelEntry(Florence2Config, Florence2, _florence2),
    "flux": ModelEntry(FluxConfig, Flux, _flux),
    "gemma-encoder": ModelEntry(GemmaConfig, GemmaEncoder, _gemma_encoder),
    "git": ModelEntry(GitConfig, Git, _captioner),
    "lumina-next": ModelEntry(LuminaNextConfig, LuminaNext, _lumina),
    "lumina2": ModelEntry(Lumina2Config, Lumina2, _lumina),
    "mlp-flow": ModelEntry(MLPFlowConfig, MLPFlow, _mlp_flow),
    "mmdit": ModelEntry(MMDiTConfig, MMDiT, _mmdit),
    "painter": ModelEntry(PainterConfig, Painter, _painter),
    "t2i-adapter": ModelEntry(T2IAdapterConfig, T2IAdapter, _t2i_adapter),
    "pixart": ModelEntry(PixArtConfig, PixArt, _pixart),
    # Behind the last layer's words nothing reads.
    "qformer": ModelEntry(QFormerConfig, QFormer, _qformer, (r"layers\.1\.text_(mlp|norm)\..*",)),
    "qwen-vl": ModelEntry(QwenVLConfig, QwenVL, _qwen_vl),
    # In the last block nothing is read of the words, and still they have queries.
    "sd3": ModelEntry(
        SD3Config,
        SD3,
        _sd3,
        (r"transformer_blocks\.2\.attn\.(add_q_proj\..*|norm_added_q\.weight)",),
    ),
    "siglip": ModelEntry(SigLIPConfig, SigLIP, _siglip),
    "t5-encoder": ModelEntry(T5EncoderConfig, T5Encoder, _t5_encoder),
    "text-encoder": ModelEntry(TextEncoderConfig, TextEncoder, _text_encoder),
    "unet": ModelEntry(UNetConfig, UNet, _unet),
    "unet-adm": ModelEntry(UNetADMConfig, UNetADM, _unet_adm),
    "vision-language": ModelEntry(VisionLanguageConfig, VisionLanguage, _vision_language),
    "vision-tower": ModelEntry(VisionTowerConfig, VisionTower, _vision_tower),
    "vit-gpt2": ModelEntry(VitGpt2Config, VitGpt2, _captioner),
    # The layer behind the one that is looked through.
    "vlm": ModelEntry(
        VLMConfig, VLM, _vlm, (r"vision\.encoder\.layers\.2\..*", r"vision\.post_layernorm\..*")
    ),
    **{name: ModelEntry(*row) for name, row in CAPTIONERS.items()},
}
