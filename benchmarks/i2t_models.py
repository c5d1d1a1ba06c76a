"""Image-to-text models of several sizes with random weights, as transformers has them and as ours,
for benchmarks: the same weights, no words that end an answer."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diptych.checkpoints.load import found_in, load
from diptych.models.vlm import VLM
from diptych.pipelines.decoder_reading import DecoderReading


@dataclass(frozen=True)
class Size:
    """Of the language model: layers, width, heads, groups, hidden, vocabulary; and of the tower:
    layers and width."""

    depth: int
    width: int
    heads: int
    groups: int
    hidden: int
    vocabulary: int
    tower: tuple[int, int]


SMALL_TOWER, TOWER = (12, 192), (12, 384)  # 5.5 and 21.7 million parameters
SIZES = {
    "0.4M": Size(3, 96, 4, 4, 256, 1000, SMALL_TOWER),
    "7M": Size(6, 288, 6, 6, 768, 4000, SMALL_TOWER),
    "50M": Size(12, 576, 9, 3, 1536, 16_000, TOWER),
}
SIDE, PATCH = 224, 16
ROWS = (SIDE // PATCH) ** 2


def peer(size: Size) -> nn.Module:
    """LLaVA of transformers."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Llava

    layers, width = size.tower
    vision = CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, image_size=SIDE, patch_size=PATCH,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=size.width, intermediate_size=size.hidden, num_hidden_layers=size.depth,
        num_attention_heads=size.heads, num_key_value_heads=size.groups,
        vocab_size=size.vocabulary, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=3, image_seq_length=ROWS
    )
    network: Any = Llava(config).eval()
    with torch.no_grad():  # so that tokens are far from equally likely
        network.lm_head.weight.mul_(8)
    network.generation_config.eos_token_id = None
    return network


def ours_of(theirs: Any) -> tuple[VLM, DecoderReading]:
    """The same weights here, packed."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        network = load(found_in(Path(folder))[0], torch.float32)
    assert isinstance(network, VLM)
    for parameter in network.parameters():  # out of the file, which goes away
        parameter.data = parameter.data.clone()
    network.language.pack()
    return network, DecoderReading(network.language, (), lambda tokens: "")
