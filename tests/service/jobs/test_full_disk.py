"""A file system that is really full: nothing is promised that is not written, and it goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("full_disk.py")


def _may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path):
    """Accept, artifact, checkpoint and finish at ENOSPC, then with room again (a tmpfs of 3 MB)."""
    if not _may_mount():
        pytest.skip("no mount namespace here")
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, str(CHILD), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for what in ("accept", "artifact", "checkpoint", "finish"):
        assert told[what], f"{what} was taken by a full disk"
    assert not told["left"]
    assert told["status while full"]
    assert told["again"] and told["done"]
    assert told["lost"] == [] and told["jobs"] == told["wanted"]
    assert told["sound"] == "ok"
