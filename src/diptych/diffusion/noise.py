"""Standard normal noise by (seed, step, stream): a row does not know its neighbours, and may go
on at any step, for nothing is carried along. Two sources of float32 numbers (a float64 batch
takes the same):

- `torch`: PyTorch's CPU generator. The first latent is what `manual_seed(seed)` and the shape
  [1, C, H, W] give everywhere; later draws are seeded by a mix of the three integers. This
  generator reads the low 32 bits of a seed alone: seeds 2**32 apart share their first latent.
  Its bits hold for one build and kind of CPU; below 16 numbers it draws in another way.
- `philox`: Philox4x32-10 (Salmon et al., 2011), then Box and Muller in float64. It reads all 64
  bits and gives one answer on every machine, but where libraries that differ in the last of 53
  bits round to either side: fewer than one number in 10**8, by the last of its 24 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, pi, prod

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue, unknown
from diptych.foundation.randomness import mix

FIRST = 0  # the stream of the first latent
_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
Address = tuple[int, int, int]  # the seed, step and stream of a row
Device = torch.device | str


def first_noise(
    seeds: Sequence[int], shape: tuple[int, ...], source: str = "torch", device: Device = "cpu"
) -> Tensor:
    """The first latents [len(seeds), *shape]. Seeds are 0..2**64-1. Raises InvalidValue for
    another seed, NotFound for an unknown source."""
    return _drawn([(seed, 0, FIRST) for seed in seeds], shape, source, device)


def step_noise(
    seeds: Sequence[int], step: int | Sequence[int], shape: tuple[int, ...],
    source: str = "torch", stream: int = 1, device: Device = "cpu",
) -> Tensor:  # fmt: skip
    """Fresh noise [len(seeds), *shape] for one step, or for a step a row. `stream` (above 0)
    sets apart what is drawn for several purposes in a step. Raises as `first_noise` does."""
    if stream == FIRST:
        raise ValueError("stream 0 is the first latent's")
    steps = [step] * len(seeds) if isinstance(step, int) else step
    rows = [(seed, at, stream) for seed, at in zip(seeds, steps, strict=True)]
    return _drawn(rows, shape, source, device)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Four words of 32 bits from four (`counter`) under two (`key`), in int64 tensors that
    broadcast. Products wrap in int64; their bits stay right."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = (right >> 32) & _LOW ^ b ^ k, right & _LOW
        c, d = (left >> 32) & _LOW ^ d ^ m, left & _LOW
        k, m = (k + _WEYL[0]) & _LOW, (m + _WEYL[1]) & _LOW
    return a, b, c, d


def _of_torch(rows: Sequence[Address], shape: tuple[int, ...], device: Device) -> Tensor:
    seeds = [row[0] if row[2] == FIRST else mix(*row) for row in rows]
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(device)


def _of_philox(rows: Sequence[Address], shape: tuple[int, ...], device: Device) -> Tensor:
    """The key is the seed's halves, the counter (element // 4, step, stream, 0)."""
    words = torch.tensor([(seed & _LOW, seed >> 32, *rest) for seed, *rest in rows], device=device)
    low, high, step, stream = words[:, :, None].unbind(1)  # [B, 1] each
    block = torch.arange(ceil(prod(shape) / 4), device=device)
    drawn = philox((block, step, stream, torch.zeros_like(block)), (low, high))
    a, b, c, d = ((word.double() + 0.5) / 2**32 for word in drawn)  # never 0, never 1
    normal = [(-2 * u.log()).sqrt() * wave(2 * pi * v)
              for u, v in ((a, b), (c, d)) for wave in (torch.cos, torch.sin)]  # fmt: skip
    flat = torch.stack(normal, -1).flatten(1)[:, : prod(shape)]
    return flat.float().view(len(rows), *shape)


Source = Callable[[Sequence[Address], tuple[int, ...], Device], Tensor]
SOURCES: dict[str, Source] = {"torch": _of_torch, "philox": _of_philox}


def _drawn(rows: list[Address], shape: tuple[int, ...], source: str, device: Device) -> Tensor:
    if source not in SOURCES:
        raise unknown("source of noise", source, SOURCES)
    for seed, *rest in rows:
        if not (0 <= seed < 2**64 and all(0 <= number <= _LOW for number in rest)):
            raise InvalidValue(f"No noise has the seed {seed}.", do="Choose 0 to 2**63 - 1.")
    return SOURCES[source](rows, shape, device)
