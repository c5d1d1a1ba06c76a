"""A real server as an operator starts it, for tests that go through HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def served(
    data: Path, *arguments: str, key: str = ""
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address and its process; ended by SIGTERM."""
    command = [sys.executable, "-m", "diptych", "serve", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, "the server did not start"
        _until_ready(found[0].replace("0.0.0.0", "127.0.0.1"), key)
        yield found[0], process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()


def _until_ready(base: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for _ in range(600):
        if httpx.get(f"{base}/v1/models", headers=headers).json()["data"]:
            return
        time.sleep(0.1)
    raise AssertionError("the engine did not come")


def ended(base: str, job_id: str, seconds: float = 60.0) -> dict:
    """A job when it has ended."""
    for _ in range(int(seconds / 0.05)):
        try:
            job = httpx.get(f"{base}/v1/jobs/{job_id}").json()
        except httpx.TransportError:  # the server is being restarted
            job = {"status": "unknown"}
        if job["status"] in ("complete", "failed", "canceled"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)
