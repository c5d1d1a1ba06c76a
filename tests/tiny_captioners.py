"""Tiny published captioners and answerers, made by transformers with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.tiny_vlm import LANGUAGE, VISION, tokenizer

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


def _git() -> Any:
    import transformers as hub

    text = WORDS | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return hub.GitConfig(vision_config=hub.GitVisionConfig(**VISION).to_dict(), **text, **EAGER)


def _vit_gpt2() -> Any:
    import transformers as hub

    words = hub.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=64, vocab_size=340, bos_token_id=1,
        eos_token_id=2, add_cross_attention=True,
    )  # fmt: skip
    made = hub.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        hub.ViTConfig(**VISION), words, decoder_start_token_id=1, pad_token_id=0, eos_token_id=2,
        bos_token_id=1,
    )  # fmt: skip
    made._attn_implementation = "eager"
    return made


def _blip2(text: Any, **more: Any) -> Any:
    import transformers as hub

    former = hub.Blip2QFormerConfig(
        **WORDS, encoder_hidden_size=32, cross_attention_frequency=2
    )  # fmt: skip
    vision = hub.Blip2VisionConfig(**VISION, layer_norm_eps=1e-6)
    return hub.Blip2Config(
        vision_config=vision.to_dict(), qformer_config=former.to_dict(),
        text_config=text.to_dict(), num_query_tokens=4, image_token_index=3, **more, **EAGER,
    )  # fmt: skip


def _instructblip(text: Any) -> Any:
    import transformers as hub

    former = hub.InstructBlipQFormerConfig(
        **WORDS, encoder_hidden_size=32, cross_attention_frequency=2
    )  # fmt: skip
    vision = hub.InstructBlipVisionConfig(**VISION, layer_norm_eps=1e-6)
    return hub.InstructBlipConfig(
        vision_config=vision.to_dict(), qformer_config=former.to_dict(),
        text_config=text.to_dict(), num_query_tokens=4, image_token_index=3, **EAGER,
    )  # fmt: skip


def _vicuna() -> Any:
    import transformers as hub

    return _instructblip(hub.LlamaConfig(**LANGUAGE))


def _blip2_opt() -> Any:
    import transformers as hub

    return _blip2(hub.OPTConfig(
        vocab_size=340, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48,
        max_position_embeddings=64, word_embed_proj_dim=32, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    ))  # fmt: skip


def _t5() -> Any:
    import transformers as hub

    return hub.T5Config(
        vocab_size=340, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2,
        num_heads=4, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
        decoder_start_token_id=0, eos_token_id=2, pad_token_id=0, bos_token_id=1,
    )  # fmt: skip


def _florence2() -> Any:
    import transformers as hub

    words = hub.BartConfig(
        vocab_size=340, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    vision = hub.Florence2VisionConfig(
        embed_dim=[16, 24], depths=[1, 2], patch_size=[7, 3], patch_stride=[4, 2],
        patch_padding=[3, 1], patch_prenorm=[False, True], num_heads=[2, 3], num_groups=[2, 3],
        window_size=3, projection_dim=32, max_temporal_embeddings=6, max_position_embeddings=10,
    )  # fmt: skip
    return hub.Florence2Config(
        vision_config=vision.to_dict(), text_config=words.to_dict(), image_token_id=3,
        tie_word_embeddings=True, **EAGER,
    )  # fmt: skip


CONFIGS: dict[str, tuple[Callable[[], Any], str]] = {
    "blip-captioner": (_blip, "BlipForConditionalGeneration"),
    "blip-vqa": (_blip, "BlipForQuestionAnswering"),
    "blip-matcher": (_blip, "BlipForImageTextRetrieval"),
    "git": (_git, "GitForCausalLM"),
    "vit-gpt2": (_vit_gpt2, "VisionEncoderDecoderModel"),
    "blip2-opt": (_blip2_opt, "Blip2ForConditionalGeneration"),
    "blip2-t5": (lambda: _blip2(_t5()), "Blip2ForConditionalGeneration"),
    "instructblip-t5": (lambda: _instructblip(_t5()), "InstructBlipForConditionalGeneration"),
    "instructblip-vicuna": (_vicuna, "InstructBlipForConditionalGeneration"),
    "florence2": (_florence2, "Florence2ForConditionalGeneration"),
}
_SQUARE = {"size": {"height": 28, "width": 28}}
_PROCESSORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "blip": ("blip", "Blip", _SQUARE),
    "blip2": ("blip", "Blip", _SQUARE),
    "instructblip": ("blip", "Blip", _SQUARE),
    "git": (
        "clip",
        "CLIP",
        {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}},
    ),
    "florence2": ("clip", "CLIP", {"size": {"height": 32, "width": 32}, "do_center_crop": False}),
    "vit": ("vit", "ViT", _SQUARE),
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
    if name.startswith("instructblip"):
        (top / "qformer_tokenizer").mkdir()
        tokenizer().save(str(top / "qformer_tokenizer" / "tokenizer.json"))
    return top
