"""Prompts to conditioning beside diffusers' own pipelines, with small random encoders, float64."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.models.embeddings import Timesteps
from networks import ExactTimes, apart, randomized
from torch import nn
from transformers import CLIPTextConfig as TheirConfig
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from diptych.foundation.errors import InvalidValue
from diptych.models.clip_text import CLIPText, CLIPTextConfig
from diptych.pipelines.conditioning import (
    TEXT_RECIPES,
    ClipEncoder,
    Reading,
    TextCond,
    condition,
    size_numbers,
    size_vector,
)
from diptych.text.clip_bpe import ClipTokenizer
from tests.tiny_clip import tiny_folder, tiny_tokenizer

VOCABULARY = len(tiny_tokenizer())
SIZES = {"vocabulary": VOCABULARY, "eos": VOCABULARY - 1, "length": 77}
SMALL = {
    "clip_l": CLIPTextConfig.tiny(**SIZES, projection=0),
    "clip_h": CLIPTextConfig.tiny(**SIZES, projection=0, activation="gelu", width=32),
    "clip_g": CLIPTextConfig.tiny(**SIZES, projection=18, activation="gelu", width=20, depth=4),
}
PROMPTS = [
    ("a photo of the cat", "the old house"),
    ("", "a"),
    ("the (red house:1.3) [and] \\(the\\) BREAK hill", ""),
    ("the cat sat on the mat with another cat " * 9, "birds"),
]
PLAIN = Reading(syntax=False, most=1)


def both(name: str, folder: Path) -> tuple[ClipEncoder, nn.Module, CLIPTokenizer]:
    """One encoder, ours and theirs, with the same weights."""
    config = SMALL[name]
    sizes = TheirConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.hidden,
        hidden_act=config.activation,
        projection_dim=config.projection,
        bos_token_id=config.eos - 1,
        eos_token_id=config.eos,
        pad_token_id=0,
    )
    kind = CLIPTextModelWithProjection if config.projection else CLIPTextModel
    them = randomized(kind(sizes), seed=len(name) + config.width)
    ours = CLIPText(config).double().eval()
    weights = {key.removeprefix("text_model."): value for key, value in them.state_dict().items()}
    ours.load_state_dict(weights, strict=True)
    if not config.projection:
        # diffusers 0.42 asks for what transformers 5 no longer has.
        object.__setattr__(them, "text_model", them)
    pad = {} if name == "clip_l" else {"pad_token": "!"}
    tiny_folder(folder / name, **pad)
    tokenizer = CLIPTokenizer.from_pretrained(folder / name)
    return ClipEncoder(ours, ClipTokenizer.load(folder / name)), them, tokenizer


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All three, ours and theirs."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # it warns of what it cuts
    folder = tmp_path_factory.mktemp("encoders")
    return {name: both(name, folder) for name in SMALL}


def pipeline(family: str, encoders: dict[str, Any]) -> Any:
    """Theirs, with nothing but what reads text."""
    first = {"sd1": "clip_l", "sd2": "clip_h", "sdxl": "clip_l"}.get(family)
    parts: dict[str, Any] = {"vae": None, "unet": None, "scheduler": None}
    parts["text_encoder"], parts["tokenizer"] = encoders[first][1:] if first else (None, None)
    if family in ("sd1", "sd2"):
        rest = {"safety_checker": None, "feature_extractor": None}
        return StableDiffusionPipeline(**parts, **rest, requires_safety_checker=False)
    parts["text_encoder_2"], parts["tokenizer_2"] = encoders["clip_g"][1:]
    if family == "sdxl":
        return StableDiffusionXLPipeline(**parts)
    return StableDiffusionXLImg2ImgPipeline(**parts, force_zeros_for_empty_prompt=False)


def theirs(
    family: str, encoders: dict[str, Any], prompt: str, negative: str | None, skip: int | None
) -> tuple[TextCond, TextCond]:
    pipe = pipeline(family, encoders)
    with torch.no_grad():
        if family in ("sd1", "sd2"):
            found = pipe.encode_prompt(prompt, "cpu", 1, True, negative, clip_skip=skip)
            return TextCond(found[0], None), TextCond(found[1], None)
        a, b, p, q = pipe.encode_prompt(
            prompt, device="cpu", negative_prompt=negative, clip_skip=skip
        )
        return TextCond(a, p), TextCond(b, q)


def ours(
    family: str, encoders: dict[str, Any], prompt: str, negative: str | None, reading: Reading
) -> tuple[TextCond, TextCond]:
    mine = {name: entry[0] for name, entry in encoders.items()}
    return condition(mine, TEXT_RECIPES[family], prompt, negative, reading)


def compared(one: TextCond, other: TextCond) -> float:
    worst = apart(one.sequence, other.sequence)
    if one.pooled is None or other.pooled is None:
        assert one.pooled is other.pooled
        return worst
    return max(worst, apart(one.pooled, other.pooled))


@pytest.mark.parametrize("family", TEXT_RECIPES)
@pytest.mark.parametrize(("prompt", "negative"), PROMPTS)
def test_a_window_of_plain_text(family: str, prompt: str, negative: str, encoders: dict[str, Any]):
    got = ours(family, encoders, prompt, negative, PLAIN)
    wanted = theirs(family, encoders, prompt, negative, None)
    assert compared(got[0], wanted[0]) < 1e-12
    assert compared(got[1], wanted[1]) < 1e-12


@pytest.mark.parametrize("family", TEXT_RECIPES)
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_clip_skip(family: str, skip: int, encoders: dict[str, Any]):
    """Theirs leaves the negative prompt as it is; ours reads both alike."""
    prompt, negative = PROMPTS[0]
    reading = Reading(clip_skip=skip, syntax=False)
    if family == "sdxl" and skip == 2:
        with pytest.raises(InvalidValue, match="clip_l, which has 3 layers"):
            ours(family, encoders, prompt, negative, reading)
        return
    got = ours(family, encoders, prompt, negative, reading)
    for cond, text in zip(got, (prompt, negative), strict=True):
        assert compared(cond, theirs(family, encoders, text, "", skip)[0]) < 1e-12


@pytest.mark.parametrize("family", TEXT_RECIPES)
def test_no_negative_prompt(family: str, encoders: dict[str, Any]):
    got = ours(family, encoders, "the cat", None, PLAIN)[1]
    wanted = theirs(family, encoders, "the cat", None, None)[1]
    assert torch.equal(got.sequence, wanted.sequence) or compared(got, wanted) < 1e-12
    assert bool(got.sequence.any()) == (family != "sdxl")


def test_float32_stays_near(encoders: dict[str, Any]):
    wanted = theirs("sdxl", encoders, *PROMPTS[0], None)
    single = {
        name: ClipEncoder(CLIPText(entry[0].network.config).eval(), entry[0].tokenizer)
        for name, entry in encoders.items()
    }
    for name, entry in encoders.items():
        single[name].network.load_state_dict(entry[0].network.state_dict())
    got = condition(single, TEXT_RECIPES["sdxl"], *PROMPTS[0], PLAIN)
    assert all(compared(*pair) < 3e-6 for pair in zip(got, wanted, strict=True))


@pytest.mark.parametrize("family", ["sdxl", "sdxl-refiner"])
def test_sizes(family: str, encoders: dict[str, Any]):
    cond = ours(family, encoders, "the cat", "", PLAIN)[0]
    assert cond.pooled is not None
    pipe: Any = pipeline(family, encoders)
    said = {"original": (640, 480), "crop": (7, 3)}
    numbers = size_numbers(TEXT_RECIPES[family], (1024, 768), **said, aesthetic=5.5)
    pooled, kind = cond.pooled.shape[-1], torch.float64
    network = nn.Module()
    network.config = TheirConfig()  # pyright: ignore
    network.config.addition_time_embed_dim = 256  # pyright: ignore
    network.add_embedding = nn.Module()
    network.add_embedding.linear_1 = nn.Linear(pooled + 256 * len(numbers), 1)
    object.__setattr__(pipe, "unet", network)
    hints: list[Any] = [(480, 640), (3, 7), (768, 1024)]
    if family == "sdxl":
        wanted = pipe._get_add_time_ids(*hints, kind, pooled)
    else:
        pipe.register_to_config(requires_aesthetics_score=True)
        wanted = pipe._get_add_time_ids(*hints, 5.5, 2.5, *hints, kind, pooled)[0]
    assert torch.tensor([numbers], dtype=kind).equal(wanted)
    for waves, bound in (
        (ExactTimes(256), 1e-12),
        (Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0), 1e-4),  # float32
    ):
        vector = torch.cat([cond.pooled, waves(wanted.flatten()).reshape(1, -1)], dim=-1)
        assert apart(size_vector(cond.pooled, numbers), vector) < bound
