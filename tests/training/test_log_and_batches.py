"""The log holds each step once; batches come in order whoever prepares them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from diptych.training.batches import batches
from diptych.training.curve import draw_curve, smoothed
from diptych.training.log import Log, Means, finite, read


def test_lines_of_a_try_that_was_not_saved_are_taken_back(tmp_path: Path):
    log = Log(tmp_path, 0)
    for step in (1, 2, 3, 4):
        log.write(step, {"loss": step / 10})
    log.path.write_text(log.path.read_text() + '{"step": 5, "lo')  # killed while writing
    again = Log(tmp_path, 2)
    again.write(3, {"loss": 0.5})
    assert [(line["step"], line["loss"]) for line in read(tmp_path)] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.5),
    ]


def test_means_survive_being_saved():
    whole, first = Means(), Means()
    for value in (0.1, 0.7, 0.4):
        whole.add({"loss": value})
    first.add({"loss": 0.1})
    second = Means(first.state)
    second.add({"loss": 0.7})
    second.add({"loss": 0.4})
    assert second.take() == whole.take()
    assert second.count == 0 and second.sums == {}


def test_numbers_that_json_cannot_say_become_null():
    assert finite({"a": 1.5, "b": float("nan"), "c": float("inf")}) == {
        "a": 1.5,
        "b": None,
        "c": None,
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_order_of_their_indices(workers: int):
    made = list(batches(lambda i: (i, os.getpid()), range(3, 30, 2), workers=workers))
    assert [index for index, _ in made] == list(range(3, 30, 2))
    makers = {maker for _, maker in made}
    assert len(makers) == max(workers, 1) and (os.getpid() in makers) == (workers == 0)


def test_smoothing_keeps_the_ends_and_a_straight_line():
    line = [0.5 * i for i in range(200)]
    assert smoothed(line) == pytest.approx(line)
    noisy = [1.0 + (-1) ** i for i in range(200)]
    assert max(smoothed(noisy)[20:-20]) < 1.2


def test_the_curve_is_drawn_once_there_are_two_points(tmp_path: Path):
    log = Log(tmp_path, 0)
    log.write(1, {"loss": 2.0})
    assert draw_curve(tmp_path) is None
    log.write(2, {"loss": 1.0})
    log.write(2, {"probe": "samples", "right": 0.5})
    path = draw_curve(tmp_path)
    assert path is not None
    with Image.open(path) as picture:
        assert picture.width > 400
