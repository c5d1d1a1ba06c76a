"""BLEU-4 of a corpus: how many of its runs of words stand in the references (Papineni et al.,
2002)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, log

from diptych.metrics.cider import LONGEST, Words, grams


def bleu(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """0..1: the geometric mean of the clipped precisions of 1- to 4-grams over the whole corpus,
    times the penalty of captions shorter than their nearest references. 0 where a precision is 0.
    Raises ValueError for another number of captions."""
    right, made = [0] * LONGEST, [0] * LONGEST
    mine = theirs = 0
    for words, some in zip(said, references, strict=True):
        most: Counter[tuple] = Counter()
        for one in some:
            most |= grams(one)
        for gram, count in grams(words).items():
            made[len(gram) - 1] += count
            right[len(gram) - 1] += min(count, most[gram])
        mine += len(words)
        theirs += min((abs(len(one) - len(words)), len(one)) for one in some)[1]
    if not all(right):
        return 0.0
    precision = sum(log(r / m) for r, m in zip(right, made, strict=True)) / LONGEST
    return exp(precision + min(0.0, 1 - theirs / mine))
