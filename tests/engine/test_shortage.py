"""Too little memory, and steps that are no numbers: who is alone fails of it, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from diptych.engine.batching import out_of_memory
from diptych.engine.painting import PaintingEngine
from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.text_to_image import paint
from tests.engine.test_painting import diffusion, scene_requests, scenes

__all__ = ["diffusion", "scenes"]  # fixtures


class Narrow:
    """Networks with memory for so many evaluations a call; what is asked is spoilt first, as by a
    network that keeps things of a picture. `calls`: rows of those that had room."""

    def __init__(self, networks: Painting, room: int):
        self.networks, self.room, self.calls = networks, room, list[int]()
        self.refused = list[int]()

    def __getattr__(self, name: str):
        return getattr(self.networks, name)

    def ask(self, x: torch.Tensor, times: torch.Tensor, asked: Sequence):
        assert not any(one.name in one.kept for one in asked), "a step is done again from its start"
        for one in asked:
            one.kept[one.name] = True
        if len(x) > self.room:
            self.refused.append(len(x))
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        self.calls.append(len(x))
        said = self.networks.ask(x, times, asked)
        for one in asked:
            del one.kept[one.name]
        return said


def requests(count: int, guidance: float, size: tuple[int, int] = (16, 16)) -> list[Request]:
    sampling = Sampling(
        steps=3, guidance=guidance, shift=None, solver="ddim", spacing="leading"
    )  # fmt: skip
    return [
        Request(prompts=["a cat"], seeds=[n], sampling=sampling, size=size) for n in range(count)
    ]


@pytest.mark.parametrize(("guidance", "room"), [(1.0, 3), (1.0, 1), (7.5, 2), (7.5, 5)])
def test_a_step_that_memory_has_no_room_for_is_done_in_smaller_parts(
    diffusion: Painting, guidance: float, room: int
):
    narrow = Narrow(diffusion, room)
    engine = PaintingEngine(narrow, most=8)  # pyright: ignore[reportArgumentType]
    asked = requests(8, guidance)
    jobs = [engine.submit(one) for one in asked]
    engine.run()
    for job, one in zip(jobs, asked, strict=True):
        assert np.array_equal(job.result(), paint(diffusion, one))
    assert max(narrow.calls) <= room
    # Known from then on: each cap is learnt once, whatever is asked after.
    refused = len(narrow.refused)
    assert refused <= 4
    again = engine.submit(asked[0]), engine.submit(asked[1])
    engine.run()
    assert all(job.result() is not None for job in again) and len(narrow.refused) == refused


def test_only_the_shape_is_capped_that_was_too_much(diffusion: Painting):
    narrow = Narrow(diffusion, 8)
    engine = PaintingEngine(narrow, exact=False)  # pyright: ignore[reportArgumentType]
    narrow.room = 3
    for one in requests(4, 1.0):
        engine.submit(one)
    engine.run()
    assert engine.batching.cap((4, 8, 8)) == 2 and engine.batching.cap((4, 8, 12)) == 8
    assert narrow.refused == [4] and max(narrow.calls) == 2


def test_alone_it_fails_and_the_others_go_on(diffusion: Painting):
    """A guided one asks for two at once, one by itself for one."""
    narrow = Narrow(diffusion, 1)
    engine = PaintingEngine(narrow)  # pyright: ignore[reportArgumentType]
    plain, guided = requests(3, 1.0), requests(2, 7.5)
    jobs = [engine.submit(one) for one in (*plain, *guided)]
    engine.run()
    for job, one in zip(jobs, plain, strict=False):
        assert np.array_equal(job.result(), paint(diffusion, one))
    for job in jobs[3:]:
        assert job.error is not None and out_of_memory(job.error)
    assert not engine.active and not engine.ready


def test_a_picture_of_many_fails_of_memory_only_where_it_must(scenes: Painting):
    """Exactly it cannot be parted; fast it can."""
    many = Request(prompts=["a red star"] * 4, seeds=[1, 2, 3, 4], sampling=Sampling(steps=2))
    for exact in (True, False):
        engine = PaintingEngine(Narrow(scenes, 2), exact=exact)  # pyright: ignore[reportArgumentType]
        job, other = engine.submit(many), engine.submit(scene_requests(1)[0])
        engine.run()
        assert (job.error is not None) == exact and other.error is None


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_said_of_too_little_memory(error: Exception, short: bool):
    assert out_of_memory(error) == short
