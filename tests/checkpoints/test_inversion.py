"""Words learnt from pictures: every layout of their files, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diptych.checkpoints.adapters.inversion import found_inversion, load_inversion
from diptych.foundation.errors import InvalidValue, Unreadable

ONE = {"text_encoder": 64}
TWO = {"text_encoder": 64, "text_encoder_2": 128}


def rows(count: int, width: int) -> Tensor:
    return torch.randn(count, width)


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


LAYOUTS: dict[str, tuple[dict[str, Tensor], str]] = {
    "emb_params": ({"emb_params": rows(3, 64)}, "nice-word"),
    "a copied pickle": ({"string_to_param.*": rows(2, 64)}, "nice-word"),
    "a copied pickle, in brackets": (
        {"string_to_param['*']": rows(2, 64), "string_to_token['*']": torch.tensor([265])},
        "nice-word",
    ),
    "a word and its rows": ({"<cat-toy>": rows(4, 64)}, "<cat-toy>"),
    "a word and one row": ({"<cat-toy>": rows(1, 64)[0]}, "<cat-toy>"),
    "an encoder's name": ({"clip_l": rows(2, 64)}, "nice-word"),
    "half precision": ({"emb_params": rows(3, 64).half()}, "nice-word"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, tmp_path: Path):
    tensors, word = LAYOUTS[layout]
    found = found_inversion(saved(tmp_path / "nice-word.safetensors", tensors), ONE)
    assert found.report.applied == found.report.total == 1 and not found.report.problems
    learnt = load_inversion(found)
    assert learnt.word == word
    wanted = next(iter(tensors.values()))
    assert torch.equal(learnt.rows["text_encoder"], wanted.reshape(-1, 64))


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_two_encoders(names: tuple[str, str], tmp_path: Path):
    tensors = {names[0]: rows(2, 64), names[1]: rows(3, 128)}
    found = found_inversion(saved(tmp_path / "x.safetensors", tensors), TWO, word="mine")
    learnt = load_inversion(found)
    assert learnt.word == "mine" and found.report.applied == 2
    assert {name: len(one) for name, one in learnt.rows.items()} == {
        "text_encoder": 2, "text_encoder_2": 3,
    }  # fmt: skip


def test_the_width_tells_whose_it_is(tmp_path: Path):
    path = saved(tmp_path / "x.safetensors", {"emb_params": rows(2, 128)})
    with pytest.raises(Unreadable, match=r"'text_encoder' has no rows of width 64"):
        load_inversion(found_inversion(path, TWO))
    learnt = load_inversion(found_inversion(path, TWO, allow=["text_encoder"]))
    assert learnt.rows.keys() == {"text_encoder_2"}


BROKEN: dict[str, tuple[dict[str, Tensor], dict[str, int], str]] = {
    "of another family": (
        {"emb_params": rows(2, 96)}, ONE, r"'emb_params' is 96 wide.*text_encoder 64"
    ),
    "of SDXL on SD 1": (
        {"clip_l": rows(2, 64), "clip_g": rows(2, 128)}, ONE, "'clip_g' is for a text_encoder_2"
    ),
    "of two words": (
        {"emb_params": rows(2, 64), "clip_l": rows(2, 64)}, ONE, "another word for the text_encoder"
    ),
    "named for the wrong encoder": (
        {"clip_l": rows(2, 128), "clip_g": rows(2, 64)}, TWO, "'clip_g' is 64 wide"
    ),
    "whole numbers": ({"emb_params": torch.ones(2, 64).int()}, ONE, "emb_params.*no wide rows"),
    "too long": ({"emb_params": rows(76, 64)}, ONE, r"\[76, 64\].*no wide rows"),
    "not a number": ({"emb_params": rows(2, 64) * torch.nan}, ONE, "emb_params.*not finite"),
    "no word": ({"a.weight": rows(2, 64)}, ONE, r"no word for prompts: a\.weight"),
    "a LoRA": (
        {"lora_unet_x.lora_up.weight": rows(2, 64), "emb_params": rows(1, 64)}, ONE, "no word"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_named(what: str, tmp_path: Path):
    tensors, widths, said = BROKEN[what]
    path = saved(tmp_path / "x.safetensors", tensors)
    with pytest.raises(Unreadable, match=said):
        load_inversion(found_inversion(path, widths))


def test_allow_takes_names_of_what_is_wrong(tmp_path: Path):
    path = saved(tmp_path / "x.safetensors", {"clip_l": rows(2, 64), "clip_g": rows(2, 128)})
    found = found_inversion(path, ONE, allow=["clip_g"])
    assert load_inversion(found).rows.keys() == {"text_encoder"}
    with pytest.raises(InvalidValue, match=r"'clip_k'.*nearest: 'clip_g'"):
        found_inversion(path, ONE, allow=["clip_k"])
