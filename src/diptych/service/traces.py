"""Traces by OpenTelemetry, from a request to each turn of the engine that its job had.

Off unless the extra `trace` is installed and `OTEL_EXPORTER_OTLP_ENDPOINT` says where they go; the
standard's other variables hold too. No prompt, key or address stands in a span. The parent of a job
is kept in the server's memory alone: behind a restart a job begins a trace of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
Value = str | int | float | bool


def begin(service: str) -> bool:
    """Once a process; whether anything is sent. Raises MissingExtra where an endpoint is named and
    the libraries are not there."""
    if not os.environ.get(ENDPOINT):
        return False
    from diptych.foundation.extras import need

    need("opentelemetry.sdk", "trace")
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


@contextmanager
def span(name: str, parent: str = "", **attributes: Value) -> Iterator[None]:
    """Around what is done here; within it `current` is its name for others."""
    if not _on():
        yield
        return
    from opentelemetry import trace

    tracer = trace.get_tracer("diptych")
    with tracer.start_as_current_span(name, _context(parent), attributes=attributes):
        yield


def current() -> str:
    """The `traceparent` (W3C) of where we are; empty outside a trace."""
    return _said(None) if _on() else ""


class Open:
    """A span that is ended elsewhere. `turn` adds one below it that has just ended."""

    def __init__(self, name: str, parent: str, **attributes: Value):
        self._span: Any = None
        if _on():
            from opentelemetry import trace

            tracer = trace.get_tracer("diptych")
            self._span = tracer.start_span(name, _context(parent), attributes=attributes)

    def turn(self, seconds: float, **attributes: Value) -> None:
        """Something of this that took so long until now."""
        if self._span is None:
            return
        from opentelemetry import trace

        now = time.time_ns()
        within = trace.set_span_in_context(self._span)
        made = trace.get_tracer("diptych").start_span(
            "turn", within, attributes=attributes, start_time=now - int(seconds * 1e9)
        )
        made.end(now)

    def end(self, **attributes: Value) -> None:
        """It is over."""
        if self._span is not None:
            self._span.set_attributes(attributes)
            self._span.end()
            self._span = None


def _on() -> bool:
    return bool(os.environ.get(ENDPOINT)) and _there()


@cache
def _there() -> bool:
    return find_spec("opentelemetry") is not None


def _context(parent: str) -> Any:
    from opentelemetry.propagate import extract

    return extract({"traceparent": parent}) if parent else None


def _said(context: Any) -> str:
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier, context)
    return carrier.get("traceparent", "")
