"""Requests with other adapters share calls of one network, and each has the bits it has alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from diptych.adapters.adapter import Weighted
from diptych.engine.painting import PaintingEngine
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Extras, Request
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.stable_diffusion import StableDiffusionNetworks
from diptych.pipelines.text_to_image import paint
from tests.tiny_adapters import tiny_adapter
from tests.tiny_stable_diffusion import tiny_file


def test_each_has_the_bits_it_has_alone(tmp_path: Path):
    networks = TextToImage.load(str(tiny_file(tmp_path / "tiny.safetensors"))).networks
    assert isinstance(networks, StableDiffusionNetworks)
    soft, mixed = (
        tiny_adapter(networks.components(), kinds, seed=seed, dtype=torch.float32)
        for seed, kinds in enumerate([("lora",), ("lora", "loha", "dora", "full")])
    )
    sets: list[Weighted] = [[], [(soft, 0.2)], [(mixed, 0.1)], [(soft, -0.1), (mixed, 0.1)], []]
    plain = Request(
        prompts=["a cat"], seeds=[1], size=(16, 16),
        sampling=Sampling(steps=3, guidance=7.5, shift=None, solver="ddim", spacing="leading"),
    )  # fmt: skip
    asked = [
        replace(plain, seeds=[i // 2], extras=Extras(loras=(weighted,) if weighted else ()))
        for i, weighted in enumerate(sets)
    ]
    alone = [paint(networks, request) for request in asked]
    engine = PaintingEngine(networks)
    jobs = [engine.submit(request) for request in asked]
    engine.run()
    assert all(np.array_equal(job.result(), one) for job, one in zip(jobs, alone, strict=True))
    assert engine.batching.occupancy > 2
    assert not np.array_equal(alone[0], alone[1])
