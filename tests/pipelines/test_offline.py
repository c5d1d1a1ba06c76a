"""Offline a hub id is what lies here already, and nobody is asked."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli.main import entry
from diptych.foundation.errors import NotFound
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.reference import folder_of
from tests.tiny_models import tiny_painter, tiny_reader
from tests.tiny_stable_diffusion import tiny_control, tiny_file


class Asked(Exception):
    """Somebody went online."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hub keeps what was downloaded, empty; and a network that is told on."""
    from huggingface_hub import constants

    def connect(*_: object, **__: object) -> None:
        raise Asked

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    return tmp_path / "hub"


def downloaded(cache: Path, name: str, folder: Path) -> Path:
    """A folder as the hub's library keeps it."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    return place / "snapshots" / ("0" * 40)


def test_what_was_downloaded_is_found(cache: Path, tmp_path: Path):
    folder = downloaded(cache, "someone/painter", tiny_painter(tmp_path / "painter"))
    assert folder_of("someone/painter", offline=True) == folder
    TextToImage.load("someone/painter", offline=True)
    with pytest.raises(NotFound, match="downloaded before"):
        folder_of("someone/else", offline=True)


def test_without_it_somebody_would_be_asked(cache: Path):
    """Else the tests here would prove nothing."""
    with pytest.raises((Asked, NotFound)) as caught:
        folder_of("someone/else")
    assert "downloaded before" not in str(caught.value)


def test_what_is_added_is_looked_for_here_too(cache: Path, tmp_path: Path):
    path = tiny_file(tmp_path / "tiny.safetensors")
    model = TextToImage.load(str(path), offline=True)
    with pytest.raises(NotFound, match="downloaded before"):
        model.add("someone/canny")
    assert model.add(tiny_control(tmp_path / "canny.safetensors")).applied


def test_verbs_take_it(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(picture)
    lines = {
        "generate": ["generate", "a red star", "-o", str(tmp_path / "b.png"), "--model"],
        "caption": ["caption", str(picture), "--model"],
        "ask": ["ask", str(picture), "what is there?", "--model"],
        "read": ["read", str(picture), "--model"],
        "retrieval": ["eval", "retrieval", "--model"],
        "painting": ["eval", "scenes", "--i2t", "none", "--t2i"],
        "reading": ["eval", "scenes", "--t2i", "none", "--i2t"],
    }
    for line in lines.values():
        assert entry([*line, "someone/else", "--offline"]) == NotFound.exit_code
        assert "downloaded before" in capsys.readouterr().err
    downloaded(cache, "someone/painter", tiny_painter(tmp_path / "painter"))
    downloaded(cache, "someone/reader", tiny_reader(tmp_path / "reader"))
    assert entry([*lines["generate"], "someone/painter", "--offline"]) == 0
    assert entry([*lines["caption"], "someone/reader", "--offline"]) == 0
    refined = [*lines["generate"], "someone/painter", "--refiner", "someone/else", "--offline"]
    assert entry(refined) == NotFound.exit_code
