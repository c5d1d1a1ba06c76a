"""DDPM and ADM beside diffusers: the same folder and seed are the same picture, through whole ways
of twenty steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    UNet2DModel,
)
from diffusers.schedulers import scheduling_ddpm
from networks import randomized
from PIL import Image
from test_unet_adm import ADM, described

from diptych.cli.main import entry as main
from diptych.diffusion.noise import step_noise
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.models.unet_adm import UNetADMConfig
from diptych.pipelines.painter_front import TextToImage

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS, SEED = 20, 5
HEIGHT, WIDTH = 12, 20


def unet(**changes: Any) -> UNet2DModel:
    config = UNetADMConfig.tiny(**changes)
    with torch.no_grad():
        network = randomized(UNet2DModel(**described(config), sample_size=(HEIGHT, WIDTH)), 0)
        network = network.float().eval()
        for name, parameter in network.named_parameters():
            if "norm" in name and parameter.ndim == 1 and not name.endswith("bias"):
                parameter.sub_(1).mul_(0.3).add_(1)
            if name.startswith("conv_out"):
                parameter.mul_(0.4)
    return network


def written(pipeline: Any, folder: Path, index: dict[str, Any] | None = None) -> Path:
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    if index:
        place = folder / "model_index.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | index))
    return folder


def loaded(folder: Path) -> TextToImage:
    model = TextToImage.load(str(folder))
    assert [one.component for one in model.reports] == ["unet"]
    assert model.reports[0].applied == model.reports[0].total
    return model


def same(found: Any, wanted: np.ndarray) -> None:
    # Ours is rounded to bytes: half of one, and 1e-4 of the range.
    found = np.asarray(found) / 255
    assert found.shape == wanted.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(found - wanted).max() < 0.5 / 255 + 1e-4
    assert wanted.std() > 0.05 and (np.abs(wanted - 0.5) < 0.499).mean() > 0.1


# A weak schedule: what a network says at random is not carried beyond all colors.
WEAK = {"beta_end": 0.004}
SCHEDULERS = {
    "fixed_small": (DDPMScheduler, {"variance_type": "fixed_small"}),
    "fixed_large": (DDPMScheduler, {"variance_type": "fixed_large"}),
    "not cut": (DDPMScheduler, WEAK | {"clip_sample": False}),
    "cut further out": (DDPMScheduler, {"clip_sample_range": 1.7}),
    "cosine": (DDPMScheduler, {"beta_schedule": "squaredcos_cap_v2"}),
    "trailing": (DDPMScheduler, {"timestep_spacing": "trailing"}),
    "ddim": (DDIMScheduler, WEAK),
    "ddim, not cut": (DDIMScheduler, WEAK | {"clip_sample": False}),
    "ddim, offset": (DDIMScheduler, WEAK | {"steps_offset": 1, "set_alpha_to_one": False}),
    "ddim, v": (DDIMScheduler, {"prediction_type": "v_prediction"}),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_folder_without_words_paints_the_same_picture(name: str, tmp_path: Path, monkeypatch):
    kind, said = SCHEDULERS[name]
    build = DDPMPipeline if kind is DDPMScheduler else DDIMPipeline
    theirs = build(unet=unet(), scheduler=kind(**said))
    steps = iter(range(STEPS))

    def fresh(shape: Any, **ignored: Any) -> torch.Tensor:
        return step_noise([SEED], next(steps), tuple(shape[1:]))

    # Both draw the same noise: theirs would draw on with the generator of the first.
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", fresh)
    model = loaded(written(theirs, tmp_path))
    # As DDIM was published with a cut: the noise is told again by what was cut.
    more = {"use_clipped_model_output": True} if build is DDIMPipeline else {}
    generator = torch.Generator().manual_seed(SEED)
    wanted = theirs(
        generator=generator, num_inference_steps=STEPS, output_type="np", **more
    ).images[0]  # fmt: skip
    same(model("", seed=SEED, steps=STEPS), wanted)
    assert model.size == (WIDTH, HEIGHT)


def test_a_class_is_painted_the_same_without_the_learned_variance(tmp_path: Path):
    theirs = unet(**ADM | {"out_channels": 6})
    scheduler = DDIMScheduler(**WEAK)
    names = {"id2label": {"3": "tench, Tinca", "7": "cock"}}
    model = loaded(written(DDIMPipeline(theirs, scheduler), tmp_path, names))
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(1, 3, HEIGHT, WIDTH, generator=generator)
    scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for t in scheduler.timesteps:
            said = theirs(x, t, class_labels=torch.tensor([3])).sample[:, :3]
            x = scheduler.step(said, t, x, use_clipped_model_output=True).prev_sample
    wanted = (x / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    for prompt in ("3", "tench", "Tinca"):
        same(model(prompt, seed=SEED, steps=STEPS), wanted)
    other = np.asarray(model("cock", seed=SEED, steps=STEPS)) / 255
    assert np.abs(other - wanted).max() > 0.02
    assert model.reports[0].family == "adm" and "DDIM" in model.reports[0].assumed["variance"]
    with pytest.raises(NotFound, match="cock"):
        model("cocc")
    with pytest.raises(InvalidValue, match="guided away"):
        model("3", guidance=2.0)
    with pytest.raises(InvalidValue, match="empty"):
        model(" ")


def test_a_file_beside_its_config_is_the_same(tmp_path: Path):
    folder = written(DDPMPipeline(unet(), DDPMScheduler()), tmp_path / "whole")
    picture = loaded(folder)("", seed=SEED, steps=3)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    again = TextToImage.load(str(file))("", seed=SEED, steps=3)
    assert again.tobytes() == picture.tobytes()
    # The oldest were published flat.
    flat = tmp_path / "flat"
    shutil.copytree(folder / "unet", flat)
    for place in ("model_index.json", "scheduler/scheduler_config.json"):
        shutil.copy(folder / place, flat)
    assert loaded(flat)("", seed=SEED, steps=3).tobytes() == picture.tobytes()


def test_what_is_not_built_is_refused_by_name(tmp_path: Path):
    folder = written(DDPMPipeline(unet(), DDPMScheduler()), tmp_path)
    place = folder / "scheduler" / "scheduler_config.json"
    content = json.loads(place.read_text())
    for more, name in (
        ({"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
        ({"variance_type": "fixed_large_log"}, "fixed_large_log"),
        ({"thresholding": True}, "thresholding"),
        ({"beta_schedule": "sigmoid"}, "sigmoid"),
    ):
        place.write_text(json.dumps(content | more))
        with pytest.raises(Unreadable, match=name):
            TextToImage.load(str(folder))


def test_what_a_model_without_words_does_not_take(tmp_path: Path):
    model = loaded(written(DDPMPipeline(unet(), DDPMScheduler()), tmp_path))
    for prompt, more, what in (
        ("a cat", {}, "reads no 'a cat'"),
        ("", {"negative_prompt": "dark"}, "no words"),
        ("", {"shift": 3.0}, "shift"),
        ("", {"true_guidance": 3.0}, "as FLUX"),
        ("", {"width": 13}, "multiples of 2"),
    ):
        with pytest.raises(InvalidValue, match=what):
            model(prompt, steps=2, **more)
    many = model(["", ""], seed=[1, 2], steps=3, width=16, height=8)
    assert isinstance(many, list) and many[0].size == (16, 8)
    alone = np.asarray(model("", seed=2, steps=3, width=16, height=8)).astype(int)
    assert np.abs(alone - np.asarray(many[1])).max() <= 1


def test_the_command_paints_without_words(tmp_path: Path, capsys):
    folder = str(written(DDPMPipeline(unet(), DDPMScheduler()), tmp_path / "model"))
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    assert main(["generate", "--model", folder, "--steps", "3", "-o", str(first)]) == 0
    assert main(["generate", "--like", str(first), "--model", folder, "-o", str(again)]) == 0
    assert first.read_bytes() == again.read_bytes() and Image.open(first).size == (WIDTH, HEIGHT)
    assert main(["generate", "", "--model", folder, "--steps", "2", "-o", str(tmp_path / "c")]) == 0
    assert [one.name for one in (tmp_path / "c").iterdir()] == ["picture-0.png"]
    assert main(["models", "inspect", folder]) == 0
    assert "ddpm" in capsys.readouterr().out
