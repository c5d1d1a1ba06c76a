"""The server is killed, frozen, drained and starved of disk under load, and keeps all promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def tortured(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diptych", "torture", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.timeout(300)
def test_sixty_jobs_and_eight_faults(tmp_path: Path):
    done = tortured("--jobs", "60", "--faults", "8", "--seed", "1", "--data", str(tmp_path / "d"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was lost, doubled or altered." in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_jobs_and_thirty_faults(tmp_path: Path):
    done = tortured("--jobs", "200", "--faults", "30", "--seed", "2", "--data", str(tmp_path / "d"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_ctrl_c_leaves_no_process(tmp_path: Path):
    data = tmp_path / "d"
    process = subprocess.Popen(
        [sys.executable, "-m", "diptych", "torture", "--data", str(data)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # What a shell begins in the background ignores it, and so would all below.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (data / "jobs.db").exists() and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1.0)
    assert _with(str(data), "diptych\0serve")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said, said
    time.sleep(0.5)
    assert not _with(str(data), "diptych")


@pytest.mark.parametrize("words", [("--jobs", "0"), ("--faults", "-1"), ("--jobs", "100000")])
def test_figures_that_cannot_be_are_refused(words: tuple[str, str]):
    assert tortured(*words).returncode == 2


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path):
    (tmp_path / "mine").write_text("kept")
    done = tortured("--data", str(tmp_path))
    assert done.returncode == 2 and "not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "kept"


def _with(*words: str) -> list[int]:
    """Processes whose command line holds all these words."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words) and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found
