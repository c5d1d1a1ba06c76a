"""The shortest way through a server: begin one, have a picture painted and read, end it."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from diptych.foundation.errors import NotWritten
from diptych.service.child import Child, free_port

WITHIN = 120.0


@dataclass(frozen=True, kw_only=True)
class First:
    """A picture's file, what was read in it, and the seconds from the request to both."""

    picture: bytes
    caption: str
    seconds: float


def first_picture(prompt: str, seed: int) -> First:
    """Of a server of its own, on a folder that is gone afterwards. Raises InvalidValue where it
    does not start, NotWritten where it does not answer in two minutes."""
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        child = Child(Path(folder) / "data", free_port())
        try:
            child.begin()
            base = f"http://127.0.0.1:{child.port}/v1"
            _until(f"{base}/models", lambda said: len(said["data"]) > 0)
            began = time.monotonic()
            job = _asked(f"{base}/generate", {"prompt": prompt, "seed": seed})
            done = _until(f"{base}/jobs/{job['job_id']}", lambda said: said["ended_at"] is not None)
            with urlopen(done["image_url"], timeout=WITHIN) as answer:
                picture = answer.read()
            read = _asked(f"{base}/caption", {"base64": base64.b64encode(picture).decode()})
            took = time.monotonic() - began
        finally:
            child.end()
        return First(picture=picture, caption=read["caption"], seconds=took)


def _asked(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    try:
        with urlopen(Request(url, data, headers), timeout=WITHIN) as answer:
            return json.load(answer)
    except HTTPError as error:
        said = json.load(error)
        raise NotWritten(f"The server refused: {said['title']}.", do=said["detail"]) from error
    except (URLError, OSError) as error:
        raise NotWritten("The server did not answer.", do="Try `diptych serve`.") from error


def _until(url: str, done: Any) -> dict[str, Any]:
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        said = _asked(url)
        if done(said):
            return said
        time.sleep(0.05)
    raise NotWritten("The server is too slow.", do="Try `diptych serve`.")
