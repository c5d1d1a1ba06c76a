"""Words alone beside `generate` of transformers with the same weights.

    python -m benchmarks.i2t_decode [layouts]

A prompt of 16 tokens and 64 new ones, one thread, CPU time, in turn; ratios are tokens a second,
ours over theirs, the median of the rounds with the lowest and the highest. `exact` gives each text
the bits it has alone in any company. With `layouts`: one product, its weights laid as (out, in) and
as (in, out), by rows. Ends with 1 where a ratio is missed, or where words differ.
"""

from __future__ import annotations

import sys
import warnings
from statistics import median
from time import process_time
from typing import Any

import torch
from torch.nn.functional import linear

from benchmarks.i2t_models import SIZES, ours_of, peer
from benchmarks.i2t_prefix import ratios
from benchmarks.t2i_single import timed
from diptych.decoding.choices import Decoding
from diptych.foundation.memory import keep_freed_memory
from diptych.pipelines.asking import answered
from diptych.pipelines.reading import Ask, Prompt

PROMPT, TOKENS = 16, 64
# size, rounds, ratios held to: one text, eight, five beams
CASES = [("0.4M", 5, 3.0, 1.0, 1.3), ("7M", 4, 1.8, 1.0, 1.3), ("50M", 2, 1.4, 1.0, 1.3)]


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    if "layouts" in sys.argv:
        return layouts()
    missed = 0
    print(f"{'size':<6}{'texts':>6}{'beams':>6}{'mode':>7}{'tokens/s':>10}  ours / theirs")
    for case in CASES:
        missed += not run(*case)
    return 1 if missed else 0


def run(name: str, rounds: int, one: float, eight: float, beams: float) -> bool:
    """The lines of a size; whether its ratios hold in the better mode."""
    size = SIZES[name]
    theirs = peer(size)
    _, reading = ours_of(theirs)
    draw = torch.Generator().manual_seed(2)
    ids = torch.randint(5, size.vocabulary, (8, PROMPT), generator=draw)
    held = True
    for texts, width, floor in ((1, 1, one), (8, 1, eight), (1, 5, beams)):
        rows = ids[:texts]
        said: dict[str, list[list[int]]] = {}

        def of_peer(rows: Any = rows, width: int = width, said: Any = said) -> None:
            out = theirs.generate(
                input_ids=rows, attention_mask=torch.ones_like(rows), max_new_tokens=TOKENS,
                do_sample=False, num_beams=width,
            )  # fmt: skip
            said["theirs"] = out[:, PROMPT:].tolist()

        def of_ours(exact: bool, rows: Any = rows, width: int = width, said: Any = said) -> None:
            nothing = reading.words([])
            asks = [
                Ask(
                    Prompt(b"", lambda: nothing, reading.words(row)),
                    Decoding(most=TOKENS, beams=width),
                )
                for row in rows.tolist()
            ]
            answers = answered(reading, asks, exact=exact)
            said["exact" if exact else "fast"] = [list(answer.tokens) for answer in answers]

        took = timed(
            {"theirs": of_peer, "fast": lambda: of_ours(False), "exact": lambda: of_ours(True)},
            rounds,
        )
        for mode in ("fast", "exact"):
            over = ratios(took["theirs"], took[mode])
            rate = 1000 * texts * TOKENS / median(took[mode])
            print(
                f"{name:<6}{texts:>6}{width:>6}{mode:>7}{rate:10.0f}  {median(over):.2f} "
                f"({min(over):.2f}..{max(over):.2f})",
                flush=True,
            )
        held = held and median(ratios(took["theirs"], took["fast"])) >= floor
        if len({str(rows) for rows in said.values()}) > 1:
            print(f"{name:<6}words differ")
            held = False
    return held


def layouts() -> int:
    """Microseconds of a product by the way its weights are laid."""
    print(f"{'in':>6}{'out':>7}{'rows':>6}{'(out, in)':>11}{'(in, out)':>11}  ratio")
    for inputs, outputs in ((96, 288), (288, 1536), (576, 3072), (1536, 576), (576, 16_000)):
        weight = torch.randn(outputs, inputs)
        laid = weight.T.contiguous()
        for rows in (1, 4, 8):
            x = torch.randn(rows, inputs)
            tall = fastest(lambda x=x, w=weight: linear(x, w))
            wide = fastest(lambda x=x, w=laid: torch.mm(x, w))
            print(
                f"{inputs:>6}{outputs:>7}{rows:>6}{tall:11.1f}{wide:11.1f}  {wide / tall:.2f}",
                flush=True,
            )
    return 0


def fastest(call: Any) -> float:
    """Microseconds of the fastest of some runs."""
    took = list[float]()
    for _ in range(9):
        start = process_time()
        for _ in range(20):
            call()
        took.append((process_time() - start) / 20 * 1e6)
    return min(took)


if __name__ == "__main__":
    sys.exit(main())
