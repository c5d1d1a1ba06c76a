"""A request, its job and each turn of the engine are one trace, sent where the standard says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.system.server import ended, served


@contextmanager
def collector() -> Iterator[tuple[str, list[Any], list[bytes]]]:
    """An address, and the spans and bytes that come to it."""
    spans, bodies = [], []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(body)
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in group.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *said: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans, bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_request_its_job_and_its_turns_are_one_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with collector() as (address, spans, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with served(tmp_path) as (base, _):
            above = f"00-{'ab' * 16}-{'cd' * 8}-01"
            asked = {"prompt": "a red star", "num_inference_steps": 4}
            said = httpx.post(f"{base}/v1/generate", json=asked, headers={"traceparent": above})
            assert ended(base, said.json()["job_id"])["status"] == "complete"
            until = time.monotonic() + 20
            while not any(one.name == "job" for one in spans) and time.monotonic() < until:
                time.sleep(0.1)
    mine = [one for one in spans if one.trace_id.hex() == "ab" * 16]
    (request,) = [one for one in mine if one.name == "POST /v1/generate"]
    (job,) = [one for one in mine if one.name == "job"]
    turns = [one for one in mine if one.name == "turn"]
    assert request.parent_span_id.hex() == "cd" * 8
    assert job.parent_span_id == request.span_id
    assert len(turns) == 4 + 1 and all(one.parent_span_id == job.span_id for one in turns)
    assert all(one.start_time_unix_nano < one.end_time_unix_nano for one in turns)
    assert not any(b"red star" in body for body in bodies)
