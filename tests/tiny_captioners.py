"""Tiny published captioners and answerers, made by transformers with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.tiny_vlm import VISION, tokenizer

# Words as BERT's are; the last ten numbers are free for marks.
WORDS = {
    "vocab_size": 340, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
EAGER = {"attn_implementation": "eager"}


def _blip() -> Any:
    import transformers as hub

    text = WORDS | {
        "encoder_hidden_size": 32, "bos_token_id": 330, "sep_token_id": 2, "eos_token_id": 2,
        "pad_token_id": 0,
    }  # fmt: skip
    vision = VISION | {"projection_dim": 32}
    return hub.BlipConfig(
        text_config=text, vision_config=vision, image_text_hidden_size=12, projection_dim=12,
        **EAGER,
    )  # fmt: skip


CONFIGS: dict[str, tuple[Callable[[], Any], str]] = {
    "blip-captioner": (_blip, "BlipForConditionalGeneration"),
    "blip-vqa": (_blip, "BlipForQuestionAnswering"),
    "blip-matcher": (_blip, "BlipForImageTextRetrieval"),
}
_SQUARE = {"size": {"height": 28, "width": 28}}
_PROCESSORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "blip": ("blip", "Blip", _SQUARE),
}


def published(name: str, seed: int = 0) -> nn.Module:
    """A model of a family, every parameter moved."""
    import transformers as hub

    torch.manual_seed(seed)
    config, kind = CONFIGS[name]
    network = getattr(hub, kind)(config()).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def image_processor(name: str) -> Any:
    """A family's, for Pillow."""
    module, kind, said = _PROCESSORS[name if name in _PROCESSORS else name.split("-")[0]]
    place = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(place, f"{kind}ImageProcessorPil")(**said)


def folder(name: str, top: Path, network: nn.Module | None = None) -> Path:
    """A published folder: weights, words and preprocessing."""
    (network or published(name)).save_pretrained(top)
    tokenizer().save(str(top / "tokenizer.json"))
    (top / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    image_processor(name).save_pretrained(top)
    return top
