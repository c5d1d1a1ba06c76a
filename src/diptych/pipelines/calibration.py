"""How sure an answer is: a calibration, its file beside the model, and whose it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from math import exp, log
from pathlib import Path
from typing import Literal

import numpy as np

from diptych.checkpoints.folder import read_json
from diptych.foundation.config import from_json, to_json
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.foundation.files import write_whole
from diptych.pipelines.reading import Answer

FILE = "calibration.json"

By = Literal["platt", "temperature", "isotonic"]


@dataclass(frozen=True)
class RiskPoint:
    """Of the answers whose confidence is at least `threshold`: their share, and how many of them
    are wrong, both in 0..1."""

    coverage: float
    risk: float
    threshold: float


@dataclass(frozen=True)
class Calibration:
    """confidence = sigmoid(slope * logit(score) + offset) (Platt, 1999), or, with `knots` (score,
    confidence), lines between them; fitted on `n` answers that are not scored.

    `error` and `before`: the expected calibration error of confidence and of score on `tried`
    other answers, and `risk` by coverage there, the most covered last. `model`: `mark_of` the
    weights it is for, or nothing where it is kept with them.
    """

    slope: float
    offset: float
    error: float
    n: int
    by: By = "platt"
    knots: tuple[tuple[float, float], ...] = ()
    before: float | None = None
    tried: int = 0
    risk: tuple[RiskPoint, ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        if (self.by == "isotonic") != bool(self.knots):
            raise ValueError("knots belong to an isotonic curve, and it has some")
        scores, values = [one for one, _ in self.knots], [one for _, one in self.knots]
        if scores != sorted(set(scores)) or values != sorted(values):
            raise ValueError("the knots do not rise")

    def confidence(self, score: float) -> float:
        """Probability in 0..1 that an answer of this score is right."""
        if self.knots:
            scores, values = zip(*self.knots, strict=True)
            return float(np.interp(score, scores, values))
        bounded = min(max(score, 1e-6), 1 - 1e-6)
        return 1 / (1 + exp(-(self.slope * log(bounded / (1 - bounded)) + self.offset)))

    def write(self, path: Path) -> None:
        """Into a file that `read_calibration` reads. Raises NotWritten."""
        write_whole(path, json.dumps(to_json(self), indent=2) + "\n")


def with_confidence(answer: Answer, calibration: Calibration | None) -> Answer:
    """The answer with its confidence, if there is a calibration."""
    if calibration is None:
        return answer
    return replace(answer, confidence=calibration.confidence(answer.score))


def check_abstain(least: float | None, calibration: Calibration | None, name: str) -> None:
    """Raises InvalidValue for a threshold outside 0..1, and for one without a calibration."""
    if least is None:
        return
    if not 0 < least < 1:
        raise InvalidValue(
            f"A confidence of {least:g} is not between 0 and 1.", do="0.9 is a usual one."
        )
    if calibration is None:
        raise InvalidValue(
            f"How sure {name} is, is not known: it has no calibration.",
            do="`diptych calibrate` makes one from labelled pictures.",
        )


def sure(answer: Answer, least: float | None) -> bool:
    """Whether an answer's confidence is at least so much."""
    return least is None or (answer.confidence or 0.0) >= least


def read_calibration(path: Path) -> Calibration:
    """What `Calibration.write` wrote. Raises NotFound, Unreadable."""
    if not path.is_file():
        raise NotFound(f"There is no file {str(path)!r}.", do="`diptych calibrate` writes one.")
    try:
        return from_json(Calibration, read_json(path))
    except InvalidValue as error:
        raise Unreadable(
            f"{str(path)!r} holds no calibration: {error.what}",
            do="`diptych calibrate` writes one.",
        ) from error


def calibration_of(folder: Path, wanted: str | Path | bool = True) -> Calibration | None:
    """That of a model's folder: what the file `wanted` holds; True: `calibration.json` in the
    folder, if it is there; False: None. Raises NotFound, Unreadable, and InvalidValue for one of
    other weights."""
    named = not isinstance(wanted, bool)
    path = Path(wanted) if named else folder / FILE
    if not wanted or (not named and not path.is_file()):
        return None
    found = read_calibration(path)
    if found.model != mark_of(folder):
        raise InvalidValue(
            f"{str(path)!r} was made for other weights than those of {str(folder)!r}.",
            do="Run `diptych calibrate` anew, or remove the file.",
        )
    return found


_EDGE, _PIECE, _PIECES = 2**20, 4096, 256


def mark_of(folder: Path) -> str:
    """Names the weights of a folder: a SHA-256 over the names and sizes of its safetensors, the
    first megabyte of each, and 256 pieces of 4 KiB from all over it. Quick for any size; a model
    trained on has another. Raises Unreadable."""
    digest = sha256()
    try:
        for path in sorted(folder.rglob("*.safetensors")):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(_EDGE))
                for piece in range(_PIECES):
                    file.seek(size * piece // _PIECES)
                    digest.update(file.read(_PIECE))
    except OSError as error:
        raise Unreadable(f"Cannot read {str(folder)!r}: {error.strerror or error}.") from error
    return digest.hexdigest()[:32]
