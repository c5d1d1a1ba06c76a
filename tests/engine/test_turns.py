"""Whose turn it is: short ones first, equal ones in a row, nobody starves, company if it pays."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import mean

import pytest

from diptych.engine.painting import Job
from diptych.engine.turns import PAYS, TRIES, Bucket, Costs, Task, chosen
from diptych.pipelines.painting import Request
from diptych.pipelines.sampling import Sampling

REQUEST = Request(
    prompts=["a cat"], seeds=[1],
    sampling=Sampling(steps=4, guidance=1, shift=None, solver="ddim", spacing="leading"),
)  # fmt: skip
SMALL, LARGE = Bucket("a", (4, 8, 8)), Bucket("a", (4, 16, 16))


@dataclass(eq=False)
class Wish:
    """Something of so many seconds, in steps of one."""

    came: float
    whole: float
    left: float
    job: Job
    ended: float = 0.0


def wish(came: float, seconds: float) -> Wish:
    return Wish(came, seconds, seconds, Job(REQUEST))


def served(coming: list[Wish]) -> list[Wish]:
    """On a virtual clock, a second a turn; as they ended."""
    now, ended, left = 0.0, [], sorted(coming, key=lambda one: one.came)
    costs, under_way = Costs({(SMALL, 1): 1.0}), []
    costs.times[SMALL, 2] = TRIES
    while left or under_way:
        now = max(now, left[0].came) if not under_way else now
        while left and left[0].came <= now:
            under_way.append(left.pop(0))
        tasks = [Task(one.job, SMALL, 1, one.left, one.whole, now - one.came) for one in under_way]
        task = chosen(tasks, costs)[0]
        one = next(one for one in under_way if one.job is task.job)
        now, one.left = now + 1, one.left - 1
        if not one.left:
            one.ended = now
            under_way.remove(one)
            ended.append(one)
    return ended


def test_a_short_one_does_not_wait_for_a_long_one():
    long, short = wish(0, 50), wish(10, 4)
    served([long, short])
    assert short.ended <= 10 + 4 + 1 and long.ended == 54


def test_of_two_long_ones_the_first_does_not_wait_for_the_second():
    first, second = wish(0, 50), wish(10, 50)
    assert served([first, second]) == [first, second] and first.ended == 50


def test_nobody_starves_while_short_ones_keep_coming():
    """They leave a tenth of the time: without the second factor it would take 500 seconds."""
    coming = [wish(0, 50), *(wish(10.0 * k / 3, 3) for k in range(400))]
    served(coming)
    assert coming[0].ended < 450
    assert max(one.ended - one.came for one in coming[1:]) < 30


@pytest.mark.parametrize("seed", range(5))
def test_it_beats_turns_by_one_after_the_other(seed: int):
    draw = random.Random(seed)
    now, coming = 0.0, []
    for _ in range(200):
        now += draw.expovariate(0.7 / 27)
        coming.append(wish(now, draw.choice([4, 50])))
    served(coming)
    slowdowns = [(one.ended - one.came) / one.whole for one in coming]
    free, by_one = 0.0, []
    for one in coming:
        free = max(free, one.came) + one.whole
        by_one.append((free - one.came) / one.whole)
    assert mean(slowdowns) < 0.5 * mean(by_one) and max(slowdowns) < max(by_one)


def task(bucket: Bucket = SMALL, left: float = 5.0, rows: int = 1, decodes: bool = False) -> Task:
    return Task(Job(REQUEST), bucket, rows, left, 10.0, 0.0, decodes)


def test_company_only_of_the_same_bucket_and_while_it_pays():
    first, beside, other = task(left=1.0), task(), task(LARGE)
    costs = Costs()
    for _ in range(TRIES):
        costs.learn(SMALL, 1, 1.0)
        assert chosen([beside, other, first], costs) == [first, beside], "it is tried first"
        costs.learn(SMALL, 2, 2 * PAYS + 0.1)
    assert chosen([beside, other, first], costs) == [first]
    costs.learn(SMALL, 2, 2 * PAYS - 0.1)
    assert chosen([beside, other, first], costs) == [first, beside]


def test_one_is_decoded_at_a_time():
    done = task(left=0.5, decodes=True)
    assert chosen([task(), done, task(left=0.6, decodes=True)], Costs()) == [done]
    assert done not in chosen([task(left=0.1), done, task()], Costs())


def test_what_was_never_done_is_told_from_what_was():
    costs = Costs()
    costs.learn(SMALL, 2, 0.4)
    assert costs.of(SMALL, 2) == 0.4 and costs.of(SMALL, 4) == pytest.approx(0.8)
    assert costs.of(LARGE, 2) == pytest.approx(1.6)
    assert costs.of(SMALL, 0) < 1e-3, "a decoding is no evaluation"
    costs.learn(SMALL, 2, 9.0)
    assert costs.of(SMALL, 2) == pytest.approx(0.42), "an outlier is no cost"
