"""Prompts to what SD3 and FLUX are given, beside diffusers' own pipelines, float64."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from networks import apart, exact_norms, randomized
from torch import nn
from transformers import CLIPTextConfig as TheirConfig
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from diptych.foundation.errors import InvalidValue
from diptych.models.clip_text import CLIPText, CLIPTextConfig
from diptych.models.t5_encoder import T5Encoder, T5EncoderConfig
from diptych.pipelines.conditioning import (
    ClipEncoder,
    Encoder,
    Reading,
    Take,
    TextCond,
    TextRecipe,
    condition,
)
from diptych.pipelines.t5_conditioning import NoWords, T5Reader, flux_words, sd3_words
from diptych.text.clip_bpe import ClipTokenizer
from tests.oracles.test_conditioning import PROMPTS, SIZES
from tests.oracles.test_t5 import described
from tests.tiny_clip import tiny_folder
from tests.tiny_t5 import pieces, tiny_t5

PLAIN = Reading(syntax=False, most=1)
WIDTH = 60
CLIPS = {
    "clip_l": CLIPTextConfig.tiny(**SIZES, projection=24, activation="gelu"),
    "clip_g": CLIPTextConfig.tiny(**SIZES, projection=18, activation="gelu", width=20, depth=4),
}
T5 = T5EncoderConfig.tiny(vocabulary=len(pieces()) + 100, width=WIDTH)


def clip(name: str, folder: Path) -> tuple[ClipEncoder, nn.Module, CLIPTokenizer]:
    """One encoder, ours and theirs, with the same weights."""
    config = CLIPS[name]
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
    them = randomized(CLIPTextModelWithProjection(sizes), seed=config.width)
    ours = CLIPText(config).double().eval()
    weights = {key.removeprefix("text_model."): value for key, value in them.state_dict().items()}
    ours.load_state_dict(weights, strict=True)
    tiny_folder(folder / name, **({} if name == "clip_l" else {"pad_token": "!"}))
    theirs = CLIPTokenizer.from_pretrained(folder / name)
    return ClipEncoder(ours, ClipTokenizer.load(folder / name)), them, theirs


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All three: ours, theirs, their tokenizer."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # it warns of what it cuts
    folder = tmp_path_factory.mktemp("encoders")
    found: dict[str, Any] = {name: clip(name, folder) for name in CLIPS}
    them = randomized(exact_norms(T5EncoderModel(described(T5))))
    them.encoder.embed_tokens.weight = them.shared.weight
    ours = T5Encoder(T5).double().eval()
    ours.load_state_dict(them.state_dict(), strict=False)
    extra = [(f"<extra_id_{i}>", 0.0) for i in reversed(range(100))]
    found["t5"] = ours, them, T5TokenizerFast(vocab=[*pieces(), *extra], model_max_length=512)
    return found


def ours(encoders: dict[str, Any], *lengths: int) -> dict[str, Encoder]:
    found: dict[str, Encoder] = {name: encoders[name][0] for name in CLIPS}
    return found | {"t5": T5Reader(encoders["t5"][0], tiny_t5(), lengths)}


def sd3(encoders: dict[str, Any], *, t5: bool = True) -> Any:
    """Theirs, with nothing but what reads text."""
    rest = {"transformer": None, "vae": None, "scheduler": None}
    (_, one, a), (_, two, b), (_, three, c) = (encoders[k] for k in ("clip_l", "clip_g", "t5"))
    pipe: Any = StableDiffusion3Pipeline(
        **rest, text_encoder=one, tokenizer=a, text_encoder_2=two, tokenizer_2=b,
        text_encoder_3=three if t5 else None, tokenizer_3=c if t5 else None,
    )  # fmt: skip
    network = nn.Module()
    network.config = TheirConfig()  # pyright: ignore
    network.config.joint_attention_dim = WIDTH  # pyright: ignore
    object.__setattr__(pipe, "transformer", network)
    return pipe


def compared(one: TextCond, sequence: torch.Tensor, pooled: torch.Tensor) -> float:
    assert one.pooled is not None
    return max(apart(one.sequence, sequence), apart(one.pooled, pooled))


@pytest.mark.parametrize("t5", [True, False])
@pytest.mark.parametrize(("prompt", "negative"), PROMPTS)
def test_sd3(prompt: str, negative: str, t5: bool, encoders: dict[str, Any]):
    mine = ours(encoders, 96)
    if not t5:
        clip_l = mine["clip_l"]
        assert isinstance(clip_l, ClipEncoder)
        mine["t5"] = NoWords(WIDTH, 96, clip_l)
    got = condition(mine, sd3_words(WIDTH), prompt, negative, PLAIN)
    with torch.no_grad():
        a, b, p, q = sd3(encoders, t5=t5).encode_prompt(
            prompt, None, None, "cpu", negative_prompt=negative, max_sequence_length=96
        )
    assert a.shape == (1, 77 + 96, WIDTH) and a.dtype == torch.float64
    assert compared(got[0], a, p) < 1e-12 and compared(got[1], b, q) < 1e-12


@pytest.mark.parametrize("prompt", [prompt for prompt, _ in PROMPTS])
def test_flux(prompt: str, encoders: dict[str, Any]):
    _, one, a = encoders["clip_l"]
    _, three, c = encoders["t5"]
    # FLUX's CLIP has no projection.
    pipe: Any = FluxPipeline(None, None, one.text_model, a, three, c, None)
    mine = ours(encoders, 64)
    unprojected = CLIPText(CLIPTextConfig(**vars(CLIPS["clip_l"]) | {"projection": 0})).double()
    unprojected.load_state_dict(encoders["clip_l"][0].network.state_dict(), strict=False)
    mine["clip_l"] = ClipEncoder(unprojected, encoders["clip_l"][0].tokenizer)
    got, other = condition(mine, flux_words(WIDTH), prompt, None, PLAIN)
    with torch.no_grad():
        a, p, places = pipe.encode_prompt(prompt, None, "cpu", max_sequence_length=64)
    assert a.shape == (1, 64, WIDTH) and not places.any()
    assert compared(got, a, p) < 1e-12
    assert not other.sequence.any()


def test_what_t5_does_not_read_is_returned(encoders: dict[str, Any]):
    prompt = "the cat sat on the mat with another cat " * 9
    got = condition(ours(encoders, 16, 32), sd3_words(WIDTH), prompt, "the dog")
    assert got[0].sequence.shape[1] == 77 * 2 + 32 and prompt.strip().endswith(got[0].truncated)
    assert got[1].sequence.shape[1] == 77 * 2 + 16 and not got[1].truncated


def test_weights_apply_to_both(encoders: dict[str, Any]):
    mine = ours(encoders, 32)
    plain, weighed = (
        condition(mine, sd3_words(WIDTH), text, "", Reading(mean_restored=False))[0].sequence
        for text in ("the red house", "the (red:2) house")
    )
    factors = (weighed / plain).nan_to_num(1)[0]
    assert set(factors.round(decimals=9).flatten().tolist()) == {1.0, 2.0}
    assert (factors[:77] == 2).any() and (factors[77:] == 2).any()


def test_t5_has_no_other_layers(encoders: dict[str, Any]):
    for recipe in (
        TextRecipe(sequence=Take("t5", -2)), TextRecipe(sequence=Take("clip_l"), pooled=("t5",))
    ):  # fmt: skip
        with pytest.raises(InvalidValue, match="T5"):
            condition(ours(encoders, 32), recipe, "the cat")
