"""A folder's captions: one line a picture, whatever interrupts, and no line made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from diptych.apps.captions import BATCH, caption_folder
from diptych.cli.main import entry
from diptych.data.scenes.render import render
from diptych.data.scenes.world import World
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.pipelines.reading import Answer
from tests.tiny_models import tiny_reader


def folder_of(top: Path, count: int) -> Path:
    folder = top / "pictures"
    (folder / "more").mkdir(parents=True)
    for number in range(count):
        place = folder / ("more" if number % 3 else ".") / f"{number}.png"
        Image.fromarray(render(World().scene(1, number % 7), 32)).save(place)
    return folder


def said(pictures: Sequence[Image.Image]) -> list[Answer]:
    return [Answer(f"{one.width} wide", 0.5, None, ()) for one in pictures]


def files(out: Path) -> list[str]:
    return [json.loads(line)["file"] for line in out.read_text().splitlines()]


def test_each_picture_has_a_line_and_a_second_run_makes_none(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path, 40), tmp_path / "out.jsonl"
    (folder / "broken.png").write_bytes(b"\x89PNG of nothing")
    first = caption_folder(said, folder, out)
    assert (first.written, first.before, first.unreadable) == (41, 0, 1)
    content = out.read_bytes()
    again = caption_folder(said, folder, out)
    assert (again.written, again.before) == (0, 41)
    assert out.read_bytes() == content
    assert len(set(files(out))) == 41
    assert [line for line in content.decode().splitlines() if '"error"' in line]


def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path, BATCH + 5), tmp_path / "out.jsonl"
    caption_folder(said, folder, out)
    whole = out.read_bytes()
    for cut in (1, 7, 60, 300):
        out.write_bytes(whole[:-cut])
        caption_folder(said, folder, out)
        assert sorted(files(out)) == sorted(set(files(out)))
        assert len(files(out)) == BATCH + 5


def test_two_at_once_and_files_of_something_else(tmp_path: Path) -> None:
    from diptych.foundation.lock import held

    folder, out = folder_of(tmp_path, 3), tmp_path / "out.jsonl"
    with held(tmp_path / ".out.jsonl.lock", "taken", "wait"):
        command = [sys.executable, "-m", "diptych", "caption", str(folder), "-o", str(out)]
        told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 2 and "Another process" in told.stderr
    out.write_text("a poem\n")
    with pytest.raises(Unreadable, match="something other"):
        caption_folder(said, folder, out)
    assert out.read_text() == "a poem\n"
    with pytest.raises(NotFound, match="no picture"):
        caption_folder(said, tmp_path / "nothing", out)
    out.write_text('{"file": "0.png"}\n{"file": "0.png"}\n')
    with pytest.raises(InvalidValue, match="two lines"):
        caption_folder(said, folder, out)


@pytest.mark.slow
def test_killed_five_times(tmp_path: Path) -> None:
    """kill -9 at random moments; in the end each picture has exactly one line."""
    folder, out = folder_of(tmp_path, 1500), tmp_path / "out.jsonl"
    model = str(tiny_reader(tmp_path / "model"))
    command = [sys.executable, "-m", "diptych", "caption", str(folder), "-o", str(out)]
    command += ["--model", model]
    draw = Random(4)
    sizes = list[int]()
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = out.stat().st_size if out.exists() else 0
        while process.poll() is None and (not out.exists() or out.stat().st_size == begun):
            time.sleep(0.02)
        time.sleep(draw.random() * 0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        sizes.append(len(out.read_bytes().splitlines()))
    assert sizes == sorted(set(sizes)) and sizes[-1] < 1500
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(files(out)) == len(set(files(out))) == 1500


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = folder_of(tmp_path, 3), tmp_path / "out.jsonl"
    model = str(tiny_reader(tmp_path / "model"))
    assert entry(["caption", str(folder), "-o", str(out), "--model", model]) == 0
    assert "3 pictures" in capsys.readouterr().out and len(files(out)) == 3
    one = str(next(folder.glob("*.png")))
    for words, named in (
        (["caption", str(folder), one], "one folder"),
        (["caption", one, "-o", str(out)], "for a folder"),
        (["caption", one, "--top-k", "3"], "--temperature"),
        (["ask", one, ""], "empty"),
        (["chat", one, "--say", "what?", "--model", model], "single questions"),
    ):
        assert entry(words) == 2
        assert named in capsys.readouterr().err
    asked = ["ask", one, "how many stars?", "is there a star?", "--model", model]
    assert entry(asked) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert entry([*asked[:3], "--choose", "1", "--choose", "2", "--model", model]) == 0
    shares = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert sum(shares) == pytest.approx(1, abs=2e-3) and shares == sorted(shares, reverse=True)
