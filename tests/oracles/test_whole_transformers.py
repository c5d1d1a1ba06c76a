"""Files that hold all of PixArt and Lumina-Image 2, as ComfyUI writes them: every tensor has its
place, they paint what their folders paint, and diffusers loads the folders made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch import nn
from transformers import GemmaTokenizer, T5TokenizerFast

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_single_file
from diptych.checkpoints.write_folder import write_folder
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.models.autoencoder_sd import FLUX_VAE, SD_VAE, SDXL_VAE, AutoencoderSD
from diptych.models.gemma_encoder import GEMMA2_2B, GemmaEncoder
from diptych.models.t5_encoder import T5Encoder, T5EncoderConfig
from diptych.pipelines.painter_front import TextToImage
from tests.tiny_gemma import learnt
from tests.tiny_stable_diffusion import VAE, all_drawn
from tests.tiny_t5 import pieces
from tests.tiny_transformers import tiny_transformer

pytestmark = pytest.mark.filterwarnings("ignore")
ASKED: dict[str, Any] = {"prompt": "a red cat", "seed": 3, "steps": 2, "width": 32, "height": 16}
T5 = T5EncoderConfig(vocabulary=220, width=16, depth=2, heads=2, head_dim=8, hidden=24)
GEMMA = replace(
    GEMMA2_2B, vocabulary=600, width=12, depth=2, heads=2, groups=1, hidden=24
)  # what its files do not say is as the published one has it
WIDE = {"latent_channels": 16, "quant_convs": False}
MADE: dict[str, tuple[nn.Module, Any]] = {
    "pixart-alpha": (AutoencoderSD(VAE), SD_VAE),
    "pixart-sigma": (AutoencoderSD(replace(VAE, scale=SDXL_VAE.scale)), SDXL_VAE),
    "lumina2": (
        AutoencoderSD(replace(VAE, scale=FLUX_VAE.scale, shift=FLUX_VAE.shift, **WIDE)),
        FLUX_VAE,
    ),
}


def networks(family: str) -> dict[str, nn.Module]:
    encoder = GemmaEncoder(GEMMA) if family == "lumina2" else T5Encoder(T5)
    rest = all_drawn({"vae": MADE[family][0], "text_encoder": encoder})
    painter = tiny_transformer(family)
    if family == "lumina2":  # its latent must be that of the autoencoder
        config = replace(painter.config, in_channels=16, out_channels=16)
        painter = all_drawn({"transformer": type(painter)(config)})["transformer"]
    return {"transformer": painter, **rest}


def tokenizer_folder(folder: Path, family: str) -> None:
    if family == "lumina2":
        vocabulary, merges = learnt()
        GemmaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True).save_pretrained(folder)
    else:
        T5TokenizerFast(vocab=list(pieces())).save_pretrained(folder)


@pytest.mark.parametrize("family", MADE)
def test_a_whole_file_and_its_folder(family: str, tmp_path: Path):
    made = networks(family)
    file = write_single_file(tmp_path / "one.safetensors", made)
    found = {one.part.component: one for one in found_in(file)}
    assert found.keys() == made.keys() and found["transformer"].report.family == family
    assert all(one.report.applied == one.report.total for one in found.values())
    assert not any(one.report.problems for one in found.values())
    vae = found["vae"].part.config
    assert (vae.scale, vae.shift) == (MADE[family][1].scale, MADE[family][1].shift)
    for name, one in found.items():
        state = load(one).state_dict()
        assert all(torch.equal(t, state[key]) for key, t in made[name].state_dict().items())
    with pytest.raises(NotFound, match="tokenizer"):
        TextToImage.load(str(file))
    with pytest.raises(NotFound, match="no file of its vocabulary"):
        write_folder(file, tmp_path / "folder")
    tokenizer_folder(tmp_path / "tokenizer", family)
    folder = write_folder(file, tmp_path / "folder")
    single, whole = (TextToImage.load(str(path)) for path in (file, folder))
    assert single.sampling == whole.sampling and single.size == whole.size
    assert single(**ASKED).tobytes() == whole(**ASKED).tobytes()
    again = write_single_file(
        tmp_path / "two.safetensors", {one.part.component: load(one) for one in found_in(folder)}
    )
    stored = load_file(file)
    assert stored.keys() == load_file(again).keys()
    assert all(torch.equal(t, stored[key]) for key, t in load_file(again).items())
    pipeline = DiffusionPipeline.from_pretrained(folder)
    for name in made:
        theirs = getattr(pipeline, name)
        theirs.save_pretrained(tmp_path / "theirs" / name)
        (one,) = (one for one in found_in(tmp_path / "theirs" / name))
        state = load(one).state_dict()
        assert all(torch.equal(t, state[key]) for key, t in made[name].state_dict().items())
    assert len(pipeline.tokenizer) > 100


@pytest.mark.parametrize("family", ["dit", "lumina-next"])
def test_families_without_whole_files_are_refused(family: str, tmp_path: Path):
    made = {"transformer": tiny_transformer(family), "vae": AutoencoderSD(VAE)}
    with pytest.raises(InvalidValue, match="'vae' has no place in one file"):
        write_single_file(tmp_path / "one.safetensors", made)
