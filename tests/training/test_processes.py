"""Signals and several processes, with real ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from diptych.training.checkpoint import latest
from diptych.training.log import read
from diptych.training.loop import train

HERE = Path(__file__).parent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(tmp_path: Path, number: int):
    words = [sys.executable, "-m", "diptych", "train", "curve-flow", "--run", str(tmp_path)]
    words += [
        "--set",
        "training.trackers=",
        "training.log_every=1",
        "batch=8",
        "training.workers=1",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while len(list(read(tmp_path))) < 3 and process.poll() is None:
            assert time.monotonic() < until, "it never began"
            time.sleep(0.05)
        process.send_signal(number)
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert f"diptych train curve-flow --run {tmp_path}" in said
    stopped = latest(tmp_path)
    assert stopped is not None
    assert stopped.step == max(line["step"] for line in read(tmp_path))


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates_two_batches(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, HERE / "parallel_training.py", tmp_path / "two"],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    from parallel_training import parallel_plan

    train(parallel_plan(accumulation=2), tmp_path / "one")
    two, one = latest(tmp_path / "two"), latest(tmp_path / "one")
    assert one is not None and two is not None and one.step == two.step == 12
    torch.testing.assert_close(
        dict(one.tensors["model"]), dict(two.tensors["model"]), rtol=0, atol=1e-6
    )
    for alone, together in zip(read(tmp_path / "one"), read(tmp_path / "two"), strict=True):
        assert alone["loss"] == pytest.approx(together["loss"], rel=1e-5)
