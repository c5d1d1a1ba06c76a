"""Labels for pictures without training (Radford et al., 2021, section 3.1): each label becomes a
sentence, or several whose vectors are averaged, and the nearest ones win."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.foundation.errors import InvalidValue

Vectors = NDArray[np.float32]
PLACE = "{}"
# CLIP's authors' choice of seven for ImageNet, found by trying (their notebook of prompts).
ENSEMBLE = (
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.",
    "a {} in a video game.", "art of the {}.", "a photo of the small {}.",
)  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """`score` in 0..1: a label's share among the labels where they exclude each other, else how
    likely it is by itself. It is not calibrated."""

    label: str
    score: float


@dataclass(frozen=True)
class Ranked:
    """`index` of a picture among those given; `similarity` in -1..1, the cosine with the text."""

    index: int
    similarity: float


def label_vectors(
    embed: Callable[[Sequence[str]], Vectors], labels: Sequence[str], templates: Sequence[str]
) -> Vectors:
    """[M, D] of unit length: for each label the mean over its sentences, of unit length each.

    Raises InvalidValue for labels that are empty or there twice, and for templates without `{}`.
    """
    _check(labels, templates)
    sentences = [template.replace(PLACE, label) for label in labels for template in templates]
    each = embed(sentences).reshape(len(labels), len(templates), -1)
    mean = each.mean(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _check(labels: Sequence[str], templates: Sequence[str]) -> None:
    if not labels:
        raise InvalidValue("There are no labels.", do='Say what it may be: "cat" "dog".')
    if not templates:
        raise InvalidValue("There are no templates.", do='One is enough: "a photo of a {}."')
    empty = [label for label in labels if not label.strip()]
    if empty:
        raise InvalidValue("A label is empty.", do="Leave it out.")
    twice = sorted({label for label in labels if list(labels).count(label) > 1})
    if twice:
        raise InvalidValue(f"The label {twice[0]!r} is there twice.", do="Name it once.")
    for template in templates:
        if template.count(PLACE) != 1:
            raise InvalidValue(
                f"The template {template!r} has {template.count(PLACE)} places for a label.",
                do=f"One {PLACE} is needed.",
            )


def scored(labels: Sequence[str], shares: Vectors) -> list[list[Scored]]:
    """shares [N, M] -> for each picture all labels, the best first; equals in the order given"""
    return [
        [Scored(labels[int(at)], float(row[at])) for at in np.argsort(-row, kind="stable")]
        for row in shares
    ]


def ranked(similarities: Vectors) -> list[Ranked]:
    """[N] -> all pictures, the nearest first; equals in the order given"""
    order = np.argsort(-similarities, kind="stable")
    return [Ranked(int(at), float(similarities[at])) for at in order]
