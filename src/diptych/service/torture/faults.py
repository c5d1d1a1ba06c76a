"""What is done to a server: each fault is a function of the child and a random generator, and ends
with a server that runs."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

from diptych.service.child import Child, signaled

# Deaths of one server's engine before it is begun anew: more of them make it wait ever longer.
MOST_DEATHS = 3
FROZEN = (0.2, 2.0)  # seconds
FULL = (0.5, 3.0)
_TORN = 32 << 10  # bytes that a file may still grow by


@dataclass
class Victim:
    """The server, and how often its engine has died since it began."""

    child: Child
    deaths: int = 0
    done: dict[str, int] = field(default_factory=dict)

    def again(self) -> None:
        """Start the server."""
        self.deaths = 0
        self.child.begin()

    def engine_died(self) -> None:
        """Counted; the server is begun anew before it gives its engine up."""
        self.deaths += 1
        if self.deaths >= MOST_DEATHS:
            self.child.kill()
            self.again()


def kill_server(victim: Victim, _: Random) -> None:
    """SIGKILL; the kernel takes the engine with it."""
    victim.child.kill()
    victim.again()


def kill_engine(victim: Victim, _: Random) -> None:
    """SIGKILL; the server begins another."""
    pid = _engine(victim.child)
    if pid is not None:
        signaled(pid, signal.SIGKILL)
        victim.engine_died()


def freeze_server(victim: Victim, random: Random) -> None:
    """SIGSTOP; then it goes on, or is killed."""
    signaled(victim.child.pid, signal.SIGSTOP)
    time.sleep(random.uniform(*FROZEN))
    if random.random() < 0.5:
        signaled(victim.child.pid, signal.SIGCONT)
    else:
        kill_server(victim, random)


def freeze_engine(victim: Victim, random: Random) -> None:
    """SIGSTOP; then it goes on, or is killed."""
    pid = _engine(victim.child)
    if pid is None:
        return
    signaled(pid, signal.SIGSTOP)
    time.sleep(random.uniform(*FROZEN))
    if random.random() < 0.5:
        signaled(pid, signal.SIGCONT)
    else:
        signaled(pid, signal.SIGKILL)
        victim.engine_died()


def drain(victim: Victim, _: Random) -> None:
    """SIGTERM, as an operator restarts it."""
    victim.child.drain()
    victim.again()


def fill_disk(victim: Victim, random: Random) -> None:
    """The kernel refuses writes beyond a size of file, to server and engine, in the middle of a
    write too (RLIMIT_FSIZE, error EFBIG); then there is room again. Half the time the server is
    killed before."""
    wal = victim.child.data / "jobs.db-wal"
    grown = wal.stat().st_size if wal.exists() else 0
    limit = random.choice((0, grown + random.randrange(_TORN)))
    pids = [victim.child.pid, _engine(victim.child)]
    _limited(pids, limit)
    time.sleep(random.uniform(*FULL))
    if random.random() < 0.5:
        kill_server(victim, random)
    else:
        _limited(pids, None)


FAULTS: Mapping[str, Callable[[Victim, Random], None]] = MappingProxyType({
    "server killed": kill_server,
    "engine killed": kill_engine,
    "server frozen": freeze_server,
    "engine frozen": freeze_engine,
    "server drained": drain,
    "disk full": fill_disk,
})  # fmt: skip


def plan(random: Random, faults: int) -> list[str]:
    """Which faults, each kind as often as the others as far as the number allows."""
    names = [name for _ in range(-(-faults // len(FAULTS))) for name in FAULTS][:faults]
    random.shuffle(names)
    return names


def strike(victim: Victim, name: str, random: Random) -> None:
    """One fault, counted."""
    FAULTS[name](victim, random)
    victim.done[name] = victim.done.get(name, 0) + 1


def _engine(child: Child, within: float = 10.0) -> int | None:
    until = time.monotonic() + within
    while (pid := child.engine()) is None and time.monotonic() < until:
        time.sleep(0.05)
    return pid


def _limited(pids: list[int | None], limit: int | None) -> None:
    """Set the soft limit of file sizes; None takes it away."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(
                    pid, resource.RLIMIT_FSIZE, (most if limit is None else limit, most)
                )
