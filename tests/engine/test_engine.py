"""The engine of all models: bits as alone in any company, fair in time, and resumed from a file."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.engine.engine import Engine, Turn
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.resuming import finite, read_state, resumable, write_state
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.text_to_image import PaintState, paint, prepare, step
from tests.engine.test_painting import diffusion, diffusion_requests, scene_requests, scenes
from tests.tiny_models import tiny_reader

__all__ = ["diffusion", "scenes"]  # fixtures


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ImageToText:
    return ImageToText.load(str(tiny_reader(tmp_path_factory.mktemp("reader"))))


def test_models_and_shapes_in_one_engine_give_what_each_gives_alone(
    scenes: Painting, diffusion: Painting, reader: ImageToText
):
    engine, draw = Engine(most=4), random.Random(1)
    engine.add_painter("scenes", scenes)
    engine.add_painter("diffusion", diffusion)
    engine.add_reader("reader", reader.networks)
    asked = [("scenes", one) for one in scene_requests(5)]
    asked += [("diffusion", one) for one in diffusion_requests(5)]
    draw.shuffle(asked)
    jobs = []
    picture = torch.randint(256, (32, 32, 3), generator=torch.Generator().manual_seed(2))
    shown = picture.byte().numpy()
    texts = []
    for name, one in asked:
        jobs.append((engine.paint(name, one), scenes if name == "scenes" else diffusion, one))
        engine.step()
        ask = reader.networks.ask(shown, "caption")  # pyright: ignore[reportArgumentType]
        texts.append(engine.read("reader", ask))
    engine.run()
    for job, networks, one in jobs:
        assert np.array_equal(job.result(), paint(networks, one))
    alone = Engine()
    alone.add_reader("reader", reader.networks)
    first = alone.read("reader", reader.networks.ask(shown, "caption"))  # pyright: ignore[reportArgumentType]
    alone.run()
    assert all(text.answer().logprobs == first.answer().logprobs for text in texts)


def test_a_short_request_does_not_wait_for_the_whole_of_a_long_one(diffusion: Painting):
    """On a clock where every turn takes a second."""
    time = iter(range(10_000))
    engine = Engine(clock=lambda: float(next(time)))
    engine.add_painter("diffusion", diffusion)
    few, many = (Sampling(steps=steps, guidance=1, shift=None, solver="ddim", spacing="leading")
                 for steps in (2, 12))  # fmt: skip
    long = Request(prompts=["a cat"], seeds=[1], sampling=many, size=(24, 16))
    short = Request(prompts=["a cat"], seeds=[2], sampling=few, size=(16, 16))
    first = engine.paint("diffusion", long)
    for _ in range(3):
        engine.step()
    second, turns = engine.paint("diffusion", short), 0
    while not second.done:
        engine.step()
        turns += 1
    assert not first.done
    assert turns <= 2 + 1 + 1  # its evaluations and its decoding, and one turn of the other


def test_words_and_pictures_share_the_time(diffusion: Painting, reader: ImageToText):
    """Who comes late gets no more than its share, and no less."""
    taken, time = {"": 0, "reader": 0}, iter(range(10_000))

    def learn(turn: Turn) -> None:
        assert bool(turn.jobs) != bool(turn.texts)
        taken[turn.reader] += 1

    engine = Engine(clock=lambda: float(next(time)), learn=learn)
    engine.add_painter("diffusion", diffusion)
    engine.add_reader("reader", reader.networks)
    shown = np.zeros((32, 32, 3), np.uint8)
    for _ in range(3):
        engine.paint("diffusion", diffusion_requests(1)[0])
    for _ in range(3):
        engine.step()
    engine.read("reader", reader.networks.ask(shown, "caption"))  # pyright: ignore[reportArgumentType]
    before = dict(taken)
    for _ in range(4):
        engine.step()
    gained = {name: taken[name] - before[name] for name in taken}
    assert abs(gained[""] - gained["reader"]) <= 1, gained


def test_a_name_is_taken_once(scenes: Painting):
    engine = Engine()
    engine.add_painter("a", scenes)
    with pytest.raises(InvalidValue, match="already"):
        engine.add_painter("a", scenes)


@pytest.mark.parametrize("kind", ["scenes", "diffusion"])
def test_a_picture_goes_on_from_a_file_to_the_same_bits(request, kind: str, tmp_path: Path):
    networks = request.getfixturevalue(kind)
    asked = {"scenes": scene_requests, "diffusion": diffusion_requests}[kind](8, seed=9)
    for k, one in enumerate(asked):
        state = prepare(networks, one)
        with torch.inference_mode():
            for _ in range(len(state.table) // 2):
                state = step(networks, state)
        assert resumable(state) and finite(state)
        path = write_state(tmp_path / f"{k}.safetensors", state)
        engine = Engine()
        engine.add_painter(kind, networks)
        begun: list[PaintState] = []
        resumed = read_state(path, networks, one)
        job = engine.paint(kind, one, begun.append, resumed)
        engine.run()
        assert np.array_equal(job.result(), paint(networks, one))
        assert len(begun) == len(state.table) - state.step


def test_a_picture_that_only_has_to_be_decoded_goes_on(diffusion: Painting):
    request = diffusion_requests(1)[0]
    state = prepare(diffusion, request)
    while not state.done:
        state = step(diffusion, state)
    engine = _engine({"diffusion": diffusion})
    job = engine.paint("diffusion", request, state=state)
    engine.run()
    assert np.array_equal(job.result(), paint(diffusion, request))


def test_files_of_other_requests_are_refused(scenes: Painting, diffusion: Painting, tmp_path: Path):
    path = write_state(tmp_path / "a.safetensors", prepare(scenes, scene_requests(1)[0]))
    with pytest.raises(Unreadable, match="another request"):
        read_state(path, diffusion, diffusion_requests(1)[0])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(Unreadable, match="no picture"):
        read_state(path, scenes, scene_requests(1)[0])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_ten_mixes_with_joins_cancels_and_restarts(
    scenes: Painting, diffusion: Painting, tmp_path: Path, part: int
):
    """Whatever the company, and after the end of the engine: the bits of each request alone."""
    networks = {"scenes": scenes, "diffusion": diffusion}
    for mix in range(10 * part, 10 * part + 10):
        draw = random.Random(mix)
        asked = [("scenes", one) for one in scene_requests(3, seed=mix)]
        asked += [("diffusion", one) for one in diffusion_requests(3, seed=mix)]
        draw.shuffle(asked)
        engine, jobs = _engine(networks), []
        for name, one in asked:
            jobs.append([name, one, engine.paint(name, one)])
            for _ in range(draw.randrange(3)):
                engine.step()
        given_up = draw.choice(jobs)
        given_up[2].cancel()
        # The engine dies: what was written down goes on in another, the rest begins again.
        again = _engine(networks)
        for k, (name, one, job) in enumerate(jobs):
            if job.done:
                continue
            state = None
            if job.state is not None and draw.random() < 0.7:
                path = write_state(tmp_path / f"{mix}.{k}.safetensors", job.state)
                state = read_state(path, networks[name], one)
            jobs[k][2] = again.paint(name, one, state=state)
        again.run()
        for name, one, job in jobs:
            if not job.cancelled:
                assert np.array_equal(job.result(), paint(networks[name], one)), (mix, name)


def _engine(networks: dict[str, Painting]) -> Engine:
    engine = Engine(most=4)
    for name, one in networks.items():
        engine.add_painter(name, one)
    return engine
