"""Keys, equal requests, lists and deletion, whichever database is below them."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from diptych.service.jobs import queries, store, tidying
from diptych.service.jobs.accepting import Accepted, Key, Wanted, accept, new_id
from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import artifact, event, idempotency, job, rating
from diptych.service.jobs.store import Stored, Vanishing
from tests.service.jobs.asking import PICTURE, SHA, STEPS, F, ask, claim, kinds, order, row


def test_a_key_stands_for_one_request(database: Database):
    one = [Wanted(kind="picture", spec={}, cost=1.0)]

    def send(name: str, body: str, wall: float = 0.0) -> Accepted:
        return database.write_now(lambda c: accept(c, name, one, wall, Key("k", body)))

    first, again, other, bob = (
        send("ann", "x"),
        send("ann", "x"),
        send("ann", "y"),
        send("bob", "y"),
    )
    assert again == Accepted(ids=list(first.ids), again=True) and other == Accepted(clash=True)
    assert not bob.again and len(database.read(queries.queue)) == 2
    database.write_now(lambda c: tidying.forget_keys(c, 24 * 3600.0 + 1))
    assert not send("ann", "y").clash


def test_an_equal_request_is_answered_from_before(database: Database):
    spec = {"prompt": "a cat", "seed": 7}
    (first,) = ask(database, spec=spec)
    claim(database)
    result = {"fingerprint": "f", "seed": 7}
    database.write_now(lambda c: store.complete(c, first, F, result, [PICTURE], 0.0))
    same = {"seed": 7, "prompt": "a cat"}
    (again,) = ask(database, spec=same, equal="f")
    assert kinds(database, again) == ["queued", "complete"]
    assert row(database, again).result == {**result, "cached": True, "generation_time": 0.0}
    assert [one.sha256 for one in database.read(lambda c: queries.artifacts_of(c, again))] == [SHA]
    for name, changes in (
        ("bob", {"spec": same, "equal": "f"}),
        ("ann", {"spec": same, "equal": "g"}),
        ("ann", {"spec": same}),
        ("ann", {"spec": {**same, "seed": 8}, "equal": "f"}),
    ):
        (other,) = ask(database, name, **changes)
        assert kinds(database, other) == ["queued"]
    database.write_now(lambda c: [tidying.hide(c, one, 0.0, 30.0) for one in (first, again)])
    assert kinds(database, ask(database, spec=same, equal="f")[0]) == ["queued"]


def test_an_artifact_that_vanishes_is_written_again(database: Database):
    (job_id,) = ask(database)
    claim(database)
    database.write_now(
        lambda c: c.execute(
            artifact.insert(),
            {"sha256": SHA, "media": "", "size": 0, "state": "deleting", "created": 0.0},
        )
    )
    with pytest.raises(Vanishing):
        database.write_now(lambda c: STEPS["complete"](c, job_id, F))
    assert row(database, job_id).status == "running" and kinds(database, job_id)[-1] == "started"


# --- lists and deletion ---------------------------------------------------------------------------


def test_pages_go_from_the_newest(database: Database):
    ids = [one for i in range(4) for one in accept_at(database, 1000.0 + i, 3)]
    ask(database, "bob")
    pages: list[str] = []
    while True:
        before = pages[-1] if pages else ""
        page = database.read(lambda c, b=before: queries.listed(c, "ann", before=b, limit=5))
        if not page:
            break
        pages += [one.id for one in page]
    assert pages == ids[::-1]
    for _ in ("ann", "bob"):
        claim(database)
    some = database.read(lambda c: queries.listed(c, "ann", status=["running"]))
    assert [one.id for one in some] == [ids[0]]
    assert database.read(queries.counts) == {"queued": 11, "running": 2}


def accept_at(database: Database, wall: float, number: int) -> list[str]:
    wanted = [Wanted(kind="picture", spec={}, cost=1.0)] * number
    return list(database.write_now(lambda c: accept(c, "ann", wanted, wall)).ids)


def test_identifiers_are_version_7_and_follow_time():
    ids = [new_id(1e9 + i / 1000) for i in range(50)]
    assert ids == sorted(ids) and len(set(ids)) == 50
    assert all(one[14] == "7" and one[19] in "89ab" for one in ids)


def test_a_deletion_can_be_taken_back_and_then_not(database: Database):
    body = [Wanted(kind="picture", spec={"prompt": "secret"}, cost=1.0)]
    accepted = database.write_now(lambda c: accept(c, "ann", body, 0.0, Key("k", "b")))
    (job_id,) = accepted.ids
    (other,) = ask(database)
    for one in (job_id, other):
        claim(database)
        stored = [PICTURE, Stored(f"{one:0>64}"[:64], "image/png", 1)]
        database.write_now(lambda c, i=one, s=stored: store.complete(c, i, F, {}, s, 0.0))
    database.write_now(
        lambda c: c.execute(
            rating.insert(), {"job_id": job_id, "owner": "ann", "value": 1, "at": 0.0}
        )
    )
    assert database.write_now(lambda c: tidying.hide(c, job_id, 100.0, 130.0)) == []
    assert database.write_now(lambda c: tidying.hide(c, job_id, 100.0, 130.0)) is None
    assert database.read(lambda c: queries.job_of(c, job_id)) is None
    assert database.read(lambda c: queries.events_after(c, job_id)) == []
    assert database.read(lambda c: queries.artifacts_of(c, job_id)) == []
    assert database.write_now(lambda c: tidying.erase_due(c, 129.0)) == []
    assert database.write_now(lambda c: tidying.unhide(c, job_id, 129.0))
    assert database.read(lambda c: queries.job_of(c, job_id)) is not None
    database.write_now(lambda c: tidying.hide(c, job_id, 100.0, 130.0))
    only = f"{job_id:0>64}"[:64]
    assert database.write_now(lambda c: tidying.erase_due(c, 130.0)) == [only]
    assert not database.write_now(lambda c: tidying.unhide(c, job_id, 130.0))
    stone = database.read(lambda c: queries.tombstone_of(c, job_id))
    assert stone is not None and tuple(stone) == (job_id, "ann", 130.0, "deleted")
    for table in (event, rating):
        left = select(func.count()).where(table.c.job_id == job_id)
        assert database.read(lambda c, q=left: c.scalar(q)) == 0
    assert database.read(lambda c: c.scalar(select(func.count()).select_from(idempotency))) == 0


def test_a_running_job_is_erased_when_it_has_ended(database: Database):
    (job_id,) = ask(database)
    claim(database)
    moved = database.write_now(lambda c: tidying.hide(c, job_id, 0.0, 30.0))
    assert moved is not None and [one.kind for one in moved] == ["cancel_asked"]
    database.write_now(lambda c: tidying.erase_due(c, 99.0))
    assert row(database, job_id).status == "running"
    database.write_now(lambda c: store.canceled(c, job_id, F, 99.0))
    database.write_now(lambda c: tidying.erase_due(c, 99.0))
    assert database.read(lambda c: queries.tombstone_of(c, job_id)) is not None


def test_old_jobs_go_but_starred_ones_stay(database: Database):
    ids = ask(database, number=3)
    for one in ids[:2]:
        database.write_now(lambda c, i=one: store.cancel(c, i, 0.0))
    database.write_now(
        lambda c: c.execute(job.update().where(job.c.id == ids[0]).values(starred=True))
    )
    database.write_now(lambda c: tidying.retire(c, 100.0, 100.0))
    assert len(database.read(lambda c: queries.listed(c, "ann"))) == 3
    database.write_now(lambda c: tidying.retire(c, 100.1, 100.0))
    left = database.read(lambda c: queries.listed(c, "ann"))
    assert {one.id for one in left} == {ids[0], ids[2]}


def test_a_new_start_waits_for_no_clock_of_before(database: Database):
    first, second = ask(database, number=2)
    for one in (first, second):
        claim(database)
        database.write_now(lambda c, i=one: STEPS["put back"](c, i, F))
        assert row(database, one).not_before == 50.0
    claim(database, steady=60.0)
    assert [one.id for one in database.write_now(lambda c: tidying.begin_again(c, 0.0))] == [first]
    assert {row(database, one).not_before for one in (first, second)} == {0.0}
    assert len(order(database)) == 2


def test_jobs_of_one_request_come_all_or_none(database: Database):
    wrong = [Wanted(kind="picture", spec={"n": n}, cost=1.0) for n in (1, {2})]  # no JSON
    with pytest.raises(Exception, match="set"):
        database.write_now(lambda c: accept(c, "ann", wrong, 0.0, Key("k", "b")))
    assert database.read(queries.counts) == {}
    assert database.read(lambda c: c.scalar(select(func.count()).select_from(idempotency))) == 0
