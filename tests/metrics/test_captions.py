"""CIDEr-D and BLEU against the formulas written once more, densely, and what must hold of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from diptych.metrics.bleu import bleu
from diptych.metrics.cider import Frequencies, cider, mean_cider, weighed

CORPUS = [
    (["a", "red", "star"], ["there", "is", "a", "red", "star"], ["a", "large", "red", "star"]),
    (["two", "blue", "moons", "and", "a", "red", "cross"], ["a", "red", "cross", "a", "b", "c"]),
    (["a", "green", "star", "on", "a", "mint", "ground"], ["a", "green", "star"]),
]
SAID = [
    ["a", "red", "red", "red", "star"],
    ["two", "blue", "moons", "and", "a", "pink", "cross"],
    ["a", "red", "star"],
]


def dense(said: list[str], references: tuple[list[str], ...], n: int) -> float:
    """Equation of section 6 for one n, over all n-grams of the corpus' words as axes."""
    words = sorted({word for some in CORPUS for one in some for word in one} | {"pink"})
    axes = [gram for gram in product(words, repeat=n) if counted(gram)]
    idf = np.array([np.log(len(CORPUS) / max(1, holding(gram))) for gram in axes])
    mine = idf * [occurrences(said, gram) for gram in axes]
    values = []
    for reference in references:
        theirs = idf * [occurrences(reference, gram) for gram in axes]
        length = np.linalg.norm(mine) * np.linalg.norm(theirs)
        penalty = np.exp(-((len(said) - len(reference)) ** 2) / (2 * 6.0**2))
        values.append(penalty * np.minimum(mine, theirs) @ theirs / length if length else 0.0)
    return 10 * float(np.mean(values))


def occurrences(words: list[str], gram: tuple[str, ...]) -> int:
    return sum(tuple(words[i : i + len(gram)]) == gram for i in range(len(words)))


def counted(gram: tuple[str, ...]) -> bool:
    return any(occurrences(one, gram) for some in [*CORPUS, SAID] for one in some)


def holding(gram: tuple[str, ...]) -> int:
    return sum(any(occurrences(one, gram) for one in some) for some in CORPUS)


def test_cider_is_the_formula_of_the_paper():
    frequencies = Frequencies.of(CORPUS)
    scores = []
    for said, references in zip(SAID, CORPUS, strict=True):
        score = cider(said, [weighed(one, frequencies) for one in references], frequencies)
        wanted = np.mean([dense(said, references, n) for n in (1, 2, 3, 4)])
        assert score == pytest.approx(wanted, rel=1e-12)
        scores.append(score)
    assert mean_cider(SAID, CORPUS) == pytest.approx(np.mean(scores), rel=1e-12)
    assert scores[0] > 0 and scores[1] > scores[2]


def test_the_reference_itself_scores_ten_and_saying_it_twice_does_not_pay():
    frequencies = Frequencies.of(CORPUS)
    reference = CORPUS[1][0]
    own = [weighed(reference, frequencies)]
    assert cider(reference, own, frequencies) == pytest.approx(10)
    assert cider([*reference, *reference], own, frequencies) < 8
    assert cider(["mint"], own, frequencies) == 0


def test_a_word_that_is_in_every_picture_weighs_nothing():
    frequencies = Frequencies.of(CORPUS)
    assert frequencies.weight(("a",)) == 0 < frequencies.weight(("red",))
    assert frequencies.weight(("never",)) == pytest.approx(np.log(3))


def test_bleu_counts_clipped_runs_over_the_corpus():
    said, references = [["a", "a", "b", "c", "d", "e"]], [[["a", "b", "c", "d", "e"]]]
    # 1-grams 5 of 6 (one a too many), 2-grams 4 of 5, 3-grams 3 of 4, 4-grams 2 of 3.
    assert bleu(said, references) == pytest.approx((5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)
    short = [["a", "b", "c", "d"]]
    assert bleu(short, references) == pytest.approx(np.exp(1 - 5 / 4))
    assert bleu([["e", "d"]], references) == 0


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_captions_is_refused(count: int):
    with pytest.raises(ValueError, match=r"captions|shorter|longer"):
        mean_cider([["a"]] * count, [[["a"]]])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        bleu([["a"]] * count, [[["a"]]])
    with pytest.raises(ValueError, match="no pictures"):
        Frequencies.of([])
