"""How sure a reader may be: answers whose truth is known become a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diptych.data.labels import Labelled, same_words
from diptych.evaluation.scenes.reading import asked_of
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress, Report, silent
from diptych.foundation.randomness import stream
from diptych.metrics.calibration import (
    expected_calibration_error,
    isotonic,
    platt,
    risk_coverage,
    temperature,
)
from diptych.pipelines.calibration import By, Calibration, RiskPoint
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.reader_front import ImageToText

LEAST = 50  # answers, of which half are fitted on


_ROWS = 32


@dataclass(frozen=True)
class Judged:
    """An answer's score in 0..1, whether it is right, and the number of its picture."""

    score: float
    right: bool
    picture: int


def judged_labels(
    reader: ImageToText, labels: Sequence[Labelled], report: Report = silent
) -> list[Judged]:
    """What a reader answers to labelled pictures, greedily. Right is what says the same words as
    one of the labels. Raises Unreadable for a picture that cannot be read."""
    pictures, found = dict[Path, int](), list[Judged]()
    for start in range(0, len(labels), _ROWS):
        part = labels[start : start + _ROWS]
        said = reader.respond([one.picture for one in part], [one.task for one in part])
        for one, answer in zip(part, said, strict=True):
            right = any(same_words(answer.text, wanted) for wanted in one.wanted)
            number = pictures.setdefault(one.picture, len(pictures))
            found.append(Judged(answer.score, right, number))
        report(Progress(len(found), len(labels), "questions"))
    return found


def judged_scenes(
    networks: ImageToTextNetworks, most: int = 1400, report: Report = silent
) -> list[Judged]:
    """About `most` answers and captions, at least one a kind, of scenes that are kept for tuning:
    on none of them is a model trained or scored."""
    each = max(1, most // 14)
    asked = asked_of(networks, "tune", seed=6, captions=3 * each, each=each, report=report)
    scenes = {id(one.scene): number for number, one in enumerate(asked)}
    return [Judged(one.said.score, one.right, scenes[id(one.scene)]) for one in asked]


def fitted(judged: Sequence[Judged], by: By = "platt", *, model: str = "") -> Calibration:
    """A calibration from the answers about one half of the pictures, drawn at random, its errors
    and its risk measured on the other. `model`: `mark_of` the weights. Raises InvalidValue for
    fewer than `LEAST` answers or two pictures, and where none is right."""
    if len(judged) < LEAST:
        raise InvalidValue(
            f"{len(judged)} answers are too few to calibrate on.", do=f"Label at least {LEAST}."
        )
    if not any(one.right for one in judged):
        raise InvalidValue(
            f"None of {len(judged)} answers is right.",
            do="Write the labels as the model answers: `diptych ask` shows how.",
        )
    fit, other = _halves(judged)
    draft = _curve(fit, by)
    scores, right = [one.score for one in other], [one.right for one in other]
    confidences = [draft.confidence(score) for score in scores]
    return replace(
        draft,
        error=expected_calibration_error(confidences, right),
        before=expected_calibration_error(scores, right),
        tried=len(right),
        risk=tuple(RiskPoint(*point) for point in risk_coverage(confidences, right)),
        model=model,
    )


def _halves(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    pictures = sorted({one.picture for one in judged})
    if len(pictures) < 2:
        raise InvalidValue("All answers are about one picture.", do="Label several.")
    stream(0, len(pictures)).shuffle(pictures)
    first = set(pictures[: len(pictures) // 2])
    return (
        [one for one in judged if one.picture in first],
        [one for one in judged if one.picture not in first],
    )


def _curve(judged: Sequence[Judged], by: By) -> Calibration:
    scores, right = [one.score for one in judged], [one.right for one in judged]
    if by == "isotonic":
        return Calibration(1.0, 0.0, 0.0, len(judged), by, tuple(isotonic(scores, right)))
    if by == "temperature":
        return Calibration(1 / temperature(scores, right), 0.0, 0.0, len(judged), by)
    return Calibration(*platt(scores, right), 0.0, len(judged), by)
