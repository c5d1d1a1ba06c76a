"""Files with the names of the first programs: read, our networks say what those programs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from first_programs import Both, InternViT, Text, Trunk, Visual
from networks import apart, drawn, randomized
from safetensors.torch import save_file
from torch import Tensor, nn

from diptych.checkpoints.load import found_in, load

# Heads of 64 channels, which is what a file without a config is taken for.
WIDTH, HEADS, HIDDEN, PLACES, PATCH, WORDS = 128, 2, 96, 9, 4, 49408
SIZE = (WIDTH, HEADS, HIDDEN)
BOTH = {
    "OpenCLIP": lambda: Both(
        Visual(*SIZE, 32, PLACES, PATCH), Text(*SIZE, 32, WORDS), trunk=False, apart=False
    ),
    "OpenCLIP, text apart": lambda: Both(
        Visual(*SIZE, 32, PLACES, PATCH), Text(*SIZE, 32, WORDS), trunk=False, apart=True
    ),
    "SigLIP over timm": lambda: Both(
        Trunk(*SIZE, PLACES, PATCH, "siglip"),
        Text(*SIZE, WIDTH, 50, siglip=True),
        trunk=True,
        apart=True,
    ),
}


def loaded(tensors: dict[str, Tensor], folder: Path) -> Any:
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    (one,) = found_in(folder if (folder / "config.json").is_file() else path)
    one.report.check()
    return load(one)


@pytest.mark.parametrize("name", BOTH)
def test_two_towers(name: str, tmp_path: Path):
    theirs = randomized(BOTH[name]())
    ours = loaded(theirs.tensors(), tmp_path)
    image, words = drawn(2, 3, 12, 12), torch.randint(40, (2, 10))
    if name.startswith("OpenCLIP"):
        words[0, 4] = words[1, 9] = WORDS - 1  # where a text ends
    with torch.no_grad():
        seen, said = theirs(image, words)
        assert apart(ours.encode_image(image), seen) <= 1e-9
        assert apart(ours.encode_text(words), said) <= 1e-9
        cosines = seen @ said.T
        wanted = theirs.logit_scale.exp() * cosines + getattr(theirs, "logit_bias", 0)
        assert apart(ours.logits(seen, said), wanted) <= 1e-9


@pytest.mark.parametrize("kind", ["siglip", "dino", "registers", "giant"])
def test_lone_towers(kind: str, tmp_path: Path):
    theirs = randomized(Trunk(*SIZE, PLACES, PATCH, kind))
    ours = loaded(theirs.state_dict(), tmp_path)
    image = drawn(2, 3, 12, 12)
    with torch.no_grad():
        out = ours(image)
        assert apart(out.pooled if kind == "siglip" else out.last, theirs(image)) <= 1e-9


def test_internvit(tmp_path: Path):
    theirs = randomized(InternViT(*SIZE, PLACES, PATCH))
    said = {
        "model_type": "intern_vit_6b", "hidden_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": HEADS, "intermediate_size": HIDDEN, "image_size": 12,
        "patch_size": PATCH, "qkv_bias": True, "qk_normalization": True, "hidden_act": "gelu",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(said))
    ours: nn.Module = loaded(theirs.state_dict(), tmp_path)
    image = drawn(2, 3, 12, 12)
    with torch.no_grad():
        assert apart(ours(image).states, theirs(image)) <= 1e-9
