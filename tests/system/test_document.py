"""The server holds to its own document, whatever is sent (schemathesis)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.server import served


@pytest.mark.slow
def test_no_error_of_ours_and_no_status_that_is_not_documented(tmp_path: Path):
    with served(tmp_path) as (base, _):
        run = subprocess.run(
            [
                str(Path(sys.executable).parent / "st"), "run", f"{base}/openapi.json",
                "--phases=fuzzing", "--max-examples=4", "--seed=1",
                "--checks=not_a_server_error,status_code_conformance",
            ],
            capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-3000:]
