"""A step that half precision spoils is made once more in float32; one that stays spoilt is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.engine.painting import Job, PaintingEngine
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.resuming import finite
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.text_to_image import paint
from tests.tiny_stable_diffusion import tiny_file

ILL = 7  # the seed of the picture that is spoilt


class Spoilt:
    """Networks that say no number of the picture of seed ILL in a step; in float32 they do unless
    they `stay`. `asked`: in which dtype."""

    def __init__(self, networks: Painting, stays: bool = False):
        self.networks, self.stays, self.asked = networks, stays, list[torch.dtype]()
        self.ill: object = None  # what is told of it

    def __getattr__(self, name: str):
        return getattr(self.networks, name)

    def ask(self, x: torch.Tensor, times: torch.Tensor, asked: Sequence):
        self.asked.append(self.networks.dtype)
        said = self.networks.ask(x, times, asked)
        if self.stays or self.networks.dtype != torch.float32:
            for i, one in enumerate(asked):
                if one.number == 1 and one.told is self.ill:
                    said[i] = torch.inf
        if self.stays and self.networks.dtype == torch.float32:
            said[:] = torch.nan
        return said


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Painting:
    path: Path = tiny_file(tmp_path_factory.mktemp("sd") / "tiny.safetensors")
    return TextToImage.load(str(path), dtype="bfloat16").networks


def requests() -> list[Request]:
    sampling = Sampling(steps=3, guidance=2.0, shift=None, solver="ddim", spacing="leading")
    return [
        Request(prompts=["a cat"], seeds=[seed], sampling=sampling, size=(24, 16))
        for seed in (1, ILL, 2)
    ]


def run(half: Painting, stays: bool = False, count: int = 3) -> tuple[Spoilt, list[Job]]:
    spoilt = Spoilt(half, stays)
    engine = PaintingEngine(spoilt)  # pyright: ignore[reportArgumentType]

    def watch(state) -> None:  # as the worker does
        if not finite(state):
            jobs[1 if count == 3 else 0].error = ValueError("not finite")

    asked = requests() if count == 3 else requests()[1:2]
    jobs = [engine.submit(one, watch) for one in asked]
    engine._admit()
    spoilt.ill = next(job.state.told[0] for job in jobs if job.request.seeds == [ILL])
    engine.run()
    return spoilt, jobs


def test_the_step_is_made_in_float32_and_the_others_keep_their_bits(half: Painting):
    weights = [one.clone() for module in half.modules() for one in module.parameters()]
    spoilt, jobs = run(half)
    alone = run(half, count=1)[1][0]
    for job, one in zip(jobs, requests(), strict=True):
        whole = paint(half, one)
        if job is jobs[1]:
            apart = np.abs(job.result().astype(int) - whole.astype(int)).max()
            assert 0 < apart < 30, "painted on, by a step of more precision"
            assert np.array_equal(job.result(), alone.result()), "the same in any company"
        else:
            assert np.array_equal(job.result(), whole)
    assert spoilt.asked.count(torch.float32) == 1, "one step of one picture"
    after = [one for module in half.modules() for one in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))
    assert {one.dtype for one in after} == {torch.bfloat16}


def test_what_stays_no_number_fails_by_itself(half: Painting):
    spoilt, jobs = run(half, stays=True)
    with pytest.raises(ValueError, match="not finite"):
        jobs[1].result()
    assert all(np.array_equal(jobs[k].result(), paint(half, requests()[k])) for k in (0, 2))
    assert spoilt.asked.count(torch.float32) == 1, "once more, and not for ever"
