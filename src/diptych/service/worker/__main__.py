"""`python -m diptych.service.worker`: the engine's process, begun by the server.

The server's process id, its socket, the data folder and the registry come as one JSON argument.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import torch

from diptych.engine.engine import Engine
from diptych.foundation.errors import NotWritten
from diptych.foundation.files import write_whole
from diptych.foundation.memory import keep_freed_memory
from diptych.service import traces
from diptych.service.api.windows import place_of
from diptych.service.guards.output_gate import gate_of
from diptych.service.worker.line import Line, ServerGone
from diptych.service.worker.loop import Worker
from diptych.service.worker.models import Loaded, tokenizer_of
from diptych.service.worker.pool import Pool
from diptych.service.worker.runs import Room

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def main(argument: str) -> int:
    """Load, work, go. 3 for a model that cannot be loaded."""
    told = json.loads(argument)
    _die_with(int(told["parent"]))
    # The server asks us to stop by a bell; Ctrl-C in its terminal is its own affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(int(told["threads"]))
    keep_freed_memory()
    traces.begin("diptych-engine")
    line = Line(Path(told["socket"]))
    engine = Engine(exact=told["exact"], most=int(told["most"]))
    marks = f"{'marks' if told['marks'] else 'no marks'} {told['gate']}".strip()
    try:
        data = Path(told["data"])
        pool = Pool(engine, told["models"], int(told["memory"]), marks)
        for name, error in pool.begin():
            if error is not None:
                line.tell("missing", name=name, why=str(error))
            else:
                leave_tokenizer(data, pool.loaded[name])
        (data / "spool").mkdir(parents=True, exist_ok=True)
        for half in (data / "spool").glob(".*.part"):  # of an engine that was killed while it wrote
            half.unlink(missing_ok=True)
        room = Room(
            pool, data, lambda job, text: line.tell("piece", id=job, text=text),
            marks=told["marks"], gate=gate_of(told["gate"]) if told["gate"] else None,
        )  # fmt: skip
        line.call("hello", pid=os.getpid(), models=[dict(one) for one in pool.infos.values()])
        Worker(
            line, room, int(told["most"]), float(told["spool_every"]), float(told["drain_for"])
        ).work()
    except ServerGone:
        return 1
    return 0


def leave_tokenizer(data: Path, model: Loaded) -> None:
    """Where the web half counts with it. A full disk costs only its warnings."""
    tokenizer = tokenizer_of(model.front.networks)
    if tokenizer is None:
        return
    path = place_of(data, model.name)
    with suppress(OSError, NotWritten):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, tokenizer.to_json())


def _die_with(parent: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
