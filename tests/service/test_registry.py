"""The operator's models: names for requests, kept where the data is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.cli.main import entry
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.service import registry
from diptych.service.registry import Entry


def test_added_replaced_removed(tmp_path: Path):
    registry.add(tmp_path, "a", Entry("paint", "some/model"))
    registry.add(tmp_path, "b", Entry("read", "scenes-i2t"))
    registry.add(tmp_path, "a", Entry("paint", "other/model"))
    assert registry.registered(tmp_path) == {
        "a": Entry("paint", "other/model"), "b": Entry("read", "scenes-i2t"),
    }  # fmt: skip
    registry.remove(tmp_path, "a")
    assert list(registry.registered(tmp_path)) == ["b"]
    with pytest.raises(NotFound, match="a"):
        registry.remove(tmp_path, "a")


def test_a_path_is_kept_from_wherever_the_server_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "m.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    registry.add(tmp_path / "data", "a", Entry("paint", "m.safetensors"))
    assert registry.registered(tmp_path / "data")["a"].place == str(tmp_path / "m.safetensors")


@pytest.mark.parametrize("text", ["a", "a=b", "a=paint:", "=paint:x", "a=sing:x", "../a=paint:x"])
def test_what_names_no_model(text: str):
    with pytest.raises(InvalidValue):
        registry.entry_of(text)


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', '{"a": ["b"]}', "no"])
def test_a_file_that_is_not_ours_is_left_alone(content: str, tmp_path: Path):
    (tmp_path / "registry.json").write_text(content)
    with pytest.raises(Unreadable):
        registry.add(tmp_path, "a", Entry("paint", "x"))
    assert (tmp_path / "registry.json").read_text() == content


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    where = ["--data", str(tmp_path)]
    assert entry(["models", "add", "mine=read:scenes-i2t", *where]) == 0
    assert entry(["models", "served", "--json", *where]) == 0
    said = capsys.readouterr().out
    assert json.loads(said[said.index("{") :]) == {"mine": {"use": "read", "place": "scenes-i2t"}}
    assert entry(["models", "remove", "mine", *where]) == 0
    assert entry(["models", "remove", "mine", *where]) == 3
    assert entry(["models", "add", *where]) == 2
    assert "Traceback" not in capsys.readouterr().err
