"""The engine: whatever the company, a request's pictures are what it has alone, bit for bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from diptych.engine.painting import Job, PaintingEngine
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.folders import read_text_to_image
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Begin, Painting, Request
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.text_to_image import paint
from tests.tiny_models import tiny_painter
from tests.tiny_stable_diffusion import tiny_file


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Painting:
    return read_text_to_image(tiny_painter(tmp_path_factory.mktemp("scenes")))[0]


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Painting:
    path = tiny_file(tmp_path_factory.mktemp("sd") / "tiny.safetensors")
    return TextToImage.load(str(path)).networks


def scene_requests(count: int, seed: int = 0) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(
            prompts=[draw.choice(["a red star", "two blue moons", "a large green circle"])],
            seeds=[draw.randrange(1000)],
            negative_prompt=draw.choice(["", "a red star"]),
            sampling=Sampling(
                steps=draw.randint(1, 7),
                guidance=draw.choice([1.0, 3.0, 5.5]),
                solver=draw.choice(["euler", "dpmpp-2m", "heun", "euler-ancestral", "unipc"]),
            ),
        )
        for _ in range(count)
    ]


def diffusion_requests(count: int, seed: int = 0) -> list[Request]:
    draw = random.Random(seed)
    made: list[Request] = []
    for _ in range(count):
        sampling = Sampling(
            steps=draw.randint(2, 5), guidance=draw.choice([1.0, 7.5]), shift=None,
            solver=draw.choice(["ddim", "dpmpp-2m", "euler-ancestral", "pndm"]),
            spacing=draw.choice(["leading", "karras"]),
        )  # fmt: skip
        size = draw.choice([(16, 16), (16, 16), (24, 16)])
        begin = None
        if draw.random() < 0.3:
            pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
            begin = Begin(picture=pixels, mask=pixels[:, :, 0] > 90)
        prompt = draw.choice(["a cat", "a dog " * 80, "a (red:1.4) house"])
        made.append(
            Request(
                prompts=[prompt], seeds=[draw.randrange(99)], sampling=sampling, size=size,
                begin=begin,
            )
        )  # fmt: skip
    return made


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["scenes", "diffusion"])
def test_every_request_has_the_bits_it_has_alone(request, kind: str, threads: int):
    networks = request.getfixturevalue(kind)
    asked = {"scenes": scene_requests, "diffusion": diffusion_requests}[kind](14)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        engine, draw = PaintingEngine(networks, most=6), random.Random(3)
        jobs: list[Job] = []
        while len(jobs) < len(asked) or not all(job.done for job in jobs):
            if len(jobs) < len(asked) and draw.random() < 0.7:  # some come while others are at it
                jobs.append(engine.submit(asked[len(jobs)]))
            engine.step()
        assert len({id(job) for job in jobs}) == len(asked)
        for job, one in zip(jobs, asked, strict=True):
            assert np.array_equal(job.result(), paint(networks, one))
    finally:
        torch.set_num_threads(before)


def test_the_small_painter_is_batched_without_a_changed_bit(scenes: Painting):
    """Its rows do not depend on how many there are, so exact is no slower than fast."""
    exact, fast = (PaintingEngine(scenes, exact=mode) for mode in (True, False))
    for engine in (exact, fast):
        for one in scene_requests(8):
            engine.submit(one)
        engine.run()
    print(f"evaluations a call: exact {exact.batching.occupancy:.2f}, "
          f"fast {fast.batching.occupancy:.2f}")  # fmt: skip
    assert exact.batching.occupancy > 1.5


def test_fast_is_as_near_as_rounding(diffusion: Painting):
    asked = diffusion_requests(6, seed=2)
    engine = PaintingEngine(diffusion, exact=False)
    jobs = [engine.submit(one) for one in asked]
    engine.run()
    for job, one in zip(jobs, asked, strict=True):
        apart = job.result().astype(int) - paint(diffusion, one).astype(int)
        assert abs(apart).max() <= 1


def test_one_that_fails_or_leaves_takes_nobody_with_it(scenes: Painting):
    good, other = scene_requests(2, seed=5)
    bad = Request(prompts=["a red strr"], seeds=[0], sampling=Sampling(steps=2))
    engine = PaintingEngine(scenes)
    seen: list[int] = []
    first = engine.submit(good, watch=lambda state: seen.append(state.step))
    wrong, left, last = engine.submit(bad), engine.submit(other), engine.submit(good)
    engine.step()
    left.cancel()
    engine.run()
    assert np.array_equal(first.result(), paint(scenes, good))
    assert np.array_equal(last.result(), first.result())
    assert seen == list(range(1, len(seen) + 1)) and len(seen) >= good.sampling.steps
    with pytest.raises(InvalidValue, match="'star'"):
        wrong.result()
    with pytest.raises(InvalidValue, match="cancelled"):
        left.result()
    assert not engine.active and not engine.waiting and not engine.ready


def test_a_network_that_fails_in_a_step_fails_its_own_request(scenes: Painting, monkeypatch):
    """Whose fault it is shows when each is asked alone."""
    good, bad = scene_requests(2, seed=7)
    engine = PaintingEngine(scenes)
    ask, poison = type(scenes).ask, []

    def breaks(self, x, times, asked):
        if any(one.told is bad for one in asked for bad in poison):
            raise RuntimeError("broken")
        return ask(self, x, times, asked)

    monkeypatch.setattr(type(scenes), "ask", breaks)
    jobs = [engine.submit(good), engine.submit(bad)]
    engine._admit()
    assert jobs[1].state is not None
    poison.append(jobs[1].state.told[0])
    engine.run()
    monkeypatch.undo()
    assert np.array_equal(jobs[0].result(), paint(scenes, good))
    with pytest.raises(RuntimeError, match="broken"):
        jobs[1].result()


def test_a_job_of_many_pictures(scenes: Painting):
    many = Request(
        prompts=["a red star", "two blue moons"], seeds=[3, 4], sampling=Sampling(steps=3)
    )
    engine = PaintingEngine(scenes, most=1)  # larger than the engine is: it goes alone
    job = engine.submit(many)
    with pytest.raises(InvalidValue, match="not done"):
        job.result()
    engine.run()
    assert np.array_equal(job.result(), paint(scenes, many))
    with pytest.raises(InvalidValue, match="lets nothing in"):
        PaintingEngine(scenes, most=0)


def test_the_shipped_model_is_batched_without_a_changed_bit():

    model = TextToImage.load("scenes-t2i")
    engine = PaintingEngine(model.networks)
    asked = [
        Request(prompts=["a large red circle"], seeds=[n], sampling=model.chosen(steps=2 + n))
        for n in range(4)
    ]
    jobs = [engine.submit(one) for one in asked]
    engine.run()
    for job, one in zip(jobs, asked, strict=True):
        assert np.array_equal(job.result(), paint(model.networks, one))
    print(f"evaluations a call of the shipped model: {engine.batching.occupancy:.2f}")
    assert engine.batching.occupancy > 1.5
