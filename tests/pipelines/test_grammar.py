"""Answers held to a grammar: what is said parses, and a legal answer is left alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diptych.cli.main import entry
from diptych.decoding.choices import Decoding
from diptych.decoding.grammar import json_schema, regex
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.asking import answered
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.vlm_networks import VLMNetworks
from diptych.text.chat import Turn
from tests.tiny_vlm import folder

SCHEMA = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "color": {"enum": ["red", "green"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["count", "color", "tags"],
    "additionalProperties": False,
}
PICTURE = Image.new("RGB", (40, 30), "teal")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ImageToText:
    return ImageToText.load(str(folder("llava", tmp_path_factory.mktemp("published"))))


@pytest.mark.parametrize("seed", range(6))
def test_json_follows_its_schema(reader: ImageToText, seed: int) -> None:
    how = Decoding(most=200, temperature=2.0, seed=seed)
    found = reader.extract(PICTURE, SCHEMA, decoding=how)
    assert set(found) == {"count", "color", "tags"}
    assert 0 <= found["count"] <= 99 and found["color"] in ("red", "green")
    assert len(found["tags"]) <= 2


def said(reader: ImageToText, pattern: str, **decoding: Any) -> str:
    networks = reader.networks
    assert isinstance(networks, VLMNetworks)
    rule = regex(pattern, networks.grammar_words())
    how = Decoding(most=60, **decoding)
    ask = networks.ask([PICTURE], [Turn("user", "what?", 1)], how, constraint=rule)
    (answer,) = answered(networks, [ask])
    assert answer.finish == "end"
    return answer.text


@pytest.mark.parametrize("beams", [1, 3])
def test_a_pattern_is_matched_whole(reader: ImageToText, beams: int) -> None:
    for pattern in (r"[0-9]{3}-[a-f]{2}", r"(yes|no), because .{3,8}\."):
        assert re.fullmatch(pattern, said(reader, pattern, beams=beams), re.DOTALL)


def test_what_cannot_be_used_is_named(reader: ImageToText) -> None:
    networks = reader.networks
    assert isinstance(networks, VLMNetworks)
    words = networks.grammar_words()
    with pytest.raises(InvalidValue, match="pattern"):
        regex("(unclosed", words)
    with pytest.raises(InvalidValue, match="schema"):
        json_schema({"type": "nothing"}, words)
    with pytest.raises(InvalidValue, match="not whole"):
        reader.extract(PICTURE, SCHEMA, decoding=Decoding(most=3))
    with pytest.raises(InvalidValue, match="words of its own"):
        ImageToText.load("scenes-i2t").extract(PICTURE, SCHEMA)


def test_the_command_line(
    reader: ImageToText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(folder("llava", tmp_path / "model"))
    picture, schema = tmp_path / "a.png", tmp_path / "schema.json"
    PICTURE.save(picture)
    schema.write_text(json.dumps(SCHEMA))
    told = ["extract", str(picture), "--model", model, "--schema"]
    assert entry([*told, str(schema)]) == 0
    by_file = json.loads(capsys.readouterr().out)
    assert entry([*told, json.dumps(SCHEMA)]) == 0
    assert json.loads(capsys.readouterr().out) == by_file
    for wrong, named in (("none.json", "no schema"), ("{", "no JSON")):
        assert entry([*told, wrong]) == 2
        assert named in capsys.readouterr().err
