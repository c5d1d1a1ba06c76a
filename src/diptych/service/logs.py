"""What the server writes to its terminal or log: a line a request, and one for each job that ends.

By Python's logging, so that an operator's own handlers work. No prompt, no key and no address of a
picture stands in any line; a request is found by its id, which is in its answer too.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TextIO

from diptych.service.jobs.store import Moved

LOG = logging.getLogger("diptych.service")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def begin(form: str = "", to: TextIO | None = None) -> None:
    """`form`: "text" or "json" for all lines, "" for warnings alone, as text."""
    handler = logging.StreamHandler(to or sys.stderr)
    handler.setFormatter(_json() if form == "json" else _Text())
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO if form else logging.WARNING)
    LOG.propagate = False


def answered(route: str, status: int, seconds: float, request_id: str) -> None:
    """A request has its answer; of a stream, its beginning."""
    if LOG.isEnabledFor(logging.INFO):
        said = {"route": route, "status": status, "ms": round(seconds * 1000, 1)}
        LOG.info("request", extra={**said, "request_id": request_id})


def moved(job: Moved) -> None:
    """A job has ended, or is put back."""
    if LOG.isEnabledFor(logging.INFO):
        said: dict[str, Any] = {"job_id": job.id, "attempt": job.job.attempt}
        if job.job.error:
            said["code"] = job.job.error
        LOG.info(f"job {job.kind}", extra=said)


class _Text(logging.Formatter):
    """`12:00:01 info request route="POST /v1/generate" status=202`"""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        more = {k: v for k, v in vars(record).items() if k not in _OWN}
        said = [f"{k}={v}" if " " not in str(v) else f'{k}="{v}"' for k, v in more.items()]
        return " ".join([at, record.levelname.lower(), record.getMessage(), *said])


def _json() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        "%(levelname)s %(message)s", timestamp=True, rename_fields={"levelname": "level"}
    )
