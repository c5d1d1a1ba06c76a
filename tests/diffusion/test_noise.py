"""Noise by address: published vectors, a second implementation, moments, who is beside whom."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diptych.diffusion.noise import SOURCES, first_noise, philox, step_noise
from diptych.foundation.errors import InvalidValue, NotFound

SEEDS = [0, 7, 2**32 + 7, 2**63 - 1]


# Random123 1.14, kat_vectors, philox4x32-10: counter, key, answer.
@pytest.mark.parametrize(
    "counter, key, answer",
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_published_vectors(counter: str, key: str, answer: str):
    words = [[torch.tensor([int(word, 16)]) for word in text.split()] for text in (counter, key)]
    assert " ".join(f"{int(word):08x}" for word in philox(*words)) == answer.strip()


def second_philox(seed: int, step: int, stream: int, count: int) -> NDArray[np.float32]:
    """The same numbers in NumPy, from the papers: unsigned words, one row."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    c = [blocks, *(np.full_like(blocks, word) for word in (step, stream, 0))]
    k0, k1, low = seed % 2**32, seed // 2**32, np.uint64(2**32 - 1)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low,
        ]  # fmt: skip
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    u = [(word.astype(np.float64) + 0.5) / 2**32 for word in c]
    out = np.empty((len(blocks), 4))
    for column, radius, angle in ((0, u[0], u[1]), (2, u[2], u[3])):
        length = np.sqrt(-2 * np.log(radius))
        out[:, column] = length * np.cos(2 * np.pi * angle)
        out[:, column + 1] = length * np.sin(2 * np.pi * angle)
    return out.ravel()[:count].astype(np.float32)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (4, 64, 64)])
def test_philox_is_the_second_implementation_bit_for_bit(shape: tuple[int, ...]):
    count, steps = int(np.prod(shape)), [3, 0, 999, 2**32 - 1]
    drawn = step_noise(SEEDS, steps, shape, "philox", stream=5)
    for row, seed, step in zip(drawn, SEEDS, steps, strict=True):
        assert np.array_equal(row.flatten().numpy(), second_philox(seed, step, 5, count))
    first = first_noise([SEEDS[3]], shape, "philox")
    assert np.array_equal(first.flatten().numpy(), second_philox(SEEDS[3], 0, 0, count))


@pytest.mark.parametrize("shape", [(2, 3), (4, 8, 8), (3, 7, 5)])
def test_the_first_latent_is_what_users_know(shape: tuple[int, ...]):
    for seed, row in zip(SEEDS, first_noise(SEEDS, shape), strict=True):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(row[None], torch.randn(1, *shape, generator=generator))


@pytest.mark.parametrize("source", SOURCES)
def test_moments_and_independence(source: str):
    drawn = first_noise(range(100, 164), (4096,), source).double()
    count = drawn.numel()
    # In units of the standard error of each moment under the normal distribution.
    errors = [
        float((drawn**power).mean() - moment) * (count / variance) ** 0.5
        for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96))
    ]
    assert max(map(abs, errors)) < 4
    kinds = [drawn[0]]
    for seed, step, stream in ((100, 0, 1), (100, 1, 1), (100, 0, 2), (101, 1, 1)):
        kinds.append(step_noise([seed], step, (4096,), source, stream)[0].double())
    related = torch.corrcoef(torch.stack(kinds)) - torch.eye(5).double()
    assert float(related.abs().max()) < 4 / 4096**0.5
    assert float(drawn[:, :8].T.corrcoef()[0, 1:].abs().max()) < 4 / 64**0.5  # neighbours in a row


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_does_not_know_its_neighbours(source: str):
    steps, shape = [0, 4, 4, 31], (3, 4, 5)
    together = step_noise(SEEDS, steps, shape, source)
    order = [2, 0, 3]
    moved = step_noise([SEEDS[i] for i in order], [steps[i] for i in order], shape, source)
    assert torch.equal(moved, together[order])
    assert torch.equal(together[1], step_noise([SEEDS[1]], 4, shape, source)[0])
    assert torch.equal(
        first_noise(SEEDS, shape, source)[3], first_noise(SEEDS[3:], shape, source)[0]
    )
    assert len(torch.unique(together.flatten(1), dim=0)) == len(SEEDS)


def test_seeds_of_64_bits():
    """Why philox reads all bits: the CPU generator does not."""
    low, high = first_noise([7], (64,)), first_noise([2**32 + 7], (64,))
    assert torch.equal(low, high)
    assert not torch.equal(step_noise([7], 0, (64,)), step_noise([2**32 + 7], 0, (64,)))
    assert not torch.equal(
        first_noise([7], (64,), "philox"), first_noise([2**32 + 7], (64,), "philox")
    )
    for source in SOURCES:
        assert torch.isfinite(first_noise([2**64 - 1], (64,), source)).all()


def test_what_cannot_be_drawn_is_refused():
    for seed in (-1, 2**64):
        with pytest.raises(InvalidValue, match=r"2\*\*63 - 1"):
            first_noise([seed], (4,))
    with pytest.raises(NotFound, match="philox"):
        first_noise([1], (4,), "filox")
    with pytest.raises(ValueError, match="first latent"):
        step_noise([1], 0, (4,), stream=0)
    with pytest.raises(ValueError, match="zip"):
        step_noise([1, 2], [0], (4,))


DIGEST = """
import hashlib, torch
from diptych.diffusion.noise import first_noise
drawn = first_noise([1, 2**40], (4, 64, 64), "philox")
print(torch.backends.cpu.get_cpu_capability(), hashlib.sha256(drawn.numpy().tobytes()).hexdigest())
"""


def test_philox_has_the_same_bits_whatever_the_processor_can_do():
    said: dict[str, str] = {}
    for level in ("default", "avx2"):
        run = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "ATEN_CPU_CAPABILITY": level, "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        name, digest = run.stdout.split()
        said[name] = digest
    assert "DEFAULT" in said and len(set(said.values())) == 1
