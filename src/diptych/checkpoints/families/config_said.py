"""Our configs as a published `config.json` says them: what `config_of_json` of each family reads,
the other way round. What the libraries take for granted is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_sd import AutoencoderSDConfig
from diptych.models.clip_text import CLIPTextConfig
from diptych.models.dit import DiTConfig
from diptych.models.flux import PATCH, FluxConfig
from diptych.models.gemma_encoder import GemmaConfig
from diptych.models.lumina2 import Lumina2Config
from diptych.models.lumina_next import LuminaNextConfig
from diptych.models.pixart import PixArtConfig
from diptych.models.sd3 import SD3Config
from diptych.models.t5_encoder import T5EncoderConfig
from diptych.models.unet import UNetConfig

_SIZE_WIDTH = 256  # of each embedded size that SDXL is told


def config_said(config: Any) -> dict[str, Any]:
    """What a folder's config.json says of a network. Raises InvalidValue for a config that such a
    file cannot say, or a network that no folder of a pipeline holds."""
    say = _SAID.get(type(config))
    if say is None:
        kind = type(config).__name__.removesuffix("Config")
        raise InvalidValue(f"A {kind} has no published config.json here.")
    return say(config)


def _unet(config: UNetConfig) -> dict[str, Any]:
    if config.depths[-1] not in (0, config.mid_depth):
        raise InvalidValue(
            f"depths {config.depths} and mid_depth {config.mid_depth} cannot be said in a "
            "config.json, where the middle is as deep as the last level.",
            do="Write one file.",
        )
    down = [f"{'CrossAttn' if depth else ''}DownBlock2D" for depth in config.depths]
    depths = [depth or 1 for depth in config.depths[:-1]] + [config.mid_depth]
    said = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.widths),
        "down_block_types": down,
        "up_block_types": [kind.replace("Down", "Up") for kind in reversed(down)],
        "layers_per_block": config.blocks,
        "transformer_layers_per_block": depths if len(set(depths)) > 1 else depths[0],
        # What the files call the width of a head is their number.
        "attention_head_dim": list(config.heads),
        "cross_attention_dim": config.context_width,
        "use_linear_projection": config.linear_projection,
        "norm_num_groups": config.groups,
    }
    if not config.vector_width:
        return said
    return said | {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": _SIZE_WIDTH,
        "projection_class_embeddings_input_dim": config.vector_width,
    }


def _vae(config: AutoencoderSDConfig) -> dict[str, Any]:
    levels = len(config.widths)
    said = {
        "_class_name": "AutoencoderKL",
        "in_channels": config.image_channels,
        "out_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.widths),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": config.blocks,
        "norm_num_groups": config.groups,
        "use_quant_conv": config.quant_convs,
        "use_post_quant_conv": config.quant_convs,
        "scaling_factor": config.scale,
    }
    return said | ({"shift_factor": config.shift} if config.shift else {})


def _clip(config: CLIPTextConfig) -> dict[str, Any]:
    ending = "WithProjection" if config.projection else ""
    return {
        "architectures": [f"CLIPTextModel{ending}"],
        "model_type": "clip_text_model",
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.length,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_epsilon,
        "projection_dim": config.projection or config.width,
        "bos_token_id": config.eos - 1,
        "eos_token_id": config.eos,
    }


def _t5(config: T5EncoderConfig) -> dict[str, Any]:
    return {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": config.vocabulary,
        "d_model": config.width,
        "num_layers": config.depth,
        "num_heads": config.heads,
        "d_kv": config.head_dim,
        "d_ff": config.hidden,
        "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": config.buckets,
        "relative_attention_max_distance": config.distance,
        "layer_norm_epsilon": config.norm_epsilon,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def _gemma(config: GemmaConfig) -> dict[str, Any]:
    said = {
        "architectures": ["Gemma2Model" if config.sandwich else "GemmaModel"],
        "model_type": "gemma2" if config.sandwich else "gemma",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.groups,
        "head_dim": config.head_dim,
        "intermediate_size": config.hidden,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": config.base,
        "rms_norm_eps": config.norm_epsilon,
    }
    if not config.sandwich:
        return said
    return said | {
        "attn_logit_softcapping": config.cap or None,
        "sliding_window": config.window,
        "query_pre_attn_scalar": config.scale_width or config.head_dim,
    }


def _sd3(config: SD3Config) -> dict[str, Any]:
    return {
        "_class_name": "SD3Transformer2DModel",
        "sample_size": 128,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "patch_size": config.patch_size,
        "num_layers": config.depth,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "caption_projection_dim": config.width,
        "joint_attention_dim": config.context_width,
        "pooled_projection_dim": config.pooled_width,
        "pos_embed_max_size": config.positions,
        "qk_norm": "rms_norm" if config.normed else None,
        "dual_attention_layers": list(config.dual),
    }


def _flux(config: FluxConfig) -> dict[str, Any]:
    cells = PATCH * PATCH
    return {
        "_class_name": "FluxTransformer2DModel",
        "patch_size": 1,
        "in_channels": config.in_channels * cells,
        "out_channels": config.out_channels * cells,
        "num_layers": config.depth,
        "num_single_layers": config.single_depth,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "axes_dims_rope": list(config.axes),
        "joint_attention_dim": config.context_width,
        "pooled_projection_dim": config.pooled_width,
        "guidance_embeds": config.guidance,
    }


def _patched(config: PixArtConfig | DiTConfig, name: str) -> dict[str, Any]:
    """What the two say alike."""
    return {
        "_class_name": name,
        "sample_size": config.side,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "patch_size": config.patch_size,
        "num_layers": config.depth,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "norm_elementwise_affine": False,
    }


def _pixart(config: PixArtConfig) -> dict[str, Any]:
    return _patched(config, "PixArtTransformer2DModel") | {
        "norm_type": "ada_norm_single",
        "norm_eps": 1e-6,
        "cross_attention_dim": config.width,
        "caption_channels": config.context_width,
        "interpolation_scale": config.interpolation,
        "use_additional_conditions": config.sizes,
    }


def _dit(config: DiTConfig) -> dict[str, Any]:
    return _patched(config, "DiTTransformer2DModel") | {
        "norm_type": "ada_norm_zero",
        "norm_eps": 1e-5,
        "num_embeds_ada_norm": config.classes,
    }


def _hidden(hidden: int, wanted: int) -> dict[str, Any]:
    """As a factor and a multiple, by which the reader comes to `hidden` again."""
    if hidden == -(-wanted // 256) * 256:
        return {"ffn_dim_multiplier": None, "multiple_of": 256}
    return {"ffn_dim_multiplier": (hidden + 0.5) / wanted, "multiple_of": 1}  # rounded down


def _next(config: LuminaNextConfig) -> dict[str, Any]:
    return {
        "_class_name": "LuminaNextDiT2DModel",
        "sample_size": config.side,
        "in_channels": config.in_channels,
        "learn_sigma": config.out_channels == 2 * config.in_channels,
        "patch_size": config.patch_size,
        "hidden_size": config.width,
        "num_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_kv_heads": config.groups,
        **_hidden(config.hidden, int(8 * config.width / 3)),
        "cross_attention_dim": config.context_width,
        "norm_eps": config.norm_epsilon,
        "qk_norm": True,
    }


def _lumina2(config: Lumina2Config) -> dict[str, Any]:
    return {
        "_class_name": "Lumina2Transformer2DModel",
        "sample_size": config.side,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "patch_size": config.patch_size,
        "hidden_size": config.width,
        "num_layers": config.depth,
        "num_refiner_layers": config.refiners,
        "num_attention_heads": config.heads,
        "num_kv_heads": config.groups,
        **_hidden(config.hidden, 4 * config.width),
        "cap_feat_dim": config.context_width,
        "axes_dim_rope": list(config.axes),
        "axes_lens": [300, 512, 512],
        "norm_eps": config.norm_epsilon,
    }


_SAID: dict[type, Callable[[Any], dict[str, Any]]] = {
    UNetConfig: _unet, AutoencoderSDConfig: _vae, CLIPTextConfig: _clip, T5EncoderConfig: _t5,
    GemmaConfig: _gemma, SD3Config: _sd3, FluxConfig: _flux, PixArtConfig: _pixart,
    DiTConfig: _dit, LuminaNextConfig: _next, Lumina2Config: _lumina2,
}  # fmt: skip
