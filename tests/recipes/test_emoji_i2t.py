"""`emoji-i2t` on a set of a few drawings made here: no network, no download."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from diptych.data.shards import write_shards
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.models.vision_language import VisionConfig, VisionLanguageConfig
from diptych.pipelines.reader_front import ImageToText
from diptych.recipes.emoji_i2t import EmojiI2T, drawings, emoji_tokenizer, named_drawings, varied
from diptych.training.loop import train
from diptych.training.plan import Settings

NAMES = {"red ball": "red", "green ball": "green", "blue ball": "blue"}


def drawn(name: str, style: int) -> dict[str, bytes]:
    picture = Image.new("RGBA", (48, 48))
    box = (6 + style, 6, 42, 42 - style)
    ImageDraw.Draw(picture).ellipse(box, NAMES[name])
    content = io.BytesIO()
    picture.save(content, "PNG")
    facts = {"name": name, "style": f"s{style}", "caption": f"a {name}"}
    return {"png": content.getvalue(), "json": json.dumps(facts).encode()}


@pytest.fixture
def data(tmp_path: Path) -> str:
    folder = tmp_path / "set"
    write_shards(folder, "train", [drawn(name, style) for name in NAMES for style in range(3)])
    for split, style in {"tune": 3, "heldout": 4}.items():
        write_shards(folder, split, [drawn(name, style) for name in NAMES])
    return str(folder)


def small(data: str, **training: object) -> EmojiI2T:
    vision = VisionConfig(
        image_size=32, stem=(8, 8), convolutions=(1, 1, 1), width=32, depth=1, head_dim=16
    )
    return EmojiI2T(
        data=data,
        batch=6,
        model=VisionLanguageConfig(vision=vision, length=24, width=32, depth=1, head_dim=16),
        training=Settings(
            steps=2, trackers=(), workers=0, precision="fp32", probe_every=0, **training
        ),
    )


def test_an_epoch_shows_every_drawing_once(data: str):
    recipe, train_set = replace(small(data), batch=3), drawings(data, "train")
    tokenizer = emoji_tokenizer(train_set)
    shown = []
    for index in range(3):
        batch = named_drawings(recipe, train_set, tokenizer, index)
        again = named_drawings(recipe, train_set, tokenizer, index)
        assert all(torch.equal(batch[key], again[key]) for key in batch)
        shown += [tokenizer.decode(row.tolist()) for row in batch["tokens"]]
    assert sorted(shown) == sorted(f"caption {n} describe a {n}" for n in NAMES for _ in range(3))


def test_a_varied_drawing_keeps_its_size_and_range(data: str):
    pictures = torch.from_numpy(drawings(data, "train").pictures).permute(0, 3, 1, 2) / 255
    image = varied(pictures, 32, torch.Generator().manual_seed(0))
    assert image.shape == (9, 3, 32, 32) and image.abs().max() <= 1
    assert not torch.equal(image[0], image[1])


def test_a_run_folder_names_drawings_and_probes_show_answers(data: str, tmp_path: Path):
    recipe = small(data)
    plan, run = recipe.build(), tmp_path / "run"
    outcome = train(plan, run)
    recipe.finish(plan, run)
    assert set(outcome.scores) == {"tune", "heldout"}
    assert set(outcome.scores["heldout"]) == {"right"}
    (by_style,) = run.glob("probes/*/heldout.json")
    assert set(json.loads(by_style.read_text())) == {"s4"}
    assert {path.name for path in run.glob("probes/*/*.png")} == {"tune.png", "heldout.png"}
    answer = ImageToText.load(str(run)).caption(Image.new("RGB", (50, 40), "red"))
    assert 0 <= answer.score <= 1


def test_a_folder_without_the_set_says_how_to_build_it(tmp_path: Path):
    with pytest.raises(NotFound, match="diptych data emoji"):
        small(str(tmp_path)).build()


def test_shards_of_something_else_are_refused(data: str):
    nameless = {"txt": b"a ball", "png": drawn("red ball", 0)["png"]}
    write_shards(Path(data), "train", [nameless])
    with pytest.raises(InvalidValue, match="'000000' has no name"):
        small(data).build()


def test_broken_samples_are_counted_and_named(data: str):
    cut = drawn("red ball", 0)
    whole = [drawn("green ball", 0), {**cut, "png": cut["png"][:40]}]
    write_shards(Path(data), "train", whole)
    with pytest.warns(UserWarning, match=r"1 broken .* train-000000.tar: 000001.png"):
        assert drawings(data, "train").names == ["green ball"]
