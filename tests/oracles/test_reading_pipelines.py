"""Whole ways from a picture and a question to words, beside transformers' own: the same tokens of
the prompt, and the same answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from diptych.decoding.choices import Decoding
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.vlm_networks import VLMNetworks
from diptych.text.chat import Turn
from tests.tiny_vlm import PICTURE, folder, image_processor, published, tokenizer

FAMILIES = (
    "llava", "llava_next", "llava_onevision", "idefics3", "smolvlm", "internvl", "paligemma",
    "qwen2_vl", "qwen2_5_vl",
)  # fmt: skip
every_family = pytest.mark.parametrize("name", FAMILIES)
QUESTION = "how many stars are there?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("published")
    for name in FAMILIES:
        folder(name, top / name)
    return top


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def theirs_of(name: str, network: nn.Module, tokens: list[int], one: Image.Image) -> list[int]:
    """Their answer to a prompt of ours, with their pixels."""
    pixels = image_processor(name)([[one]] if name in ("idefics3", "smolvlm") else one,
                                   return_tensors="pt")  # fmt: skip
    ids = torch.tensor([tokens])
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    given["pixel_values"] = pixels["pixel_values"]
    if name.startswith("qwen"):
        given["mm_token_type_ids"] = (ids == PICTURE).long()
    for key in ("image_sizes", "pixel_attention_mask", "image_grid_thw"):
        if key in pixels:
            given[key] = pixels[key]
    if name == "paligemma":
        given["token_type_ids"] = torch.zeros_like(ids)
    out = network.generate(**given, max_new_tokens=10, do_sample=False, eos_token_id=2)
    said = out[0, len(tokens):].tolist()  # fmt: skip
    return said[: said.index(2)] if 2 in said else said


@every_family
@pytest.mark.parametrize("size", [(60, 45), (31, 90), (28, 28)])
def test_answers(folders: Path, name: str, size: tuple[int, int]) -> None:
    reader, one = ImageToText.load(str(folders / name)), picture(*size)
    networks = reader.networks
    assert isinstance(networks, VLMNetworks)
    turns = [Turn("user", QUESTION, 1)]
    answer = reader.chat(turns, [one], Decoding(most=10))
    tokens = networks._tokens(turns, [networks.plan(one)])
    assert tokens.count(PICTURE) == networks.plan(one).count()
    ends = set(networks.ends)
    wanted = theirs_of(name, published(name), tokens, one)
    stops = next((i for i, token in enumerate(wanted) if token in ends), len(wanted))
    assert list(answer.tokens) == wanted[:stops]
    assert len(answer.tokens) > 3 or answer.finish == "end"


PROMPTS = {
    "qwen2_vl": "<s><|im_start|>user\n<|vision_start|><image><|vision_end|>{q}<|im_end|>\n"
    "<|im_start|>assistant\n",
    "llava": "<s>USER: <image>\n{q} ASSISTANT:",
    "llava_next": "<s>[INST] <image>\n{q} [/INST]",
    "llava_onevision": "<s><|im_start|>user\n<image>\n{q}<|im_end|>\n<|im_start|>assistant\n",
    "internvl": "<s><|im_start|>user\n<img><image></img>\n{q}<|im_end|>\n<|im_start|>assistant\n",
    "paligemma": "<image><s>{q}\n",
    "smolvlm": "<s><|im_start|>User:<tiles>{q}<end_of_utterance>\nAssistant:",
}  # fmt: skip


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(folders: Path, name: str) -> None:
    """As each family was trained to be asked; a picture's rows are written as one here."""
    networks = ImageToText.load(str(folders / name)).networks
    assert isinstance(networks, VLMNetworks)
    plan = networks.plan(picture(28, 28))
    tokens = networks._tokens([Turn("user", QUESTION, 1)], [plan])
    once = [t for i, t in enumerate(tokens) if t != PICTURE or tokens[i - 1] != PICTURE]
    made = tokenizer().decode(once, skip_special_tokens=False)
    tiles = plan.text("<image>")
    while "<image><image>" in tiles:
        tiles = tiles.replace("<image><image>", "<image>")
    assert made == PROMPTS[name].format(q=QUESTION).replace("<tiles>", tiles)
