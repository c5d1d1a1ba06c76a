"""What is told of times: learnt, kept over a restart, and a percentile that holds."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from diptych.service import pace
from diptych.service.jobs.database import Database
from diptych.service.pace import FEWEST, GUESSED, REMEMBERED, Pace


def spec(steps: int = 10, **changes: Any) -> dict[str, Any]:
    asked = {"kind": "paint", "model": "m", "width": 64, "height": 64, "guidance": 3.0}
    return {**asked, "steps": steps, **changes}


def test_the_price_is_of_the_steps_that_are_made():
    learnt = Pace()
    learnt.learn(spec(10), 2.0)
    assert learnt.price(spec(20)) == pytest.approx(4.0)
    assert learnt.price(spec(20, strength=0.5)) == pytest.approx(2.0)
    assert learnt.price(spec(20, width=128)) == pytest.approx(8.0)


@pytest.mark.parametrize("bias", [0.5, 1.0, 3.0])
def test_four_of_five_are_done_within_what_is_told(bias: float):
    """Whatever the prediction is worth: too long, right, or too short by three."""
    draw, learnt = np.random.default_rng(0), Pace()
    within = []
    for took in bias * np.exp(0.3 * draw.standard_normal(2000)):
        _, one = learnt.ended(1.0, float(took))
        within.append(one)
    assert 0.75 < np.mean(within[REMEMBERED:]) < 0.85


def test_before_enough_is_known_it_is_a_guess():
    learnt = Pace()
    for _ in range(FEWEST - 1):
        assert learnt.late == GUESSED
        learnt.ended(1.0, 1.1)
    learnt.ended(1.0, 1.1)
    assert learnt.late == pytest.approx(1.1)


def test_it_is_kept_over_a_restart():
    with closing(Database.in_memory()) as database:
        learnt = Pace()
        for i in range(REMEMBERED + 50):
            learnt.ended(1.0, 1.0 + i)
        key, _ = learnt.learn(spec(), 2.0)
        database.write_now(lambda c: pace.keep(c, learnt, key))
        again = database.read(Pace.load)
        assert again == learnt and len(again.ratios) == REMEMBERED
        assert again.late == learnt.late
