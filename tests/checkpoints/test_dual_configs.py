"""The config.json of published dual encoders and vision towers: every key is used or known to say
nothing of the network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diptych.checkpoints.layouts import KINDS
from diptych.models.clip import CLIP_L14_336
from diptych.models.siglip import SIGLIP_B16, SIGLIP_SO400M_384
from diptych.models.vision_tower import DINOV2_G, INTERNVIT_300M

# As published folders say it, all keys.
OLD = {
    "add_cross_attention": False, "architectures": None, "attention_dropout": 0.0,
    "bad_words_ids": None, "bos_token_id": 0, "chunk_size_feed_forward": 0,
    "diversity_penalty": 0.0, "do_sample": False, "dropout": 0.0, "early_stopping": False,
    "eos_token_id": 2, "hidden_act": "quick_gelu", "id2label": {"0": "LABEL_0"},
    "initializer_factor": 1.0, "initializer_range": 0.02, "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-5, "length_penalty": 1.0, "max_length": 20, "min_length": 0,
    "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1, "output_attentions": False,
    "pad_token_id": 1, "pruned_heads": {}, "repetition_penalty": 1.0, "return_dict": True,
    "temperature": 1.0, "tie_word_embeddings": True, "top_k": 50, "top_p": 1.0,
    "torchscript": False, "transformers_version": "4.16.0.dev0", "typical_p": 1.0,
    "use_bfloat16": False,
}  # fmt: skip
L14 = {
    "model_type": "clip", "projection_dim": 768, "logit_scale_init_value": 2.6592,
    "text_config": OLD | {
        "hidden_size": 768, "intermediate_size": 3072, "max_position_embeddings": 77,
        "model_type": "clip_text_model", "num_attention_heads": 12, "num_hidden_layers": 12,
        "projection_dim": 768, "vocab_size": 49408,
    },
    "vision_config": OLD | {
        "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
        "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24,
        "patch_size": 14, "projection_dim": 768,
    },
}  # fmt: skip
SO400M = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
    "num_hidden_layers": 27,
}  # fmt: skip
PUBLISHED = {
    "CLIP L/14-336": (L14, CLIP_L14_336),
    "SigLIP so400m": (
        {
            "model_type": "siglip", "torch_dtype": "float32", "initializer_factor": 1.0,
            "text_config": SO400M | {"model_type": "siglip_text_model", "vocab_size": 32000},
            "vision_config": SO400M | {
                "model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14
            },
        },
        SIGLIP_SO400M_384,
    ),
    "DINOv2 giant": (
        {
            "model_type": "dinov2", "hidden_size": 1536, "num_attention_heads": 24,
            "num_hidden_layers": 40, "mlp_ratio": 4, "image_size": 518, "patch_size": 14,
            "layer_norm_eps": 1e-6, "layerscale_value": 1.0, "use_swiglu_ffn": True,
            "qkv_bias": True, "stage_names": ["stem"], "out_features": ["stage40"],
            "drop_path_rate": 0.0, "hidden_act": "gelu", "num_channels": 3,
        },
        DINOV2_G,
    ),
    "InternViT": (
        {
            "model_type": "intern_vit_6b", "auto_map": {"AutoModel": "a.B"}, "dropout": 0.0,
            "attention_dropout": 0.0, "drop_path_rate": 0.1, "hidden_act": "gelu",
            "hidden_size": 1024, "image_size": 448, "initializer_factor": 0.1,
            "initializer_range": 1e-10, "intermediate_size": 4096, "layer_norm_eps": 1e-6,
            "norm_type": "layer_norm", "num_attention_heads": 16, "num_channels": 3,
            "num_hidden_layers": 24, "patch_size": 14, "qk_normalization": False,
            "qkv_bias": True, "use_bfloat16": True, "use_flash_attn": True,
        },
        INTERNVIT_300M,
    ),
    "PaliGemma's": (
        SO400M | {
            "model_type": "siglip_vision_model", "image_size": 224, "patch_size": 14,
            "num_image_tokens": 256, "projection_dim": 2048, "projector_hidden_act": "gelu_fast",
            "vision_use_head": False,
        },
        replace(SIGLIP_SO400M_384.vision, image_size=224, pooling="none"),
    ),
    "SmolVLM's": (
        {
            "model_type": "smolvlm_vision", "hidden_size": 768, "image_size": 512,
            "intermediate_size": 3072, "max_image_size": {"longest_edge": 512},
            "num_attention_heads": 12, "patch_size": 16, "size": {"longest_edge": 2048},
            "tie_word_embeddings": False, "use_base_siglip": False,
        },
        replace(SIGLIP_B16.vision, image_size=512, placing="fractional", pooling="none"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_understood_to_the_last_word(name: str):
    content, wanted = PUBLISHED[name]
    kind = "clip" if name.startswith("CLIP") else "siglip" if name.endswith("400m") else ""
    assert KINDS[kind or "vision_tower"].of_json(content) == wanted
