"""The server as people have it: a job that was acknowledged survives whatever happens to it."""

from __future__ import annotations

import os
import re
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


def refused(*arguments: str, code: int = 2) -> str:
    """What a server says that does not start."""
    second = subprocess.run(
        [sys.executable, "-m", "diptych", "serve", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == code and "Traceback" not in second.stderr
    return second.stderr


def test_a_prompt_becomes_the_file_that_the_command_line_writes(tmp_path: Path):
    with served(tmp_path) as (base, process):
        answer = httpx.post(f"{base}/v1/generate", json=ASKED)
        assert answer.status_code == 202 and answer.json()["status"] == "queued"
        job = ended(base, answer.json()["job_id"])
        assert job["status"] == "complete" and job["generation_time"] > 0
        picture = httpx.get(f"{job['image_url']}&core=1")
        assert picture.headers["content-type"] == "image/png"
        assert picture.content == alone(ASKED)
        # No torch in the process that faces the network.
        if Path("/proc").is_dir():
            assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        assert "another server" in refused("--port", "0", "--data", str(tmp_path))
        figures = httpx.get(f"{base}/metrics").text
        kind = '{kind="paint",model="scenes-t2i",size="64x64"}'
        assert f"diptych_job_seconds_count{kind} 1.0" in figures
        (memory,) = re.findall(r"^diptych_engine_memory_bytes (\S+)$", figures, re.MULTILINE)
        assert float(memory) > 1e8 and "diptych_eta_ratio_count 1.0" in figures
        # A backup beside the running server, and its doctor.
        tools = [sys.executable, "-m", "diptych", "serve"]
        for one in (["backup", str(tmp_path / "a.tar")], ["doctor"]):
            said = subprocess.run(
                [*tools, *one, "--data", str(tmp_path)], capture_output=True, text=True, check=False
            )
            assert said.returncode == 0, said


def test_jobs_survive_the_death_of_server_and_engine(tmp_path: Path):
    asked = [{**ASKED, "seed": seed, "num_inference_steps": 16} for seed in range(4)]
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
            assert httpx.get(f"{job['image_url']}&core=1").content == alone(one)


def test_an_address_that_is_taken_is_said_in_two_lines(tmp_path: Path):
    with served(tmp_path / "a") as (base, _):
        port = base.rpartition(":")[2]
        second = refused("--port", port, "--data", str(tmp_path / "b"))
        assert f"port {port}" in second


def test_others_are_not_served_without_a_key(tmp_path: Path):
    data = str(tmp_path)
    said = refused("--host", "0.0.0.0", "--port", "0", "--data", data)
    assert "diptych keys add" in said
    made = subprocess.run(
        [sys.executable, "-m", "diptych", "keys", "add", "anna", "--data", data],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    with served(tmp_path, "--host", "0.0.0.0", key=made.stdout.strip()) as (base, _):
        address = base.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{address}/v1/jobs").status_code == 401
        answer = httpx.post(f"{address}/v1/session", json={"key": made.stdout.strip()})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
        assert httpx.get(f"{address}/v1/jobs", cookies=answer.cookies).status_code == 200
        assert made.stdout.strip() not in (tmp_path / "jobs.db").read_bytes().decode("latin1")


def test_folders_that_cannot_be_are_said_in_two_lines(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert "folder" in refused("--data", str(tmp_path / "file"), code=5)
    (tmp_path / "jobs.db").write_text("this is a text and no database at all")
    assert "no database" in refused("--data", str(tmp_path), code=4)
    assert (tmp_path / "jobs.db").read_text().startswith("this is a text")
