"""What packed convolution weights win or lose, by kernel, channels and size.

    python -m benchmarks.packed_convolutions

One thread, CPU time, two rows, both in one process and in turn; packed over plain, the median of
the rounds with the lowest and the highest. `nn/packing.py` packs where it wins.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time_ns

import torch
from torch import Tensor

from diptych.foundation.memory import keep_freed_memory

ROWS, ROUNDS = 2, 5
CHANNELS = ((32, 32), (128, 128), (320, 320), (640, 640), (1280, 1280))
SIZES = (8, 16, 32, 64)
MOST = 12e9  # multiplications and additions that a case may have


def milliseconds(run: Callable[[], Tensor], times: int) -> float:
    start = process_time_ns()
    for _ in range(times):
        run()
    return (process_time_ns() - start) / 1e6 / times


def case(kernel: int, into: int, out: int, size: int) -> str:
    """A line of the table."""
    weight, bias = torch.randn(out, into, kernel, kernel) * 0.02, torch.randn(out)
    x, edge = torch.randn(ROWS, into, size, size), (kernel // 2, kernel // 2)
    packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(
        weight.to_mkldnn(), edge, (1, 1), (1, 1), 1
    )

    def plain() -> Tensor:
        return torch.conv2d(x, weight, bias, padding=edge)

    def other() -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed, bias, edge, (1, 1), (1, 1), 1, "none", [], ""
        )

    times = max(1, min(200, int(1e9 / _operations(kernel, into, out, size))))
    milliseconds(plain, 1), milliseconds(other, 1)
    pairs = [(milliseconds(plain, times), milliseconds(other, times)) for _ in range(ROUNDS)]
    ratios = [b / a for a, b in pairs]
    return (
        f"{kernel} x {kernel}  {into:>5} to {out:<5} {size:>3} cells  plain "
        f"{median(a for a, _ in pairs):8.3f} ms  packed {median(ratios):5.2f} "
        f"({min(ratios):.2f}..{max(ratios):.2f})"
    )


def _operations(kernel: int, into: int, out: int, size: int) -> float:
    return 2.0 * ROWS * size * size * into * out * kernel * kernel


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    with torch.no_grad():
        for kernel in (3, 1):
            for into, out in CHANNELS:
                for size in SIZES:
                    if _operations(kernel, into, out, size) <= MOST:
                        print(case(kernel, into, out, size), flush=True)


if __name__ == "__main__":
    main()
