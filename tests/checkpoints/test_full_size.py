"""Whole files of the published sizes, which have names and shapes and no content on the disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from diptych.checkpoints.load import found_in
from diptych.checkpoints.rules import shape_of
from diptych.checkpoints.write import plans_of
from diptych.foundation.errors import Unreadable
from diptych.models.autoencoder_sd import SD_VAE, SDXL_VAE, AutoencoderSD
from diptych.models.clip_text import CLIP_L, OPENCLIP_BIGG, OPENCLIP_H, CLIPText
from diptych.models.unet import SD1, SD2, SDXL, SDXL_REFINER, UNet

_KINDS = {"unet": UNet, "vae": AutoencoderSD}
CONFIGS = {
    "sd1": {"unet": SD1, "vae": SD_VAE, "text_encoder": CLIP_L},
    # The published file has the 24th layer, the projection and a scale.
    "sd2": {"unet": SD2, "vae": SD_VAE, "text_encoder": replace(OPENCLIP_H, depth=24)},
    "sdxl": {
        "unet": SDXL, "vae": SDXL_VAE, "text_encoder": CLIP_L, "text_encoder_2": OPENCLIP_BIGG
    },
    "sdxl-refiner": {"unet": SDXL_REFINER, "vae": SDXL_VAE, "text_encoder_2": OPENCLIP_BIGG},
}  # fmt: skip
# Beside what is applied, as it was published.
BESIDE = {
    "sd1": {"cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77)},
    "sd2": {
        "cond_stage_model.model.logit_scale": (),
        "cond_stage_model.model.text_projection": (1024, 1024),
    },
    "sdxl": {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": (1, 77),
        "conditioner.embedders.1.model.logit_scale": (),
    },
    "sdxl-refiner": {"conditioner.embedders.0.model.logit_scale": ()},
}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(family: str) -> Shapes:
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            name: _KINDS.get(name, CLIPText)(config) for name, config in CONFIGS[family].items()
        }
    shapes: Shapes = dict(BESIDE[family])
    for name, plan in plans_of(networks).items():
        state = networks[name].state_dict()
        shapes |= {take.theirs: shape_of(take, tuple(state[take.ours].shape)) for take in plan}
    return shapes


def hollow(path: Path, shapes: Shapes) -> Path:
    """A float16 file of these names in which nothing is written: all zeros, and no blocks."""
    described, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        described[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + at)
    return path


@pytest.mark.parametrize("family", CONFIGS)
def test_every_tensor_has_its_place(family: str, tmp_path: Path):
    path = hollow(tmp_path / "whole.safetensors", shapes_of(family))
    found = {one.part.component: one for one in found_in(path)}
    wanted = {**CONFIGS[family]}
    last = [name for name in shapes_of(family) if ".resblocks.23." in name and family == "sd2"]
    if family == "sd2":
        wanted["text_encoder"] = OPENCLIP_H
        assert len(last) == 12
    assert {name: one.part.config for name, one in found.items()} == wanted
    assert found["unet"].report.family == family
    for one in found.values():
        assert one.report.applied == one.report.total and not one.report.problems
    ignored = [name for one in found.values() for name in one.report.ignored]
    assert sorted(ignored) == sorted([*BESIDE[family], *last])


@pytest.mark.parametrize("family", CONFIGS)
def test_a_file_without_its_last_layers_is_not_taken_for_a_smaller_one(family: str, tmp_path: Path):
    shapes = shapes_of(family)
    depth = {"sd1": 12, "sd2": 23, "sdxl": 32, "sdxl-refiner": 32}[family]
    cut = {name: shape for name, shape in shapes.items() if f".{depth - 1}." not in name}
    with pytest.raises(Unreadable, match=rf"\.{depth - 1}\..* is missing"):
        for one in found_in(hollow(tmp_path / "cut.safetensors", cut)):
            if one.part.component.startswith("text"):
                one.report.check()
