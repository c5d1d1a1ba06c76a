"""Conditioning from prompts: chunks, weights, pairs, and recipes as data."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue
from diptych.models.clip_text import CLIP_L, OPENCLIP_BIGG, OPENCLIP_H, CLIPText, CLIPTextConfig
from diptych.pipelines.conditioning import (
    TEXT_RECIPES,
    Cat,
    ClipEncoder,
    Pad,
    Reading,
    Take,
    TextRecipe,
    condition,
    size_numbers,
    size_vector,
    weighted,
)
from diptych.text.prompts import parse, tokens_of
from tests.tiny_clip import tiny_tokenizer

CLIP, OPENCLIP = tiny_tokenizer(), tiny_tokenizer(pad="!")
LENGTH = 12


def drawn(seed: int, tokenizer=CLIP, **changes: object) -> ClipEncoder:
    """A small encoder with random weights."""
    sizes = {"vocabulary": len(tokenizer), "eos": tokenizer.end, "length": LENGTH}
    torch.manual_seed(seed)
    network = CLIPText(CLIPTextConfig.tiny(**sizes, **changes)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return ClipEncoder(network, tokenizer)


ENCODERS = {
    "clip_l": drawn(1, projection=0),
    "clip_h": drawn(2, OPENCLIP, projection=0, activation="gelu"),
    "clip_g": drawn(3, OPENCLIP, width=20, projection=16, depth=4, activation="gelu"),
}
every_family = pytest.mark.parametrize("family", TEXT_RECIPES)
SHORT, LONG = "the (cat:1.5)", "the cat " * 12 + "(the [house]:0.7)"


def sequence(prompt: str, reading: Reading | None = None, family: str = "sd1") -> Tensor:
    return condition(ENCODERS, TEXT_RECIPES[family], prompt, "", reading or Reading())[0].sequence


def alone(name: str, prompt: str) -> list[Tensor]:
    """What an encoder says of each chunk, after its final norm."""
    encoder = ENCODERS[name]
    tokens = tokens_of(parse(prompt), encoder.tokenizer, length=LENGTH)
    with torch.no_grad():
        return [encoder.network(torch.tensor([ids])).last for ids in tokens.ids]


@every_family
def test_shapes_and_the_longer_of_a_pair(family: str):
    recipe = TEXT_RECIPES[family]
    width = {"sd1": 24, "sd2": 24, "sdxl": 44, "sdxl-refiner": 20}[family]
    for prompt, negative, chunks in ((SHORT, "", 1), (LONG, "a", 3), ("a", LONG, 3)):
        for cond in condition(ENCODERS, recipe, prompt, negative):
            assert cond.sequence.shape == (1, LENGTH * chunks, width) and not cond.truncated
            assert (cond.pooled is None) == (not recipe.pooled)
            assert cond.pooled is None or cond.pooled.shape == (1, 16)


@every_family
def test_bits_depend_on_the_pair_alone_and_there_on_its_length(family: str):
    recipe = TEXT_RECIPES[family]
    short, _ = condition(ENCODERS, recipe, SHORT, "a")
    beside_long, long = condition(ENCODERS, recipe, SHORT, LONG)
    swapped = condition(ENCODERS, recipe, LONG, SHORT)
    assert torch.equal(beside_long.sequence[:, :LENGTH], short.sequence)
    empty = condition(ENCODERS, recipe, "", "")[0].sequence
    assert torch.equal(beside_long.sequence[:, LENGTH:], empty.repeat(1, 2, 1))
    for one, other in zip((long, beside_long), swapped, strict=True):
        assert torch.equal(one.sequence, other.sequence)
        assert one.pooled is None or torch.equal(one.pooled, other.pooled)


def test_chunks_are_encoded_each():
    text = "the cat " * 12
    parts = alone("clip_l", text)
    assert len(parts) == 3 and torch.equal(sequence(text), torch.cat(parts, dim=1))
    broken = sequence("the cat BREAK the house")
    assert torch.equal(broken, torch.cat(alone("clip_l", "the cat BREAK the house"), dim=1))
    assert torch.equal(broken[:, :LENGTH], sequence("the cat"))


def test_pooled_is_of_the_first_chunk():
    pooled = [condition(ENCODERS, TEXT_RECIPES["sdxl"], text)[0].pooled for text in (
        "the cat", "(the:1.4) cat BREAK a house", "a house"
    )]  # fmt: skip
    assert torch.equal(pooled[0], pooled[1]) and not torch.equal(pooled[0], pooled[2])


def test_weights_scale_their_tokens():
    plain, reading = sequence("the cat a house"), Reading(mean_restored=False)
    one = sequence("the (cat:1.5) a [house]", reading)
    tokens = tokens_of(parse("the (cat:1.5) a [house]"), CLIP, length=LENGTH)
    factors = torch.tensor(tokens.weights[0])
    assert set(tokens.weights[0]) == {1.0, 1.5, 1 / 1.1}
    assert torch.equal(one, plain * factors[:, None])
    # The mean of each chunk is that of the chunk without weights.
    restored = sequence("the (cat:1.5) a [house]")
    torch.testing.assert_close(restored.mean(), plain.mean())
    ratio = restored / one
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    assert abs(float(ratio.mean()) - 1) > 1e-4


def test_chunks_are_weighed_each():
    text = "(the cat:2) BREAK a house"
    both, first = sequence(text), sequence("(the cat:2)")
    assert torch.equal(both[:, :LENGTH], first)
    assert torch.equal(both[:, LENGTH:], sequence("a house"))


@every_family
def test_weights_of_one_change_no_bit(family: str):
    for text in ("(the cat:1)", "((the:2) cat:1)", "[(the cat:1.1)"):
        weights = tokens_of(parse(text), CLIP, length=LENGTH).weights[0]
        same = torch.equal(sequence(text, family=family), sequence("the cat", family=family))
        assert same == (set(weights) == {1.0})


@settings(max_examples=100, deadline=None)
@example([1e-40, 0.0, 0.0, 0.0], True)
@example([1.0, -1.0, 1e-38, 3.0e-38], True)
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.booleans())
def test_any_weights_give_finite_states(weights: list[float], restored: bool):
    z = torch.ones(1, 4, 3)
    assert weighted(z, weights, restored).isfinite().all()


def test_no_mean_to_restore():
    z = torch.tensor([[[1.0], [1.0]]])
    assert torch.equal(weighted(z, (1.0, -1.0), True), torch.tensor([[[1.0], [-1.0]]]))
    half = torch.randn(1, 5, 8).bfloat16()
    assert weighted(half, (1, 2, 1, 1, 1), True).dtype == torch.bfloat16


def test_what_is_cut_is_told():
    whole, kept = Reading(), Reading(most=2)
    for family, recipe in TEXT_RECIPES.items():
        long = condition(ENCODERS, recipe, LONG, "", whole)[0]
        cut, other = condition(ENCODERS, recipe, LONG, "", kept)
        assert (long.truncated, other.truncated) == ("", ""), family
        assert cut.truncated == "the cat the cat the house"
        assert torch.equal(cut.sequence, long.sequence[:, : 2 * LENGTH])


def test_brackets_are_words_without_syntax():
    text = "the (cat:1.5) BREAK"
    found = sequence(text, Reading(syntax=False))
    literal = sequence(r"the \(cat:1.5\) \BREAK")
    assert torch.equal(found, literal) and not torch.equal(found[:, :LENGTH], sequence("the cat"))


def test_no_negative_prompt_is_zeros_where_a_family_was_trained_so():
    for family, recipe in TEXT_RECIPES.items():
        absent = condition(ENCODERS, recipe, LONG)[1]
        empty = condition(ENCODERS, recipe, LONG, "")[1]
        assert empty.sequence.any() and absent.sequence.shape == empty.sequence.shape
        assert recipe.zeros == (family == "sdxl") == (not absent.sequence.any())
        if absent.pooled is not None:
            assert recipe.zeros == (not absent.pooled.any())


def test_clip_skip_takes_earlier_layers_of_both():
    network = ENCODERS["clip_l"].network
    ids = tokens_of(parse("the cat"), CLIP, length=LENGTH).ids
    with torch.no_grad():
        layers = network(torch.tensor(ids)).layers
        for skip in (0, 1, 2):
            for cond in condition(
                ENCODERS, TEXT_RECIPES["sd1"], "the cat", "the cat", Reading(clip_skip=skip)
            ):
                assert torch.equal(cond.sequence, network.final_layer_norm(layers[-1 - skip]))
    with pytest.raises(InvalidValue, match="leaves nothing of clip_l") as error:
        sequence("the cat", Reading(clip_skip=3))
    assert "0 to 2" in error.value.do


@pytest.mark.parametrize("wrong", [{"clip_skip": -1}, {"most": 0}])
def test_readings_that_mean_nothing_are_refused(wrong: dict[str, int]):
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        Reading(**wrong)


def test_a_recipe_of_another_family_is_data_too():
    """SD3's first half: channels side by side, padded, then tokens behind each other."""
    first = Cat(-1, (Take("clip_l", -2), Take("clip_g", -2)))
    recipe = TextRecipe(
        sequence=Cat(-2, (Pad(60, first), Pad(60, Take("clip_h", -1, norm=True)))),
        pooled=("clip_l", "clip_g"),
    )
    found = condition(ENCODERS, recipe, LONG)[0]
    assert found.sequence.shape == (1, 6 * LENGTH, 60) and found.pooled.shape == (1, 24 + 16)
    sdxl = condition(ENCODERS, TEXT_RECIPES["sdxl"], LONG)[0]
    assert torch.equal(found.sequence[:, : 3 * LENGTH, :44], sdxl.sequence)
    assert not found.sequence[:, : 3 * LENGTH, 44:].any()
    assert torch.equal(found.pooled[:, 24:], sdxl.pooled)


def test_numbers_of_a_size():
    sdxl, refiner = TEXT_RECIPES["sdxl"], TEXT_RECIPES["sdxl-refiner"]
    assert size_numbers(sdxl, (1024, 768)) == (768, 1024, 0, 0, 768, 1024)
    told = size_numbers(sdxl, (64, 32), original=(20, 10), crop=(1, 2))
    assert told == (10, 20, 2, 1, 32, 64)
    assert size_numbers(refiner, (64, 32), aesthetic=2.5) == (32, 64, 0, 0, 2.5)
    assert size_numbers(TEXT_RECIPES["sd1"], (64, 32)) == ()


@every_family
def test_published_widths(family: str):
    """Context and vector as the U-Nets have them."""
    sizes = {
        "clip_l": (CLIP_L, CLIP),
        "clip_h": (OPENCLIP_H, CLIP),
        "clip_g": (OPENCLIP_BIGG, CLIP),
    }
    with torch.device("meta"):
        encoders = {name: ClipEncoder(CLIPText(c), t) for name, (c, t) in sizes.items()}
        recipe = TEXT_RECIPES[family]
        cond = condition(encoders, recipe, "the cat")[0]
        context = {"sd1": 768, "sd2": 1024, "sdxl": 2048, "sdxl-refiner": 1280}[family]
        assert cond.sequence.shape == (1, 77, context)
        if cond.pooled is not None:
            vector = size_vector(cond.pooled, size_numbers(recipe, (1024, 1024)))
            assert vector.shape == (1, {"sdxl": 2816, "sdxl-refiner": 2560}[family])
