"""The two fronts: the same request is the same picture, and a row knows no neighbour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data.scenes.render import render
from diptych.data.scenes.world import World
from diptych.diffusion.solvers import ALIASES, SOLVERS
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.pipelines.image_to_text import respond
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.reference import folder_of
from tests.tiny_models import tiny_painter, tiny_reader

PROMPTS = ["a red circle", "two large green stars on a mint background", "a blue moon"]


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    return TextToImage.load(str(tiny_painter(tmp_path_factory.mktemp("painter"))))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ImageToText:
    return ImageToText.load(str(tiny_reader(tmp_path_factory.mktemp("reader"))))


def test_a_seed_is_a_picture(painter: TextToImage):
    first, again = painter(PROMPTS[0], seed=3), painter(PROMPTS[0], seed=3)
    assert first.size == (32, 32) and first.tobytes() == again.tobytes()
    assert first.tobytes() != painter(PROMPTS[0], seed=4).tobytes()
    assert first.tobytes() != painter(PROMPTS[1], seed=3).tobytes()


def test_a_picture_does_not_know_its_neighbours(painter: TextToImage):
    together = painter(PROMPTS, seed=[7, 8, 9])
    for prompt, seed, picture in zip(PROMPTS, [7, 8, 9], together, strict=True):
        alone = np.asarray(painter(prompt, seed=seed)).astype(int)
        assert np.abs(alone - np.asarray(picture)).max() <= 1


def test_guidance_and_negative_words_change_the_picture(painter: TextToImage):
    plain = painter(PROMPTS[0], seed=1, guidance=1.0)
    assert plain.tobytes() != painter(PROMPTS[0], seed=1, guidance=5.0).tobytes()
    pushed = painter(PROMPTS[0], seed=1, negative_prompt="a blue square", guidance=5.0)
    assert pushed.tobytes() != painter(PROMPTS[0], seed=1, guidance=5.0).tobytes()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("solver", [*SOLVERS, *ALIASES])
def test_every_solver_paints_or_says_why_not(painter: TextToImage, solver: str, steps: int):
    if solver == "lcm":
        with pytest.raises(InvalidValue, match=r"training steps.*'consistency'"):
            painter(PROMPTS[0], solver=solver, steps=steps)
        return
    picture = painter(PROMPTS[0], seed=2, solver=solver, steps=steps)
    assert picture.tobytes() == painter(PROMPTS[0], seed=2, solver=solver, steps=steps).tobytes()
    assert picture.info["recipe"].solver == solver


def test_spacing_and_noise_are_chosen_by_name(painter: TextToImage):
    ways = [{}, {"spacing": "beta"}, {"noise": "philox"}]
    pictures = [
        painter(PROMPTS[0], seed=2, solver="euler-ancestral", steps=4, **way) for way in ways
    ]
    assert len({picture.tobytes() for picture in pictures}) == 3
    for way, picture in zip(ways, pictures, strict=True):
        recipe = picture.info["recipe"]
        assert {"spacing": recipe.spacing, "noise": recipe.noise} == {
            "spacing": "trailing", "noise": "torch", **way
        }  # fmt: skip
    with pytest.raises(InvalidValue, match="training steps"):
        painter(PROMPTS[0], spacing="leading")
    with pytest.raises(NotFound, match="philox"):
        painter(PROMPTS[0], noise="filox")


def test_a_picture_begun_from_keeps_what_little_strength_leaves(painter: TextToImage):
    init = painter(PROMPTS[0], seed=1, steps=8)
    away = [
        np.abs(np.asarray(painter(PROMPTS[1], seed=5, steps=8, init=init, strength=s)).astype(int)
               - np.asarray(init)).mean()
        for s in (0.125, 0.5, 1.0)
    ]  # fmt: skip
    assert away[0] < away[1] < away[2]
    free = painter(PROMPTS[1], seed=5, steps=8)
    whole = painter(PROMPTS[1], seed=5, steps=8, init=init, strength=1.0)
    assert free.tobytes() == whole.tobytes()  # a flow begins at noise alone: nothing is left
    recipe = whole.info["recipe"]
    assert recipe.strength == 1.0 and len(recipe.init) == 10 and recipe.mask == ""


@pytest.mark.parametrize("solver", ["euler", "heun", "unipc", "euler-ancestral"])
def test_what_a_mask_holds_stays_to_the_pixel(painter: TextToImage, solver: str):
    init = painter(PROMPTS[0], seed=1, steps=4)
    mask = Image.new("L", init.size, 0)
    mask.paste(255, (8, 8, 24, 24))
    made = painter(PROMPTS[2], seed=6, steps=6, solver=solver, init=init, mask=mask)
    before, after = np.asarray(init), np.asarray(made)
    inside = np.asarray(mask) > 0
    assert (before[~inside] == after[~inside]).all() and (before[inside] != after[inside]).any()
    again = painter(PROMPTS[2], seed=6, steps=6, solver=solver, init=init, mask=mask)
    assert made.tobytes() == again.tobytes()


@pytest.mark.parametrize(
    ("change", "word"),
    [({"strength": 0.5}, "belongs to a picture"), ({"mask": Image.new("L", (32, 32))}, "belongs"),
     ({"init": Image.new("RGB", (16, 16))}, "not offered"),
     ({"init": Image.new("RGB", (32, 32)), "mask": Image.new("L", (16, 16))}, "one size"),
     ({"init": Image.new("RGB", (32, 32)), "width": 64}, "is asked for"),
     ({"init": Image.new("RGB", (32, 32)), "strength": 0.0}, "strength of 0"),
     ({"init": Image.new("RGB", (32, 32)), "strength": 1.5}, "strength of 1.5")],
)  # fmt: skip
def test_editing_that_means_nothing_is_refused(painter: TextToImage, change: dict, word: str):
    with pytest.raises(InvalidValue, match=word):
        painter(PROMPTS[0], **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "  "}, "empty"),
        ({"prompt": "a red circlle"}, "'circlle'"),
        ({"prompt": "a red circle and " * 20}, "tokens"),
        ({"steps": 0}, "0 steps"),
        ({"guidance": -1.0}, "guidance"),
        ({"width": 512}, "512 x 32"),
        ({"seed": -1}, "seed"),
        ({"seed": [1, 2]}, "2 seeds"),
    ],
)
def test_what_cannot_be_painted_is_refused_by_name(painter: TextToImage, change: dict, said: str):
    with pytest.raises(InvalidValue, match=said):
        painter(**({"prompt": PROMPTS[0]} | change))


def test_greedy_answers_are_those_of_the_whole_forward_pass(reader: ImageToText):
    """The cache gives what recomputing everything gives, token by token."""
    picture = render(World().scene(1, 1), 32)
    answer = respond(reader.networks, [picture], ["caption"])[0]
    network, tokenizer = reader.networks.reader, reader.networks.tokenizer
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    ids = [tokenizer.bos, *tokenizer.encode("caption"), tokenizer.bos]
    logprobs: list[float] = []
    with torch.inference_mode():
        for _ in answer.logprobs:
            logits = network(image, torch.tensor([ids]))[0, -1].log_softmax(-1)
            logprobs.append(float(logits.max()))
            ids.append(int(logits.argmax()))
    assert answer.logprobs == pytest.approx(logprobs, abs=1e-4)
    said = [i for i in ids[3:] if i != tokenizer.eos]
    assert answer.text == tokenizer.decode(said)
    assert 0 <= answer.score <= 1 and answer.confidence is not None


def test_answers_do_not_know_their_neighbours(reader: ImageToText):
    pictures = [Image.fromarray(render(World().scene(2, i), 32)) for i in range(3)]
    tasks = ["caption", "how many stars?", "caption"]
    together = reader.respond(pictures, tasks)
    for picture, task, answer in zip(pictures, tasks, together, strict=True):
        alone = reader.respond([picture], [task])[0]
        assert alone.text == answer.text
        assert alone.logprobs == pytest.approx(answer.logprobs, abs=1e-4)


def test_a_question_with_unknown_words_is_refused(reader: ImageToText):
    picture = Image.new("RGB", (50, 40))
    with pytest.raises(InvalidValue, match="giraffes"):
        reader.answer(picture, "how many giraffes?")
    with pytest.raises(InvalidValue, match="empty"):
        reader.answer(picture, " ")


def test_references_name_the_nearest_or_say_what_is_wrong(tmp_path: Path, reader: ImageToText):
    with pytest.raises(NotFound, match="scenes-t2i"):
        folder_of("scenes-t2")
    with pytest.raises(NotFound, match=r"pipeline\.json"):
        TextToImage.load(str(tmp_path))
    with pytest.raises(Unreadable, match="image-to-text"):
        TextToImage.load(str(tiny_reader(tmp_path / "reader")))
    with pytest.raises(InvalidValue, match="device"):
        ImageToText.load(str(tmp_path / "reader"), device="abacus")
