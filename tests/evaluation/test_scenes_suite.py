"""The suite counts what it says it counts, and its prompts hold what is held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import short
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.questions import KINDS
from diptych.data.scenes.world import World
from diptych.evaluation.scenes.prompts import KINDS as PROMPT_KINDS
from diptych.evaluation.scenes.prompts import prompts
from diptych.evaluation.scenes.reading import caption_is_exact
from diptych.evaluation.scenes.suite import painting_suite, reading_suite
from diptych.foundation.randomness import stream
from diptych.pipelines.folders import read_image_to_text, read_text_to_image
from tests.tiny_models import tiny_painter, tiny_reader


@pytest.mark.parametrize("split", ["heldout", "tune"])
def test_every_prompt_holds_a_held_out_combination(split: str):
    asked = prompts(split, 1, 40)
    assert [prompt.kind for prompt in asked] == [kind for kind in PROMPT_KINDS for _ in range(40)]
    assert len({prompt.text for prompt in asked}) == len(asked)
    assert asked == prompts(split, 1, 40) and asked != prompts(split, 2, 40)
    for prompt in asked:
        claims = parse(prompt.text)
        pairs = {v.pair_split(str(g.color), str(g.shape)) for g in claims.groups}
        assert split in pairs
        count = sum(group.count for group in claims.groups)
        assert count == {"one object": 1}.get(prompt.kind, 2)
        assert bool(claims.relations) == (prompt.kind == "relation")


def test_a_caption_is_exact_when_it_says_all_and_nothing_else():
    exact = spoiled = 0
    for index in range(150):
        scene = World(split="heldout").scene(1, index)
        text = short(scene, stream(2, index))
        assert caption_is_exact(text, scene)
        other = World(split="heldout").scene(1, index + 1)
        exact += 1
        spoiled += caption_is_exact(text, other)
        color = scene.things[0].color
        wrong = "pink" if color != "pink" else "red"
        assert not caption_is_exact(text.replace(color, wrong), scene)
        assert not caption_is_exact(f"{text} and a red object", scene)
    assert exact == 150 and spoiled == 0
    assert not caption_is_exact("no sentence", World().scene(1, 0))


def test_scores_are_shares_of_what_was_asked(tmp_path: Path):
    networks, sampling = read_text_to_image(tiny_painter(tmp_path / "p"))
    scores, painted = painting_suite(networks, sampling, "heldout", each=2)
    assert len(painted) == 6 and scores["prompt_correct"] == {
        "value": 0.0, "low": 0.0, "high": pytest.approx(0.390, abs=0.01), "n": 6,
    }  # fmt: skip
    reader = read_image_to_text(tiny_reader(tmp_path / "r"))
    read = reading_suite(reader, "heldout", captions=3, each=2)
    assert read["caption_exact"]["n"] == 3 and read["answer_accuracy"]["n"] == 2 * len(KINDS)
    assert set(read["answer_accuracy_by_kind"]) == set(KINDS) and read["read_exact"]["n"] == 2
