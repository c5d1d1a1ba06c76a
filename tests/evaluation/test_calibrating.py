"""A calibration makes confidence mean what it says, and belongs to the weights it was made for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path
from random import Random
from typing import get_args

import pytest
from PIL import Image

from diptych.cli.main import entry
from diptych.decoding.choices import Decoding
from diptych.evaluation.calibrating import LEAST, Judged, fitted, judged_scenes
from diptych.foundation.config import to_json
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.metrics.calibration import expected_calibration_error
from diptych.pipelines.calibration import By, mark_of, read_calibration
from diptych.pipelines.folders import read_image_to_text
from diptych.pipelines.reader_front import ImageToText
from tests.tiny_models import tiny_reader
from tests.tiny_vlm import folder as vlm_folder


def _boastful(n: int, seed: int = 0) -> list[Judged]:
    """Scores of which the true log-odds are 0.4 of those said, three answers a picture."""
    draw, found = Random(seed), list[Judged]()
    for index in range(n):
        score = draw.uniform(0.02, 0.98)
        truth = 1 / (1 + exp(-0.4 * log(score / (1 - score))))
        found.append(Judged(score, draw.random() < truth, index // 3))
    return found


@pytest.mark.parametrize("by", get_args(By))
def test_the_error_falls_on_answers_that_were_not_fitted(by: By):
    found = fitted(_boastful(6000), by)
    assert found.before is not None and found.before > 0.12 and found.error < 0.045
    assert found.n + found.tried == 6000 and abs(found.n - found.tried) <= 3
    others = _boastful(6000, seed=1)
    confidences = [found.confidence(one.score) for one in others]
    assert expected_calibration_error(confidences, [one.right for one in others]) < 0.045
    rising = [found.confidence(score / 100) for score in range(101)]
    assert rising == sorted(rising) and rising[0] >= 0 and rising[-1] <= 1
    assert [point.coverage for point in found.risk] == sorted(p.coverage for p in found.risk)
    assert found.risk[-1].coverage == 1 and found.risk[0].risk < found.risk[-1].risk


@pytest.mark.parametrize("by", get_args(By))
def test_a_calibration_comes_back_from_its_file(by: By, tmp_path: Path):
    found = fitted(_boastful(300), by, model="abc")
    found.write(tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json") == found
    assert fitted(_boastful(300), by, model="abc") == found


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (_boastful(LEAST - 1), "too few"),
        ([replace(one, right=False) for one in _boastful(90)], "None of 90"),
        ([replace(one, picture=7) for one in _boastful(90)], "one picture"),
    ],
)
def test_answers_that_tell_nothing_are_refused(judged: Sequence[Judged], said: str):
    with pytest.raises(InvalidValue, match=said):
        fitted(judged)


def test_files_of_other_things_are_refused(tmp_path: Path):
    path = tmp_path / "c.json"
    with pytest.raises(NotFound, match=r"c\.json"):
        read_calibration(path)
    good = to_json(fitted(_boastful(300), "isotonic"))
    for bad in ({"slope": 1}, {**good, "knots": []}, {**good, "knots": good["knots"][::-1]}):
        path.write_text(json.dumps(bad))
        with pytest.raises(Unreadable, match="no calibration"):
            read_calibration(path)


def _labelled(folder: Path, reader: ImageToText, wrong: int) -> Path:
    """30 pictures with two questions each; every `wrong`-th label is not what the model says."""
    folder.mkdir()
    draw, lines = Random(3), list[str]()
    for index in range(30):
        color = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
        Image.new("RGB", (40, 30), color).save(folder / f"{index}.png")
        for question in ("how many stars?", "how many circles?"):
            said = reader.answer(folder / f"{index}.png", question).text
            answer = "something else" if len(lines) % wrong == 0 else [f" {said.upper()}. ", "x"]
            row = {"file": f"{index}.png", "question": question, "answer": answer}
            lines.append(json.dumps(row))
    (folder / "labels.jsonl").write_text("\n".join(lines))
    return folder


def test_a_published_model_takes_a_calibration(tmp_path: Path):
    model, picture = vlm_folder("llava", tmp_path / "llava"), Image.new("RGB", (40, 30))
    how = Decoding(most=3)
    assert ImageToText.load(str(model)).answer(picture, "what?", how).confidence is None
    found = fitted(_boastful(300), "temperature", model=mark_of(model))
    found.write(model / "calibration.json")
    reader = ImageToText.load(str(model))
    answer = reader.answer(picture, "what?", how)
    assert answer.confidence == found.confidence(answer.score)
    assert reader.answer(picture, "what?", how, abstain=0.999) is None


def test_a_reader_is_calibrated_from_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = tiny_reader(tmp_path / "model")
    before = ImageToText.load(str(model), calibration=False)
    data = _labelled(tmp_path / "data", before, 3)
    picture, question = data / "0.png", "how many stars?"
    assert before.answer(picture, question).confidence is None
    with pytest.raises(InvalidValue, match="no calibration"):
        before.answer(picture, question, abstain=0.9)
    told = ["calibrate", str(model), "--data", str(data), "--by", "isotonic"]
    assert entry(told) == 0
    table = capsys.readouterr().out
    assert "60 answers, 66.7 % right" in table and "before" in table
    kept = read_calibration(model / "calibration.json")
    reader = ImageToText.load(str(model))
    answer = reader.answer(picture, question)
    assert answer.confidence == kept.confidence(answer.score)
    assert reader.answer(picture, question, abstain=answer.confidence) == answer
    assert reader.answer(picture, question, abstain=answer.confidence + 1e-6) is None
    told = ["ask", str(picture), question, "--model", str(model), "--abstain"]
    assert entry([*told, "0.999"]) == 0 and capsys.readouterr().out == "not sure\n"
    assert entry([*told, "0.999", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["text"] is None
    assert entry([*told, "0.0001"]) == 0 and capsys.readouterr().out == f"{answer.text}\n"
    assert entry([*told, "1.5"]) == 2


def test_a_calibration_of_other_weights_is_refused(tmp_path: Path):
    model, other = tiny_reader(tmp_path / "a"), vlm_folder("llava", tmp_path / "b")
    assert mark_of(model) != mark_of(other)
    fitted(_boastful(300), model=mark_of(model)).write(tmp_path / "c.json")
    assert ImageToText.load(str(model), calibration=tmp_path / "c.json").networks.calibration
    with pytest.raises(InvalidValue, match="other weights"):
        ImageToText.load(str(other), calibration=tmp_path / "c.json")
    weights = next(model.rglob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InvalidValue, match="other weights"):
        ImageToText.load(str(model), calibration=tmp_path / "c.json")


def test_scenes_are_for_the_readers_of_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    judged = judged_scenes(read_image_to_text(tiny_reader(tmp_path / "a")), 14)
    assert len(judged) == 3 + 11 and len({one.picture for one in judged}) < len(judged)
    told = ["--data", "scenes", "-o", str(tmp_path / "c.json"), "--most"]
    assert entry(["calibrate", str(vlm_folder("llava", tmp_path / "b")), *told, "60"]) == 2
    assert "not trained on scenes" in capsys.readouterr().err
    assert entry(["calibrate", "scenes-i2t", *told, "9"]) == 2
    assert entry(["calibrate", "scenes-i2t", "--data", "scenes"]) == 2
    assert "--calibration" in capsys.readouterr().err
