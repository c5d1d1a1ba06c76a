"""Tiny published image-to-text models, made by transformers with random weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

LANGUAGE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 340, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "max_position_embeddings": 512,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
# In the order of their numbers.
SPECIAL = (
    "<pad>", "<s>", "</s>", "<image>", "<fake_token_around_image>", "<global-img>", "<|im_start|>",
    "<|im_end|>", "<end_of_utterance>", "<img>", "</img>", "<row_1_col_1>", "<row_1_col_2>",
    "<row_2_col_1>", "<row_2_col_2>", "USER:", "ASSISTANT:",
)  # fmt: skip
PICTURE = SPECIAL.index("<image>")


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
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    text = LANGUAGE | {"rope_parameters": rope}
    if name == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4}
        return hub.Qwen2VLConfig(
            vision_config=vision, text_config=text, image_token_id=PICTURE, **eager
        )
    if name == "qwen2_5_vl":
        vision = {
            "depth": 3, "hidden_size": 32, "num_heads": 4, "out_hidden_size": 32,
            "intermediate_size": 40, "window_size": 56, "fullatt_block_indexes": [1],
        }  # fmt: skip
        return hub.Qwen2_5_VLConfig(
            vision_config=vision, text_config=text, image_token_id=PICTURE, **eager
        )
    raise ValueError(name)


_CLASSES = {
    "llava": "Llava", "llava_next": "LlavaNext", "llava_onevision": "LlavaOnevision",
    "idefics3": "Idefics3", "smolvlm": "SmolVLM", "internvl": "InternVL",
    "paligemma": "PaliGemma", "qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL",
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


@cache
def tokenizer() -> Tokenizer:
    """Bytes and a few pairs of them, with the special words of all families."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=list(SPECIAL[:15]), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(["what is in the picture? how many stars are there?"] * 4, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return made


_PROCESSORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llava": ("llava", "Llava", {"size": {"shortest_edge": 28},
                                 "crop_size": {"height": 28, "width": 28}}),
    "llava_next": ("llava_next", "LlavaNext", {
        "size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28},
        "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]}),
    "llava_onevision": ("llava_onevision", "LlavaOnevision", {
        "size": {"height": 28, "width": 28},
        "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]}),
    "idefics3": ("idefics3", "Idefics3", {"size": {"longest_edge": 112},
                                          "max_image_size": {"longest_edge": 56}}),
    "smolvlm": ("smolvlm", "SmolVLM", {"size": {"longest_edge": 112},
                                       "max_image_size": {"longest_edge": 56}}),
    "internvl": ("got_ocr2", "GotOcr2", {"size": {"height": 56, "width": 56}, "max_patches": 4,
                                         "crop_to_patches": True}),
    "paligemma": ("siglip", "Siglip", {"size": {"height": 28, "width": 28}}),
    "qwen2_vl": ("qwen2_vl", "Qwen2VL", {}),
    "qwen2_5_vl": ("qwen2_vl", "Qwen2VL", {}),
}  # fmt: skip


def image_processor(name: str) -> Any:
    """A family's, for Pillow."""
    import importlib

    module, kind, said = _PROCESSORS[name]
    place = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(place, f"{kind}ImageProcessorPil")(**said)


def folder(name: str, top: Path, network: nn.Module | None = None) -> Path:
    """A published folder: weights, words and preprocessing."""
    (network or published(name)).save_pretrained(top)
    tokenizer().save(str(top / "tokenizer.json"))
    (top / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    image_processor(name).save_pretrained(top)
    return top
