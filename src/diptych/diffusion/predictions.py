"""What a network says, made into what a solver stores: m = p x + q out."""

from __future__ import annotations

from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue


def to_x0(prediction: str, node: Node) -> tuple[float, float]:
    """(p, q) for the clean picture. Raises InvalidValue where it cannot be told: noise alone
    says nothing of the picture (alpha = 0 and `eps`)."""
    alpha, sigma = node.alpha, node.sigma
    if prediction == "eps":
        if alpha == 0:
            raise InvalidValue(
                "A network that predicts noise cannot begin at noise alone.",
                do="Begin at a later node, or use one that predicts v, x0 or the velocity.",
            )
        return 1 / alpha, -sigma / alpha
    return _of(prediction, {"v": (alpha, -sigma), "x0": (0.0, 1.0), "velocity": (1.0, -sigma)})


def to_drift(prediction: str, drift: str, node: Node) -> tuple[float, float]:
    """(p, q) for what is integrated in the path's own time: `eps` or `velocity`.

    Raises InvalidValue at sigma = 0, where the clean picture tells neither.
    """
    alpha, sigma = node.alpha, node.sigma
    if prediction == drift:
        return 0.0, 1.0
    if drift == "eps":
        of_x0 = _quotients(sigma, (1.0, -alpha)) if prediction == "x0" else (0.0, 0.0)
        return _of(prediction, {"v": (sigma, alpha), "x0": of_x0})
    if prediction == "x0":
        return _quotients(sigma, (1.0, -1.0))
    return _of(prediction, {"eps": _quotients(alpha, (-1.0, 1.0))})


def _quotients(by: float, pair: tuple[float, float]) -> tuple[float, float]:
    if by == 0:
        raise InvalidValue("This prediction says nothing of the direction at the end of the path.")
    return pair[0] / by, pair[1] / by


def _of(prediction: str, known: dict[str, tuple[float, float]]) -> tuple[float, float]:
    if prediction not in known:
        raise InvalidValue(
            f"A prediction of {prediction!r} has no meaning here.",
            do=f"Known: {', '.join(sorted(known))}.",
        )
    return known[prediction]
