"""What an answer rests on: the map, and where it lies."""

from __future__ import annotations

from math import exp, log1p
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.cli.main import entry
from diptych.data.scenes.questions import Question, ask
from diptych.data.scenes.render import box, render
from diptych.data.scenes.world import Scene, Thing, World
from diptych.decoding.choices import Decoding
from diptych.foundation.errors import InvalidValue
from diptych.foundation.randomness import stream
from diptych.imaging.overlay import overlaid
from diptych.imaging.pictures import read_picture
from diptych.imaging.placing import Region
from diptych.models.inputs import plan_of
from diptych.models.vlm import VLM
from diptych.pipelines.explaining import laid, log_odds, patches_of
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.vlm_networks import VLMNetworks
from tests.tiny_captioners import folder as captioner_folder
from tests.tiny_models import tiny_reader
from tests.tiny_vlm import folder as vlm_folder

FAMILIES = ["llava", "llava_next", "llava_onevision", "smolvlm", "internvl", "paligemma",
            "qwen2_vl", "qwen2_5_vl"]  # fmt: skip
SHORT = Decoding(most=4)


def _named(scene: Scene, question: Question) -> Thing | None:
    """The only thing that a question about a color or a shape names."""
    key = "shape" if question.kind == "color" else "color"
    found = [thing for thing in scene.things if getattr(thing, key) in question.text]
    return found[0] if len(found) == 1 else None


def test_the_map_is_on_the_thing_that_is_asked_for():
    reader, ratios, index = ImageToText.load("scenes-i2t"), list[float](), 0
    world = World(split="heldout", size=64, words=0.0)
    while len(ratios) < 30:
        scene, kind = world.scene(17, index), ("color", "shape")[index % 2]
        question = ask(scene, stream(17, 5, index), kind, "heldout")
        index += 1
        thing = question and _named(scene, question)
        if question is None or thing is None or len(scene.things) < 2:
            continue
        answer = reader.answer(Image.fromarray(render(scene, 64)), question.text, explain=True)
        assert answer.map is not None and answer.map.shape == (64, 64)
        left, top, right, bottom = box(thing)
        mass = answer.map[top:bottom, left:right].sum() / answer.map.sum()
        ratios.append(float(mass) / ((right - left) * (bottom - top) / 64**2))
    assert np.mean(ratios) > 4 and min(ratios) > 1.2


@pytest.mark.parametrize("name", ["scenes", *FAMILIES])
def test_the_answer_is_the_same_and_as_sure(name: str, tmp_path: Path):
    """One pass over the whole text finds the probabilities that were found word by word."""
    folder = "scenes-i2t" if name == "scenes" else vlm_folder(name, tmp_path / name)
    reader = ImageToText.load(str(folder), dtype="float32")
    noise = torch.randint(0, 256, (34, 46, 3), generator=torch.manual_seed(4)).to(torch.uint8)
    picture, question = Image.fromarray(noise.numpy()), "how many stars?"
    plain = reader.answer(picture, question, SHORT)
    said = reader.answer(picture, question, SHORT, explain=True)
    again = reader.answer(picture, question, SHORT, explain=True)
    assert said == plain and plain.map is None
    assert said.map is not None and again.map is not None
    assert said.map.shape == (34, 46) and said.map.dtype == np.float32
    assert said.map.min() >= 0 and said.map.max() == 1 and (said.map == again.map).all()
    networks = reader.networks
    assert isinstance(networks, ImageToTextNetworks | VLMNetworks)
    prompt = networks.request(picture, question).prompt
    spoken = [*said.tokens, *([networks.ends[0]] if said.finish == "end" else [])]
    with torch.no_grad():
        first = prompt.rest if prompt.sees_all else prompt.prefix()
        found = float(log_odds(networks, prompt, spoken, first))
    assert found == pytest.approx(
        sum(p - log1p(-exp(p)) for p in said.logprobs), rel=1e-3, abs=1e-3
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(64, 48), (37, 90), (200, 40)])
def test_all_rows_lie_where_they_were_seen(name: str, size: tuple[int, int], tmp_path: Path):
    """Rows of equal worth by area make an even map over what the model sees; one row alone lies
    within its own cell and its neighbours."""
    networks = ImageToText.load(str(vlm_folder(name, tmp_path / name))).networks
    assert isinstance(networks, VLMNetworks)
    plan = plan_of(size[1], size[0], networks.inputs.spec)
    patches, values = list(patches_of(plan)), np.zeros(plan.count())
    for one in patches:
        left, top, right, bottom = one.region
        cells = one.rows * one.columns
        values[one.first : one.first + cells] = (right - left) * (bottom - top) / cells
    seen = np.zeros((size[1], size[0]), bool)
    left, top, right, bottom = plan.source_region((0, 0, *map(float, plan.resized)))
    seen[round(top) : round(bottom), round(left) : round(right)] = True
    even = laid(values, patches, size)
    assert even[seen].min() > 0.3 and (even[~seen] == 0).all() and even.shape == seen.shape
    one = patches[-1]
    alone = np.zeros(plan.count())
    alone[one.first + one.rows * one.columns - 1] = 1  # the last cell, right and below
    rows, columns = np.nonzero(laid(alone, patches, size) == 1)
    left, top, right, bottom = one.region
    assert columns.mean() >= min(right, size[0]) - 1.5 * (right - left) / one.columns
    assert rows.mean() >= min(bottom, size[1]) - 1.5 * (bottom - top) / one.rows


@pytest.mark.parametrize("name", ["llava", "llava_next", "llava_onevision", "smolvlm", "internvl"])
@pytest.mark.parametrize("size", [(64, 48), (37, 90), (24, 32), (20, 20)])
def test_rows_are_where_the_network_puts_them(name: str, size: tuple[int, int], tmp_path: Path):
    """Each cell of a tile holds its own place in the picture; the network lays the cells as rows,
    with margins cut off and lines ended, and a row's place is its cell's."""
    networks = ImageToText.load(str(vlm_folder(name, tmp_path / name))).networks
    assert isinstance(networks, VLMNetworks) and isinstance(networks.network, VLM)
    plan, (down, across) = networks.plan(Image.new("RGB", size)), networks.network.config.rows
    seen = torch.zeros(len(plan.tiles), down * across, networks.network.config.language.width)
    for number, tile in enumerate(plan.tiles):
        seen[number, :, :2] = _middles(plan.to_source.region(tile.box), down, across)
    rows = networks.network.rows_of(seen, plan)[:, :2].detach()
    for one in patches_of(plan):
        wanted = _middles(one.region, one.rows, one.columns)
        left, top, right, bottom = one.region
        cell = torch.tensor([(right - left) / one.columns, (bottom - top) / one.rows])
        found = rows[one.first : one.first + one.rows * one.columns]
        assert ((found - wanted).abs() <= 0.3 * cell).all()


def _middles(region: Region, rows: int, columns: int) -> torch.Tensor:
    """x and y of the middles of a region's cells, [rows * columns, 2]."""
    left, top, right, bottom = region
    x = left + (torch.arange(columns) + 0.5) * (right - left) / columns
    y = top + (torch.arange(rows) + 0.5) * (bottom - top) / rows
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], 1)


def test_ask_writes_the_map_over_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, path, out = str(tiny_reader(tmp_path / "m")), tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)
    told = ["ask", str(path), "how many stars?", "--model", model]
    assert entry(told) == 0
    plain = capsys.readouterr().out
    assert entry([*told, "--explain", str(out)]) == 0
    assert capsys.readouterr().out == plain
    assert read_picture(out).size == (400, 300)
    several = ["ask", str(path), "how many stars?", "any stars?", "--model", model]
    assert entry([*several, "--explain", str(out)]) == 2
    assert entry([*told, "--explain", str(tmp_path / "b.jpg")]) == 2
    assert entry([*told, "--explain", str(out), "--choose", "1"]) == 2


def test_a_picture_keeps_its_color_where_the_map_is_high():
    picture = Image.new("RGB", (400, 400), (200, 20, 20))
    map_ = np.zeros((400, 400), np.float32)
    map_[:, 200:] = 1
    made = np.asarray(overlaid(picture, map_)).astype(int)
    assert (made[50, 350] == (200, 20, 20)).all()
    assert made[50, 50].max() < 40 and np.ptp(made[50, 50]) == 0


def test_a_model_whose_rows_have_no_place_is_refused(tmp_path: Path):
    reader = ImageToText.load(str(captioner_folder("florence2", tmp_path)))
    with pytest.raises(InvalidValue, match="rest on"):
        reader.answer(Image.new("RGB", (40, 30)), "a star?", explain=True)
