"""Who is served next, whichever database is below it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from diptych.service.jobs import queries, store, tidying
from diptych.service.jobs.accepting import LARGE
from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import share
from diptych.service.jobs.store import Progress
from tests.service.jobs.asking import ask, claim, order


def test_owners_take_turns_whoever_asked_first(database: Database):
    ask(database, "ann", 6)
    ask(database, "bob", 3)
    assert "".join(name[0] for name in order(database)) == "abababaaa"


def test_a_newcomer_waits_for_one_job_of_each(database: Database):
    for name in ("ann", "bob", "cat"):
        ask(database, name, 20)
    served = order(database, 17)
    ask(database, "new")
    turns = order(database)
    ahead = turns[: turns.index("new")]
    assert len(served) == 17 and all(ahead.count(name) <= 1 for name in ("ann", "bob", "cat"))


def test_twice_the_weight_is_twice_the_share(database: Database):
    ask(database, "ann", 30)
    ask(database, "bob", 30)
    database.write_now(
        lambda c: c.exec_driver_sql("update owner set weight = 2 where name = 'ann'")
    )
    database.write_now(lambda c: [store.pause(c, name, False) for name in ("ann", "bob")])
    assert 19 <= order(database, 30).count("ann") <= 21


def test_a_class_goes_before_another(database: Database):
    (large,) = ask(database, "ann", rank=LARGE)
    (usual,) = ask(database, "ann")
    assert [one.id for one in database.read(queries.queue)] == [usual, large]


LEAVES = {
    "cancel": lambda c, i: store.cancel(c, i, 0.0),
    "hold": lambda c, i: store.hold(c, i, True, 0.0),
    "delete": lambda c, i: tidying.hide(c, i, 0.0, 30.0),
}


@pytest.mark.parametrize("how", LEAVES)
def test_nobody_pays_for_what_did_not_run(database: Database, how: str):
    ids = ask(database, "ann", 20)
    ask(database, "bob", 20)
    for one in ids[:-1]:
        database.write_now(lambda c, i=one: LEAVES[how](c, i))
    assert "ann" in order(database, 2)


@pytest.mark.parametrize("how", ["hold", "pause"])
def test_who_waited_by_choice_saved_nothing_up(database: Database, how: str):
    ids = ask(database, "ann", 10)

    def wait(held: bool) -> None:
        if how == "pause":
            database.write_now(lambda c: store.pause(c, "ann", held))
        else:
            database.write_now(lambda c: [store.hold(c, one, held, 0.0) for one in ids])

    wait(True)
    ask(database, "bob", 20)
    assert order(database, 10) == ["bob"] * 10
    wait(False)
    assert order(database, 6).count("bob") == 3


def test_moving_a_job_changes_nothing_for_others(database: Database):
    ids = ask(database, "ann", 4)
    others = ask(database, "bob", 4)
    before = [one.owner for one in database.read(queries.queue)]
    assert database.write_now(lambda c: store.place_at(c, ids[3], 0))
    assert database.write_now(lambda c: store.place_at(c, ids[0], 99))
    after = database.read(queries.queue)
    assert [one.id for one in after if one.owner == "ann"] == [ids[3], ids[1], ids[2], ids[0]]
    assert [one.id for one in after if one.owner == "bob"] == others
    assert sorted(one.owner for one in after[:4]) == sorted(before[:4])
    assert not database.write_now(lambda c: store.place_at(c, "none", 0))


def test_what_is_ahead(database: Database):
    ask(database, "ann", 3, cost=2.0, steps=4)
    (mine,) = ask(database, "bob", cost=5.0)
    moved = claim(database).moved
    assert moved is not None
    database.write_now(lambda c: store.renew(c, [Progress(moved.id, 1, 1)], 99.0, 0.0))
    assert database.read(lambda c: queries.ahead(c, mine)) == (1, 1.5)
    last = database.read(queries.queue)[-1].id
    assert database.read(lambda c: queries.ahead(c, last)) == (3, 1.5 + 5.0 + 2.0)
    assert database.read(lambda c: queries.ahead(c, moved.id)) == (0, 0.0)
    assert database.read(lambda c: queries.load(c, "ann")) == (3, 6.0)


def test_a_job_that_comes_back_is_paid_for_once(database: Database):
    (job_id,) = ask(database, "ann")
    claim(database)
    database.write_now(lambda c: store.put_back(c, job_id, 1, 50.0, 0.0, refund=False))
    database.write_now(lambda c: store.pause(c, "ann", False))  # its place is reckoned anew
    paid = database.read(lambda c: c.execute(select(share)).all())
    moved = claim(database, steady=50.0).moved
    assert moved is not None and moved.id == job_id
    assert database.read(lambda c: c.execute(select(share)).all()) == paid


def test_a_job_that_waits_to_come_back_is_not_charged_to_the_next(database: Database):
    (job_id,) = ask(database, "ann")
    claim(database)
    database.write_now(lambda c: store.put_back(c, job_id, 1, 50.0, 0.0, refund=False))
    database.write_now(lambda c: store.pause(c, "ann", False))
    ask(database, "ann")
    ask(database, "bob", 3)
    assert order(database, 2) == ["bob", "ann"]
