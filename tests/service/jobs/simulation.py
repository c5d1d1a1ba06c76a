"""A server, two workers, a reaper and owners on a clock of their own, against the real store in
memory. A seed decides who does what next."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, select

from diptych.service.jobs import queries, store, tidying
from diptych.service.jobs.accepting import Accepted, Key, Wanted, accept
from diptych.service.jobs.machine import MOST_SOLO_DEATHS
from diptych.service.jobs.schema import event, idempotency, job, metadata, tombstone
from diptych.service.jobs.store import Moved, Progress, Stored

OWNERS = ("ann", "bob", "eve")
LEASE = 30.0
ENDS = {"complete", "failed", "canceled"}
_KEY = select(idempotency.c.key).where(idempotency.c.key == bindparam("key"))
_HELD = select(job.c.id).where(job.c.held)
_NEW = select(job.c.owner).where(queries.WAITS, job.c.fence == 0).distinct()


class Lost(Exception):
    """The writer died before its commit."""


class Broken(AssertionError):
    """An invariant is."""


@dataclass
class World:
    """`truth`: whose claim is good now; `asked`: all that clients were told; `given_up`: of which
    a cancel was acknowledged; `mail`: what workers sent and did not arrive yet."""

    engine: Engine
    dice: random.Random
    steady: float = 50.0
    wall: float = 1e9
    truth: dict[str, int] = field(default_factory=dict)
    asked: dict[str, tuple[str, int, list[str]]] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    disk: set[str] = field(default_factory=set)
    workers: list[dict[str, int]] = field(default_factory=lambda: [{}, {}])
    mail: list[tuple[str, str, int]] = field(default_factory=list)
    waited: Counter[tuple[str, str]] = field(default_factory=Counter)
    number: int = 0

    def do(self, run: Callable[[Connection], Any], risk: float = 0.04) -> Any:
        """One transaction, which may be lost just before its commit."""
        with self.engine.begin() as connection:
            result = run(connection)
            if self.dice.random() < risk:
                raise Lost
        return result

    # --- owners -----------------------------------------------------------------------------------

    def submit(self) -> None:
        """A request with a key. The answer may not arrive: then it is sent again."""
        name, number = self.dice.choice(OWNERS), self.dice.choice((1, 1, 1, 2, 5))
        self.number += 1
        self.send(f"{name}:{self.number}", number)
        if self.dice.random() < 0.15:
            self.send(f"{name}:{self.number}", number)

    def send(self, key: str, number: int) -> None:
        name = key.partition(":")[0]
        soon = self.wall + 200 if self.dice.random() < 0.1 else 0.0
        wanted = [Wanted(kind="picture", spec={"n": key}, cost=1.0, deadline=soon)] * number
        ids = [f"{int(key.partition(':')[2]):06}-{i}" for i in range(number)]
        try:
            got: Accepted = self.do(
                lambda c: accept(c, name, wanted, self.wall, Key(key, str(number)), ids)
            )
        except Lost:
            return self.send(key, number)
        known = self.asked.setdefault(key, (name, number, list(got.ids)))
        if list(got.ids) != known[2] or got.clash:
            raise Broken(f"I8: {key} gave {known[2]}, then {got}")
        if self.dice.random() < 0.15:
            self.poison.update(got.ids)
        return None

    def known_key(self) -> str | None:
        """A key that was used, and not forgotten with all its jobs."""
        keys = list(self.asked)
        key = self.dice.choice(keys) if keys else None
        if key and self.do(lambda c: c.scalar(_KEY, {"key": key}), risk=0) is None:
            return None
        return key

    def send_again(self) -> None:
        if key := self.known_key():
            self.send(key, self.asked[key][1])

    def clash(self) -> None:
        if key := self.known_key():
            one = Wanted(kind="picture", spec={}, cost=1.0)
            got = self.do(
                lambda c: accept(c, self.asked[key][0], [one], self.wall, Key(key, "other")),
                risk=0,
            )
            if not got.clash or got.ids:
                raise Broken(f"I8: {key} took another request")

    def owner_acts(self) -> None:
        """Cancel, hold, let go, move, delete, take back."""
        ids = [one for _, _, ids in self.asked.values() for one in ids]
        if not ids:
            return
        one, act = self.dice.choice(ids), self.dice.randrange(7)
        self.waited.clear()
        if act <= 1:
            if self.do(lambda c: store.cancel(c, one, self.wall)) is not None:
                self.given_up.add(one)
        elif act <= 3:
            self.do(lambda c: store.hold(c, one, act == 2, self.wall))
        elif act == 4:
            self.do(lambda c: store.place_at(c, one, self.dice.randrange(4)))
        elif act == 5:
            if self.do(lambda c: tidying.hide(c, one, self.wall, self.wall + 30.0)):
                self.given_up.add(one)
        else:
            self.do(lambda c: tidying.unhide(c, one, self.wall))

    def pause(self) -> None:
        name, paused = self.dice.choice(OWNERS), self.dice.random() < 0.4
        self.waited.clear()
        self.do(lambda c: store.pause(c, name, paused))

    # --- workers ----------------------------------------------------------------------------------

    def claim(self) -> None:
        worker = self.dice.choice(self.workers)
        if len(worker) >= 2:
            return
        before = self.do(lambda c: set(c.scalars(_NEW)), risk=0)
        got = self.do(lambda c: store.claim(c, self.steady, self.wall, LEASE, busy=bool(worker)))
        if got.moved is not None:
            worker[got.moved.id] = self.truth[got.moved.id] = got.moved.job.fence
            if got.moved.job.fence == 1:
                self.overtaken(got.moved, before)

    def overtaken(self, moved: Moved, before: set[str]) -> None:
        """All jobs cost the same: before anybody's first job go at most two of each other, one of
        them since that one had just been served."""
        for name in before - {moved.owner}:
            self.waited[name, moved.owner] += 1
            if self.waited[name, moved.owner] > 2:
                raise Broken(f"I12: {name} waits for {moved.owner} again and again")
        for pair in [pair for pair in self.waited if pair[0] == moved.owner]:
            del self.waited[pair]

    def work(self) -> None:
        """A worker makes a step of all it has, renews its leases, and may end a job or die."""
        worker = self.dice.choice(self.workers)
        if self.poison & worker.keys() and self.dice.random() < 0.7:
            return self.die(worker)
        told = [Progress(one, fence, 1) for one, fence in worker.items()]
        answers = self.do(lambda c: store.renew(c, told, self.steady + LEASE, self.wall))
        for one, answer in answers.items():
            if answer == "lost" or self.dice.random() < 0.6:
                fence = worker.pop(one)
                kinds = ("canceled",) if answer == "cancel" else ("complete", "fail", "put_back")
                self.post(self.dice.choice(kinds), one, fence)
            elif answer == "held" and self.dice.random() < 0.2:
                self.post("checkpointed", one, fence=worker[one])
        return None

    def post(self, kind: str, one: str, fence: int) -> None:
        """A message: it comes now, later, twice, or both."""
        now, later = self.dice.choice(((True, False), (True, False), (False, True), (True, True)))
        if later:
            self.mail.append((kind, one, fence))
        if now:
            self.deliver((kind, one, fence))

    def letter(self) -> None:
        if self.mail:
            self.deliver(self.mail.pop(self.dice.randrange(len(self.mail))))

    def deliver(self, letter: tuple[str, str, int]) -> None:
        kind, one, fence = letter
        wall, picture = self.wall, f"{one}-{fence}".ljust(64, "0")[:64]
        self.disk.add(picture)  # the file is synced before the message is sent
        made = [Stored(picture, "image/png", 1)]
        rules: dict[str, Callable[[Connection], Moved | None]] = {
            "complete": lambda c: store.complete(c, one, fence, {}, made, wall),
            "fail": lambda c: store.fail(c, one, fence, "wrong", "", wall),
            "put_back": lambda c: store.put_back(
                c, one, fence, self.steady + self.dice.random() * 60, wall, refund=fence % 3 == 0
            ),
            "canceled": lambda c: store.canceled(c, one, fence, wall),
            "checkpointed": lambda c: store.checkpointed(
                c, one, fence, 1, {}, self.steady + LEASE, wall
            ),
        }
        moved = self.do(rules[kind])
        if moved is not None and self.truth.get(one) != fence:
            raise Broken(f"I4: {kind} of claim {fence}, but {self.truth.get(one)} has {one}")
        if moved is not None and moved.job.status != "running":
            del self.truth[one]

    def die(self, worker: dict[str, int] | None = None) -> None:
        """An engine is killed; its parent may hear of it, or the leases end."""
        worker = self.dice.choice(self.workers) if worker is None else worker
        worker.clear()
        if self.dice.random() < 0.7:
            for other in self.workers:
                other.clear()
            self.reaped(lambda c: tidying.reap(c, self.steady, self.wall, dead=True))

    # --- time -------------------------------------------------------------------------------------

    def reaped(self, run: Callable[[Connection], list[Moved]], risk: float = 0.04) -> None:
        for one in self.do(run, risk):
            self.truth.pop(one.id, None)
        self.waited.clear()

    def time(self) -> None:
        passed = self.dice.choice((1.0, 5.0, 40.0))
        self.steady, self.wall = self.steady + passed, self.wall + passed

    def tidy(self) -> None:
        self.reaped(lambda c: tidying.reap(c, self.steady, self.wall))
        self.reaped(lambda c: tidying.expire(c, self.steady, self.wall))
        self.do(lambda c: tidying.erase_due(c, self.wall))

    def restart(self) -> None:
        """The server begins again on a machine that did: another steady clock; late mail stays."""
        self.steady = self.dice.random() * 10
        self.reaped(lambda c: tidying.begin_again(c, self.wall), risk=0)

    def act(self) -> None:
        acts: dict[Callable[[], None], int] = {
            self.submit: 6, self.send_again: 2, self.clash: 1, self.owner_acts: 5, self.pause: 1,
            self.claim: 12, self.work: 9, self.letter: 4, self.die: 1, self.time: 4, self.tidy: 3,
            self.restart: 1,
        }  # fmt: skip
        try:
            self.dice.choices(list(acts), list(acts.values()))[0]()
        except Lost:
            self.waited.clear()


def drain(world: World) -> None:
    """Quiet times: good workers end all there is."""
    steady, wall = world.steady + 61, world.wall + 61
    with world.engine.begin() as c:
        tidying.reap(c, steady, wall)
        for name in OWNERS:
            store.pause(c, name, False)
        for one in c.scalars(_HELD).all():
            store.hold(c, one, False, wall)
        while (got := store.claim(c, steady, wall, LEASE)).moved is not None:
            store.fail(c, got.moved.id, got.moved.job.fence, "quiet", "", wall)


def judge(world: World) -> None:
    """I1 to I3, I6 to I10 of what is left."""
    with world.engine.begin() as c:
        rows = {row.id: row for row in c.execute(select(job))}
        stones = set(c.scalars(select(tombstone.c.job_id)))
        told = [one for _, _, ids in world.asked.values() for one in ids]
        if sorted(told) != sorted([*rows, *stones]):
            raise Broken(f"I1, I2: {len(told)} accepted, {len(rows)} + {len(stones)} there")
        histories: dict[str, list[Any]] = {}
        for one in c.execute(select(event).order_by(event.c.seq)):
            histories.setdefault(one.job_id, []).append(one)
        for row in rows.values():
            events = histories[row.id]
            if [one.seq for one in events] != list(range(1, row.rev + 1)):
                raise Broken(f"I6: {events}, rev {row.rev}")
            ends = [one.kind for one in events if one.kind in ENDS]
            if ends != [row.status] or events[-1].kind != row.status:
                raise Broken(f"I3: {row.status} after {[one.kind for one in events]}")
            if row.id in world.given_up and row.status != "canceled":
                raise Broken(f"I9: {row.status} after its cancel was acknowledged")
            if row.crashes > MOST_SOLO_DEATHS + 1:
                raise Broken(f"I10: {row.crashes} deaths")
            made = {one.sha256 for one in queries.artifacts_of(c, row.id)}
            if row.erase_at is None and bool(made) != (row.status == "complete"):
                raise Broken(f"I7: {row.status} with {len(made)} artifacts")
            if not made <= world.disk:
                raise Broken("I7: a row without its file")
        keys = c.scalar(select(func.count()).select_from(idempotency))
        if not stones and keys != len(world.asked):
            raise Broken(f"I8: {keys} keys of {len(world.asked)}")


def run(engine: Engine, seed: int, length: int = 50) -> None:
    """One schedule. Raises Broken."""
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    world = World(engine, random.Random(seed))
    for _ in range(length):
        world.act()
    drain(world)
    judge(world)
