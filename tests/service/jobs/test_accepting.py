"""Requests that come together are what they would be one after the other."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, select

from diptych.service.api import reads
from diptych.service.jobs import queries, store
from diptych.service.jobs.accepting import Accepted, Asked, Key, Wanted, accept_all
from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import event, job
from tests.service.jobs.asking import PICTURE, F, ask, claim


def history(database: Database, draw: random.Random, owners: str = "ann bob cat") -> None:
    """Jobs of a few owners, some of them running, put back, held, done or given up."""
    for turn in range(12):
        name = draw.choice(owners.split())
        ids = ask(database, name, draw.randint(1, 3), cost=draw.random(), spec={"turn": turn})
        match draw.randrange(5):
            case 0:
                claim(database)
            case 1:
                begun = claim(database).moved
                assert begun is not None
                database.write_now(
                    lambda c, i=begun.id, f=begun.job.fence: store.put_back(
                        c, i, f, 0.0, 1001.0, refund=False
                    )
                )
            case 2:
                database.write_now(lambda c, i=ids[0]: store.hold(c, i, True, 1001.0))
            case 3:
                database.write_now(lambda c, i=ids[0]: store.cancel(c, i, 1001.0))
            case _:
                pass


def requests(draw: random.Random, owners: str = "ann bob cat new") -> list[Asked]:
    """Of the same owners and a new one; two with a key, one of them known already."""
    made: list[Asked] = []
    for number in range(10):
        wanted = [
            Wanted(kind="picture", spec={"n": number, "i": i}, cost=draw.random(), rank=rank)
            for i, rank in enumerate([draw.randint(0, 2)] * draw.randint(1, 3))
        ]
        ids = [f"{number:04}-{i}" for i in range(len(wanted))]
        key = Key("k", "body") if number in (3, 7) else None
        most = (2.0, 1e9) if number == 8 else (1e9, 1e9)
        name = draw.choice(owners.split())
        made.append(
            Asked(owner=name, wanted=wanted, wall=2000.0 + number, key=key, ids=ids, most=most)
        )
    return made


def everything(database: Database) -> list[Any]:
    def run(connection: Connection) -> list[Any]:
        jobs = connection.execute(select(job).order_by(job.c.id)).all()
        events = connection.execute(select(event).order_by(event.c.job_id, event.c.seq)).all()
        return [*map(tuple, jobs), *map(tuple, events)]

    return database.write_now(run)


@pytest.mark.parametrize("owners", ["ann bob cat", "ann"])
@pytest.mark.parametrize("seed", range(8))
def test_together_is_one_after_the_other(seed: int, owners: str, monkeypatch: pytest.MonkeyPatch):
    made: list[tuple[list[Accepted], list[Any]]] = []
    ticks = [0]

    def new_id(wall: float) -> str:
        ticks[0] += 1
        return f"0000-{ticks[0]:06}"

    monkeypatch.setattr("diptych.service.jobs.accepting.new_id", new_id)
    monkeypatch.setattr("tests.service.jobs.asking._TICKS", iter(range(1000)))
    for together in (True, False):
        ticks[0] = 0
        monkeypatch.setattr("tests.service.jobs.asking._TICKS", iter(range(1000)))
        with closing(Database.in_memory()) as database:
            history(database, random.Random(seed), owners)
            asked = requests(random.Random(seed + 100), owners)
            if together:
                done = database.write_now(lambda c, a=asked: accept_all(c, a))
            else:
                done = [database.write_now(lambda c, a=one: accept_all(c, [a])[0]) for one in asked]
            made.append((done, everything(database)))
    (first, rows), (second, others) = made
    for one, other in zip(first, second, strict=True):
        assert one.etas == pytest.approx(other.etas, abs=1e-9)
        assert (one.ids, one.again, one.clash) == (other.ids, other.again, other.clash)
        assert one.over == pytest.approx(other.over, abs=1e-9)
    assert len(rows) == len(others)
    for one, other in zip(rows, others, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine == (pytest.approx(theirs, abs=1e-9) if type(mine) is float else theirs)


@pytest.mark.parametrize("owners", ["ann bob cat", "ann"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_told_is_what_the_queue_says(seed: int, owners: str):
    with closing(Database.in_memory()) as database:
        history(database, random.Random(seed), owners)
        for one in requests(random.Random(seed + 100), owners):
            (done,) = database.write_now(lambda c, a=one: accept_all(c, [a]))
            if done.moved:
                (*_, last) = done.ids
                row = database.read(lambda c, i=last: reads.job_of(c, i))
                assert row is not None and row.eta == done.etas[-1]
                told = database.read(lambda c, r=row: reads.etas(c, [r]))[last]
                assert told == pytest.approx(done.etas[-1], abs=1e-9)


def test_an_equal_one_takes_no_place_of_those_beside_it(database: Database):
    spec = {"prompt": "a cat", "seed": 7}
    (first,) = ask(database, spec=spec, cost=5.0)
    claim(database)
    result = {"fingerprint": "f", "seed": 7}
    database.write_now(lambda c: store.complete(c, first, F, result, [PICTURE], 0.0))
    old = Wanted(kind="picture", spec=spec, cost=5.0, equal="f")
    new = Wanted(kind="picture", spec={"prompt": "a dog"}, cost=1.0)
    asked = Asked(owner="ann", wanted=[old, new], wall=2000.0)
    (done,) = database.write_now(lambda c: accept_all(c, [asked]))
    assert list(done.etas) == [0.0, 1.0]
    assert [moved.job.status for moved in done.moved] == ["queued", "queued", "complete"]
    assert [one.id for one in database.read(queries.queue)] == [done.ids[1]]


def test_one_that_fails_takes_no_other_with_it():
    async def run(database: Database) -> list[object]:
        def asked(cost: Any) -> Asked:
            wanted = [Wanted(kind="picture", spec={}, cost=cost)]
            return Asked(owner="ann", wanted=wanted, wall=2000.0)

        costs = ["much" if i % 10 == 3 else 1.0 for i in range(40)]
        return await asyncio.gather(
            *(database.write_each(accept_all, asked(cost)) for cost in costs),
            return_exceptions=True,
        )

    with closing(Database.in_memory()) as database:
        answers = asyncio.run(run(database))
        failed = [i for i, one in enumerate(answers) if isinstance(one, Exception)]
        kept = {i for one in answers if isinstance(one, Accepted) for i in one.ids}
        assert failed == [3, 13, 23, 33] and len(kept) == 36
        assert {one.id for one in database.read(queries.queue)} == kept
