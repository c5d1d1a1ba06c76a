"""The demo's way through the server ends by itself and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image


def test_once_through_the_server(tmp_path: Path):
    command = [sys.executable, "-m", "diptych", "demo", "a red star", "--once", "-o", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    assert "read back" in said.stdout and "star" in said.stdout
    with Image.open(tmp_path / "served.png") as picture:
        assert picture.size == (64, 64)
    assert [one.name for one in tmp_path.iterdir()] == ["served.png"]
