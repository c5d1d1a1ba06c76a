"""The server as people have it: a job that was acknowledged survives whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from diptych.imaging.recipe import png_bytes
from diptych.pipelines.painter_front import TextToImage
from tests.system.server import ended, served

ASKED = {"prompt": "a red star", "seed": 5, "num_inference_steps": 12}


def alone(asked: dict) -> bytes:
    picture = TextToImage.load("scenes-t2i")(
        asked["prompt"], seed=asked["seed"], steps=asked["num_inference_steps"]
    )
    return png_bytes(picture, picture.info["recipe"])  # pyright: ignore


def test_a_prompt_becomes_the_file_that_the_command_line_writes(tmp_path: Path):
    with served(tmp_path) as (base, process):
        answer = httpx.post(f"{base}/v1/generate", json=ASKED)
        assert answer.status_code == 202 and answer.json()["status"] == "queued"
        job = ended(base, answer.json()["job_id"])
        assert job["status"] == "complete" and job["generation_time"] > 0
        picture = httpx.get(job["image_url"])
        assert picture.headers["content-type"] == "image/png"
        assert picture.content == alone(ASKED)
        # No torch in the process that faces the network.
        if Path("/proc").is_dir():
            assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        second = subprocess.run(
            [sys.executable, "-m", "diptych", "serve", "--port", "0", "--data", str(tmp_path)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode == 2 and "another server" in second.stderr
        assert "Traceback" not in second.stderr


def test_jobs_survive_the_death_of_server_and_engine(tmp_path: Path):
    asked = [{**ASKED, "seed": seed, "num_inference_steps": 30} for seed in range(6)]
    with served(tmp_path) as (base, process):
        ids = [
            httpx.post(f"{base}/v1/generate", json=one).json()["job_id"] for one in asked
        ]  # fmt: skip
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with served(tmp_path) as (base, _):
        for job_id, one in zip(ids, asked, strict=True):
            job = ended(base, job_id)
            assert job["status"] == "complete", job
            assert httpx.get(job["image_url"]).content == alone(one)


def test_an_address_that_is_taken_is_said_in_two_lines(tmp_path: Path):
    with served(tmp_path / "a") as (base, _):
        port = base.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "diptych", "serve", "--port", port, "--data", str(tmp_path / "b")],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode == 2 and f"port {port}" in second.stderr
        assert "Traceback" not in second.stderr
