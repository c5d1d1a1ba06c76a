"""What a network says, made into what a solver stores: m = p x + q out.

With x = alpha x0 + sigma eps, a network says a eps + b x0, whose weights depend on the node: `eps`,
`x0`, `velocity` = eps - x0, `v` = alpha eps - sigma x0 (Salimans and Ho, 2022), the `score` =
-eps / sigma, or what the preconditioning of EDM leaves to it. Two equations, two unknowns:

    x0  = (a x - sigma out) / (a alpha - b sigma)
    eps = (alpha out - b x) / (a alpha - b sigma)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from diptych.diffusion.paths import Node
from diptych.foundation.errors import InvalidValue, unknown

Pair = tuple[float, float]


@dataclass(frozen=True)
class Prediction:
    """`weights`: a and b at a node, of `factor` times what the network says. `scale`: what x is
    multiplied by before the network sees it."""

    name: str
    weights: Callable[[Node], Pair]
    factor: Callable[[Node], float] = lambda node: 1.0
    scale: Callable[[Node], float] = lambda node: 1.0


def edm(sigma_data: float = 0.5) -> Prediction:
    """Karras et al., 2022, table 1, in y = x / alpha, for data that varies by `sigma_data`."""

    def length(node: Node) -> float:
        return sqrt(node.rho**2 + sigma_data**2)

    return Prediction(
        "edm",
        lambda n: (-sigma_data / length(n), n.rho / sigma_data / length(n)),
        scale=lambda n: 1 / (n.alpha * length(n)),
    )


PREDICTIONS: dict[str, Prediction] = {
    "eps": Prediction("eps", lambda n: (1.0, 0.0)),
    "score": Prediction("score", lambda n: (1.0, 0.0), factor=lambda n: -n.sigma),
    "x0": Prediction("x0", lambda n: (0.0, 1.0)),
    "v": Prediction("v", lambda n: (n.alpha, -n.sigma)),
    "velocity": Prediction("velocity", lambda n: (1.0, -1.0)),
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
    return _solved(prediction, node, 0.0, 1.0)


def to_drift(prediction: str | Prediction, drift: str, node: Node) -> Pair:
    """(p, q) for what is integrated in the path's own time: `eps` or `velocity`.

    Raises InvalidValue where it cannot be told, as from `x0` at sigma = 0.
    """
    return _solved(prediction, node, 1.0, 0.0 if drift == "eps" else -1.0)


def _solved(prediction: str | Prediction, node: Node, eps: float, x0: float) -> Pair:
    """(p, q) for `eps` eps + `x0` x0."""
    said = prediction_of(prediction)
    (a, b), factor = said.weights(node), said.factor(node)
    if a * x0 == b * eps:  # a multiple of what is said, wherever that is
        return 0.0, factor * (eps / a if a else x0 / b)
    whole = a * node.alpha - b * node.sigma
    if not abs(whole) > 0:  # 0, or no number at all
        missing = "picture at noise alone" if node.sigma else "direction at data alone"
        what = f"A network that predicts {said.name} does not tell the {missing}."
        raise InvalidValue(what, do="Leave that node out, or use one that predicts v or velocity.")
    p, q = a * x0 - b * eps, node.alpha * eps - node.sigma * x0
    return p / whole, factor * q / whole
