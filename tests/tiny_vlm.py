"""Tiny published image-to-text models, made by transformers with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LANGUAGE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "max_position_embeddings": 512,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
PICTURE = 97


def config_of(name: str) -> Any:
    """The config of a tiny model of a family, as its class has it."""
    import transformers as hub

    eager = {"attn_implementation": "eager"}
    clip, siglip = hub.CLIPVisionConfig(**VISION), hub.SiglipVisionConfig(**VISION)
    llama = hub.LlamaConfig(**LANGUAGE)
    pinpoints = [[28, 56], [56, 28], [56, 56]]
    if name == "llava":
        return hub.LlavaConfig(
            vision_config=clip,
            text_config=llama,
            image_token_index=PICTURE,
            image_seq_length=4,
            **eager,
        )
    if name == "llava_next":
        return hub.LlavaNextConfig(
            vision_config=clip,
            text_config=llama,
            image_token_index=PICTURE,
            image_grid_pinpoints=pinpoints,
            **eager,
        )
    if name == "llava_onevision":
        qwen = hub.Qwen2Config(**LANGUAGE, tie_word_embeddings=True)
        return hub.LlavaOnevisionConfig(
            vision_config=siglip,
            text_config=qwen,
            image_token_index=PICTURE,
            image_grid_pinpoints=pinpoints,
            **eager,
        )
    if name in ("idefics3", "smolvlm"):
        kind = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[name]
        vision = getattr(hub, f"{kind}VisionConfig")(**(VISION | {"image_size": 56}))
        return getattr(hub, f"{kind}Config")(
            vision_config=vision, text_config=llama, image_token_id=PICTURE, scale_factor=2, **eager
        )
    if name == "internvl":
        vision = hub.InternVLVisionConfig(
            **(VISION | {"image_size": [56, 56], "patch_size": [14, 14]})
        )
        return hub.InternVLConfig(
            vision_config=vision,
            text_config=hub.Qwen2Config(**LANGUAGE),
            image_token_id=PICTURE,
            image_seq_length=4,
            **eager,
        )
    if name == "paligemma":
        gemma = hub.GemmaConfig(**LANGUAGE, head_dim=8)
        vision = hub.SiglipVisionConfig(**VISION, vision_use_head=False)
        return hub.PaliGemmaConfig(
            vision_config=vision,
            text_config=gemma,
            image_token_index=PICTURE,
            projection_dim=32,
            hidden_size=32,
            **eager,
        )
    raise ValueError(name)


_CLASSES = {
    "llava": "Llava", "llava_next": "LlavaNext", "llava_onevision": "LlavaOnevision",
    "idefics3": "Idefics3", "smolvlm": "SmolVLM", "internvl": "InternVL",
    "paligemma": "PaliGemma",
}  # fmt: skip


def published(name: str, seed: int = 0) -> nn.Module:
    """A model of a family, every parameter moved."""
    import transformers as hub

    torch.manual_seed(seed)
    network = getattr(hub, f"{_CLASSES[name]}ForConditionalGeneration")(config_of(name)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network
