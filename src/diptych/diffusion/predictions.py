"""What a network says, made into what a solver stores: m = p x + q out.

With x = alpha x0 + sigma eps, networks are trained to say `eps`, `x0`, `velocity` = eps - x0,
`v` = alpha eps - sigma x0 (Salimans and Ho, 2022), the `score` = -eps / sigma, or what the
preconditioning of EDM leaves to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isinf, sqrt

from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue, unknown

Pair = tuple[float, float]


@dataclass(frozen=True)
class Prediction:
    """`x0` and `eps`: the pairs (p, q) that make the network's word these, at a node. `scale`:
    what x is multiplied by before the network sees it."""

    name: str
    x0: Callable[[Node], Pair]
    eps: Callable[[Node], Pair]
    scale: Callable[[Node], float] = lambda node: 1.0


def edm(sigma_data: float = 0.5, floor: float = 0.0) -> Prediction:
    """Karras et al., 2022, table 1, in y = x / alpha. With `floor` the smallest trained ratio,
    the network says y itself there (Song et al., 2023, appendix C)."""

    def x0(node: Node) -> Pair:
        _refuse_pure_noise(node)
        above = node.rho - floor
        skip = sigma_data**2 / (above**2 + sigma_data**2)
        return skip / node.alpha, above * sigma_data / sqrt(node.rho**2 + sigma_data**2)

    def eps(node: Node) -> Pair:
        p, q = x0(node)
        return _quotients(node.sigma, (1 - node.alpha * p, -node.alpha * q))

    def scale(node: Node) -> float:
        return 1 / (node.alpha * sqrt(node.rho**2 + sigma_data**2))

    return Prediction("edm", x0, eps, scale)


def _refuse_pure_noise(node: Node) -> None:
    if node.alpha == 0 or isinf(node.rho):
        raise InvalidValue(
            "A network that predicts noise cannot begin at noise alone.",
            do="Begin at a later node, or use one that predicts v, x0 or the velocity.",
        )


def _x0_of_eps(node: Node) -> Pair:
    _refuse_pure_noise(node)
    return 1 / node.alpha, -node.sigma / node.alpha


def _x0_of_score(node: Node) -> Pair:
    _refuse_pure_noise(node)
    return 1 / node.alpha, node.sigma**2 / node.alpha


def _of_v(node: Node) -> float:
    return node.alpha**2 + node.sigma**2


PREDICTIONS: dict[str, Prediction] = {
    "eps": Prediction("eps", _x0_of_eps, lambda n: (0.0, 1.0)),
    "score": Prediction("score", _x0_of_score, lambda n: (0.0, -n.sigma)),
    "x0": Prediction("x0", lambda n: (0.0, 1.0), lambda n: _quotients(n.sigma, (1.0, -n.alpha))),
    "v": Prediction(
        "v",
        lambda n: (n.alpha / _of_v(n), -n.sigma / _of_v(n)),
        lambda n: (n.sigma / _of_v(n), n.alpha / _of_v(n)),
    ),
    "velocity": Prediction(
        "velocity",
        lambda n: (1 / (n.alpha + n.sigma), -n.sigma / (n.alpha + n.sigma)),
        lambda n: (1 / (n.alpha + n.sigma), n.alpha / (n.alpha + n.sigma)),
    ),
    "edm": edm(),
}


def prediction_of(prediction: str | Prediction) -> Prediction:
    """By name. Raises NotFound for one that is not known."""
    if isinstance(prediction, Prediction):
        return prediction
    if prediction not in PREDICTIONS:
        raise unknown("prediction", prediction, PREDICTIONS)
    return PREDICTIONS[prediction]


def to_x0(prediction: str | Prediction, node: Node) -> Pair:
    """(p, q) for the clean picture. Raises InvalidValue where it cannot be told: noise alone
    says nothing of the picture (alpha = 0 and `eps`)."""
    return prediction_of(prediction).x0(node)


def to_drift(prediction: str | Prediction, drift: str, node: Node) -> Pair:
    """(p, q) for what is integrated in the path's own time: `eps` or `velocity`.

    Raises InvalidValue at sigma = 0, where the clean picture tells neither.
    """
    said = prediction_of(prediction)
    if said.name == drift:
        return 0.0, 1.0
    if drift == "eps":
        return said.eps(node)
    (p, q), (p0, q0) = said.eps(node), said.x0(node)
    return p - p0, q - q0


def _quotients(by: float, pair: Pair) -> Pair:
    if by == 0:
        raise InvalidValue("This prediction says nothing of the direction at the end of the path.")
    return pair[0] / by, pair[1] / by
