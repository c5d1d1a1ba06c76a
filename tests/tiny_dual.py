"""Published folders of CLIP and SigLIP in small: random weights, real config.json, tokenizers that
were learnt on the spot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from diptych.checkpoints.layouts import LAYOUTS, kind_of
from diptych.checkpoints.rules import plan_of, stored_of
from tests.tiny_clip import merges, tiny_folder
from tests.tiny_gemma import learnt
from tests.tiny_t5 import pieces

TOWER = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
SEEN = {**TOWER, "image_size": 20, "patch_size": 4}
_SQUARE = {"height": 20, "width": 20}
PICTURES: dict[str, dict[str, Any]] = {
    "clip": {
        "do_resize": True, "size": {"shortest_edge": 20}, "resample": 3, "do_center_crop": True,
        "crop_size": _SQUARE, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "do_convert_rgb": True,
        "image_processor_type": "CLIPImageProcessor",
    },
    "siglip": {
        "do_resize": True, "size": _SQUARE, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "do_convert_rgb": True,
        "image_processor_type": "SiglipImageProcessor",
    },
}  # fmt: skip


def clip_folder(folder: Path) -> Path:
    words = 2 * 256 + len(merges()) + 2
    tiny_folder(folder, pad_token="<|endoftext|>", bos_token="<|startoftext|>",
                eos_token="<|endoftext|>", unk_token="<|endoftext|>")  # fmt: skip
    text = {
        **TOWER, "vocab_size": words, "max_position_embeddings": 40, "eos_token_id": words - 1,
        "bos_token_id": words - 2, "hidden_act": "gelu",
    }  # fmt: skip
    said = {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 16,
        "text_config": text, "vision_config": {**SEEN, "hidden_act": "gelu"},
    }  # fmt: skip
    return _filled(folder, "clip", said)


def siglip_folder(folder: Path, *, second: bool = False) -> Path:
    """`second`: with the tokenizer of SigLIP 2."""
    folder.mkdir(exist_ok=True)
    tokenizer = gemma_words() if second else t5_words()
    tokenizer.save(str(folder / "tokenizer.json"))
    text = {
        **TOWER, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 40,
    }  # fmt: skip
    said = {
        "architectures": ["SiglipModel"], "model_type": "siglip", "text_config": text,
        "vision_config": SEEN,
    }  # fmt: skip
    return _filled(folder, "siglip", said)


def gemma_words() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary, pairs = learnt()
    made: Any = Tokenizer(
        models.BPE(vocab=vocabulary, merges=pairs, unk_token="<unk>", fuse_unk=True,
                   byte_fallback=True)
    )  # fmt: skip
    made.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return made


def t5_words() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    build: Any = models.Unigram
    made: Any = Tokenizer(build(list(pieces()), 2, False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def _filled(folder: Path, name: str, said: Mapping[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES[name]))
    layout = next(row for row in LAYOUTS if row.component == name)
    network = drawn(kind_of(layout).build(kind_of(layout).of_json(said)))
    plan = plan_of(layout.rules(network.config), network.state_dict())
    tensors = stored_of(plan, network.state_dict())
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    return folder


def drawn(network: nn.Module) -> nn.Module:
    """Every parameter anew: what starts at zero hides what is behind it."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return network.eval()
