"""CIDEr-D: how much a caption shares with what people said of the same picture, rare words counting
more (Vedantam et al., 2015, with the clipping and the penalty of length of section 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

Words = Sequence[str] | Sequence[int]
Grams = Mapping[tuple, int]

LONGEST = 4
_WIDTH = 6.0  # of the penalty, in words


@dataclass(frozen=True)
class Frequencies:
    """In the references of how many pictures each n-gram stands, and of how many pictures."""

    holding: Mapping[tuple, int]
    pictures: int

    @classmethod
    def of(cls, references: Iterable[Sequence[Words]]) -> Frequencies:
        """From the references of each picture of a corpus. Raises ValueError for none."""
        holding: Counter[tuple] = Counter()
        pictures = 0
        for said in references:
            pictures += 1
            holding.update({gram for words in said for gram in grams(words)})
        if not pictures:
            raise ValueError("frequencies of no pictures weigh nothing")
        return cls(holding, pictures)

    def weight(self, gram: tuple) -> float:
        """The logarithm of how rare it is, >= 0."""
        return log(self.pictures) - log(max(1, self.holding.get(gram, 0)))


@dataclass(frozen=True)
class Weighed:
    """A sentence as four vectors, their lengths, and its number of words."""

    vectors: tuple[Mapping[tuple, float], ...]
    norms: tuple[float, ...]
    words: int


def grams(words: Words) -> Counter[tuple]:
    """How often each run of one to `LONGEST` words stands in a sentence."""
    said: tuple = tuple(words)
    return Counter(
        said[start : start + n] for n in range(1, LONGEST + 1) for start in range(len(said) - n + 1)
    )


def weighed(words: Words, frequencies: Frequencies) -> Weighed:
    """Counts times rarity, n by n."""
    vectors: tuple[dict[tuple, float], ...] = tuple({} for _ in range(LONGEST))
    for gram, count in grams(words).items():
        vectors[len(gram) - 1][gram] = count * frequencies.weight(gram)
    norms = tuple(sqrt(sum(value * value for value in vector.values())) for vector in vectors)
    return Weighed(vectors, norms, len(words))


def cider(said: Words, references: Sequence[Weighed], frequencies: Frequencies) -> float:
    """CIDEr-D of one caption, 0..10: the mean over references and n of clipped cosines, times
    exp(-(difference of lengths)^2 / 72)."""
    mine = weighed(said, frequencies)
    return 10 * sum(_likeness(mine, one) for one in references) / len(references)


def _likeness(mine: Weighed, other: Weighed) -> float:
    total = 0.0
    for vector, norm, theirs, their_norm in zip(
        mine.vectors, mine.norms, other.vectors, other.norms, strict=True
    ):
        if norm and their_norm:
            shared = vector.keys() & theirs.keys()
            # Clipped: a word said again and again counts no more than it stands in the reference.
            dot = sum(min(vector[gram], theirs[gram]) * theirs[gram] for gram in shared)
            total += dot / (norm * their_norm)
    return total / LONGEST * exp(-((mine.words - other.words) ** 2) / (2 * _WIDTH**2))


def mean_cider(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """The mean over a corpus, whose references give the frequencies. Raises ValueError for one
    without pictures, or with another number of captions."""
    if len(said) != len(references):
        raise ValueError(f"{len(said)} captions for the references of {len(references)} pictures")
    frequencies = Frequencies.of(references)
    scores = [
        cider(words, [weighed(one, frequencies) for one in some], frequencies)
        for words, some in zip(said, references, strict=True)
    ]
    return sum(scores) / len(scores)
