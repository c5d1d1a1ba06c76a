"""A server as an operator starts it, as a child of ours: begun, killed, frozen, begun again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from diptych.foundation.errors import InvalidValue

STARTS_WITHIN = 60.0
DRAINS_WITHIN = 45.0


def free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@dataclass
class Child:
    """A server over a folder, at a port that stays the same."""

    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.data.parent / f"{self.data.name}.log"

    def begin(self) -> None:
        """Start it and wait until it listens. Raises InvalidValue when it does not."""
        command = [sys.executable, "-m", "diptych", "serve", "--data", str(self.data)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL,
                # Ctrl-C in our terminal is ours; we end the child.
                start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        until = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(
                ("127.0.0.1", self.port), 1.0
            ):  # fmt: skip
                return
            time.sleep(0.05)
        raise InvalidValue("The server did not start.", do=f"Its last words are in {self.log}.")

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self.process is not None
        return self.process.pid

    def engine(self) -> int | None:
        """The process id of the engine, None while there is none."""
        for pid in children(self.pid):
            with contextlib.suppress(OSError):
                if b"diptych.service.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def kill(self) -> None:
        """SIGKILL, and gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def drain(self) -> None:
        """SIGTERM, and gone: killed when it does not go. Raises InvalidValue then."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(DRAINS_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise InvalidValue(
                "The server did not end after SIGTERM.", do=f"See {self.log}."
            ) from None

    def end(self) -> None:
        """Leave no process, whatever state it is in."""
        if self.process is None:
            return
        family = [*children(self.pid), self.pid]
        for pid in family:
            signaled(pid, signal.SIGKILL)
        self.process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process has begun."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(one) for one in task.read_text().split()]
    return found


def signaled(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
