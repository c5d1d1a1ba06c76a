"""Folders that we write, from our single files, in diffusers: every component is filled, and the
pipeline paints what the one paints that the weights came from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    DiTTransformer2DModel,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    PixArtTransformer2DModel,
)

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_file_of, write_single_file
from diptych.checkpoints.write_folder import write_folder
from tests.oracles.test_flow_pipelines import published
from tests.oracles.test_stable_diffusion import made_sd1
from tests.oracles.test_stable_diffusion_2_and_xl import made_sd2, made_xl
from tests.tiny_transformers import tiny_transformer

pytestmark = pytest.mark.filterwarnings("ignore")
__all__ = ["published"]  # a fixture
WORDS = {"prompt": "a photo of a red cat", "negative_prompt": "blurry, dark"}


def painted(pipeline: Any, **asked: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    return pipeline(
        generator=generator, output_type="np", num_inference_steps=6, width=24, height=16, **asked
    ).images[0]


def same_weights(made: Any, read: Any) -> None:
    for name in made.config:
        network = getattr(made, name, None)
        if isinstance(network, torch.nn.Module):
            wanted, found = network.state_dict(), getattr(read, name).state_dict()
            assert wanted.keys() == found.keys()
            assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "make", [made_sd1, pytest.param(made_sd2, marks=SLOW), pytest.param(made_xl, marks=SLOW)]
)
def test_their_pipeline_paints_from_our_folder(make: Any, tmp_path: Path):
    made = make()
    made.save_pretrained(tmp_path / "theirs")
    file = write_file_of(tmp_path / "theirs", tmp_path / "one.safetensors")
    read = DiffusionPipeline.from_pretrained(write_folder(file, tmp_path / "ours"))
    assert type(read) is type(made)
    same_weights(made, read)
    assert np.array_equal(painted(read, **WORDS), painted(made, **WORDS))


FLOWS = [
    "flux-dev",
    "flux-fill",
    *(pytest.param(name, marks=SLOW) for name in ("sd3", "sd3.5-medium", "flux-schnell")),
]


@pytest.mark.parametrize("family", FLOWS)
def test_their_pipeline_paints_from_our_folder_of_a_flow(published, family: str, tmp_path: Path):
    made, folder = published(family)
    file = write_file_of(folder, tmp_path / "one.safetensors")
    words = "tokenizer_3" if family.startswith("sd3") else "tokenizer_2"
    shutil.copytree(folder / words, tmp_path / words)
    read = DiffusionPipeline.from_pretrained(write_folder(file, tmp_path / "ours"))
    assert type(read) is type(made)
    same_weights(made, read)
    if family == "flux-fill":
        return
    asked = WORDS if family.startswith("sd3") else {"prompt": WORDS["prompt"]}
    assert np.array_equal(painted(read, **asked), painted(made, **asked))


ALONE = {
    "dit": DiTTransformer2DModel,
    "lumina-next": LuminaNextDiT2DModel,
    "lumina2": Lumina2Transformer2DModel,
    "pixart-alpha": PixArtTransformer2DModel,
    "pixart-sigma": PixArtTransformer2DModel,
}


@pytest.mark.parametrize("family", ALONE)
def test_their_network_is_filled_by_our_component(family: str, tmp_path: Path):
    network = tiny_transformer(family)
    file = write_single_file(tmp_path / "one.safetensors", {"transformer": network})
    folder = write_folder(file, tmp_path / "transformer")
    read, told = ALONE[family].from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    read.save_pretrained(tmp_path / "again")
    (one,) = found_in(tmp_path / "again")
    again = load(one).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in network.state_dict().items())
