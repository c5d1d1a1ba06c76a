"""Eight questions about one picture, beside transformers with the same weights.

    python -m benchmarks.i2t_prefix

One thread, CPU time, all in one process and in turn: `generate` on the batch, `generate` one by
one, ours when the picture is new, and when its beginning is kept. 16 tokens each. Ratios are theirs
over ours, the median of the rounds with the lowest and the highest. `exact` gives each answer the
bits it has alone; `fast` lets the questions share calls. Ends with 1 where a ratio is missed, or
where words differ.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.i2t_models import ROWS, SIZES, ours_of, peer
from benchmarks.t2i_single import timed
from diptych.decoding.choices import Decoding
from diptych.decoding.prefixes import PrefixStore
from diptych.foundation.memory import keep_freed_memory
from diptych.pipelines.asking import answered
from diptych.pipelines.reading import Ask, Prompt, Rows

QUESTIONS, TOKENS = 8, 16
# size, rounds, ratios held to: over the batch, over the loop, over the loop when kept
CASES = [("0.4M", 5, 3.0, 5.0, 5.0), ("7M", 4, 3.0, 5.0, 5.0), ("50M", 2, 3.0, 5.0, 4.0)]


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    missed = 0
    print(
        f"{'size':<6}{'mode':<7}{'ours ms':>9}{'kept ms':>9}  batch/ours   loop/ours   batch/kept"
    )
    for case in CASES:
        missed += not run(*case)
    return 1 if missed else 0


def run(name: str, rounds: int, batch: float, loop: float, kept: float) -> bool:
    """The lines of a size; whether its ratios hold in the better mode."""
    size = SIZES[name]
    theirs = peer(size)
    network, reading = ours_of(theirs)
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, 224, 224, generator=draw)
    questions = [
        torch.randint(5, size.vocabulary, (5 + i % 8,), generator=draw).tolist()
        for i in range(QUESTIONS)
    ]
    said: dict[str, list[list[int]]] = {}

    def of_peer(rows: list[list[int]]) -> list[list[int]]:
        longest = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (longest - len(row)) + [1] + [3] * ROWS + row for row in rows])
        return theirs.generate(
            input_ids=ids, attention_mask=(ids != 0).long(),
            pixel_values=pixels.expand(len(rows), -1, -1, -1), max_new_tokens=TOKENS,
            do_sample=False,
        )[:, ids.shape[1] :].tolist()  # fmt: skip

    def prefix() -> Rows:
        words = reading.words([1] + [3] * ROWS)
        with torch.inference_mode():
            seen = network.look(pixels)[0]
        return Rows(torch.cat([words.rows[:1], seen]), words.places, words.following)

    def of_ours(store: PrefixStore, exact: bool) -> list[list[int]]:
        asks = [
            Ask(Prompt(b"picture", prefix, reading.words(row, ROWS + 1)), Decoding(most=TOKENS))
            for row in questions
        ]
        found = answered(reading, asks, store=store, exact=exact)
        return [list(answer.tokens) for answer in found]

    def keeping(name: str, make: Callable[[], list[list[int]]]) -> Callable[[], None]:
        def once() -> None:
            said[name] = make()

        return once

    warm = PrefixStore()
    took = timed(
        {
            "batch": keeping("batch", lambda: of_peer(questions)),
            "loop": keeping("loop", lambda: [of_peer([row])[0] for row in questions]),
            "exact": keeping("exact", lambda: of_ours(PrefixStore(), True)),
            "exact kept": keeping("exact kept", lambda: of_ours(warm, True)),
            "fast": keeping("fast", lambda: of_ours(PrefixStore(), False)),
            "fast kept": keeping("fast kept", lambda: of_ours(warm, False)),
        },
        rounds,
    )
    held = False
    for mode in ("exact", "fast"):
        over = [
            ratios(took["batch"], took[mode]), ratios(took["loop"], took[mode]),
            ratios(took["batch"], took[f"{mode} kept"]),
        ]  # fmt: skip
        print(
            f"{name:<6}{mode:<7}{median(took[mode]):9.0f}{median(took[f'{mode} kept']):9.0f}  "
            + "   ".join(f"{median(one):.2f} ({min(one):.2f}..{max(one):.2f})" for one in over),
            flush=True,
        )
        floors = zip(over, (batch, loop, kept), strict=True)
        held = held or all(median(one) >= floor for one, floor in floors)
    same = all(rows == said["loop"] for rows in said.values())
    if not same:
        print(f"{name:<6}words differ")
    return held and same


def ratios(theirs: list[float], ours: list[float]) -> list[float]:
    """Of each round."""
    return [a / b for a, b in zip(theirs, ours, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
