"""What the error of each sample counts, by name.

All predictions make one error: with e = |x0 - its estimate|^2 at the same x,

    |eps error|^2 = SNR e      |v error|^2 = (SNR + 1) e      |velocity error|^2 = e / t^2

so that a scheme is one weight on e, and its weight on a network's own error follows by dividing.
The quotients are 0 / 0 at an end of the path; here they are written out, in a = alpha^2 and
s = sigma^2, so that they have their limits there. SNR = a / s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import Literal

import torch
from torch import Tensor

from diptych.diffusion.paths import Path
from diptych.foundation.errors import InvalidValue, unknown
from diptych.objectives.levels import settings_of
from diptych.objectives.places import Places, of_nodes

Prediction = Literal["eps", "v", "x0", "velocity", "edm"]
PREDICTIONS: tuple[Prediction, ...] = ("eps", "v", "x0", "velocity", "edm")
SIGMA_DATA = 0.5  # Karras et al., 2022

# A weight: of a and s [B] and the scheme's settings.
Form = Callable[[Tensor, Tensor, Mapping[str, float]], Tensor]


@dataclass(frozen=True)
class Scheme:
    """The weight on the own error of a network that predicts x0, eps, or v and the velocity.

    The last is sigma^2 times the weight on e: for a velocity t is sigma, and for v SNR + 1 is
    1 / sigma^2. `settings`: what of `Weight` it reads, with its defaults.
    """

    x0: Form | None
    eps: Form | None
    mixed: Form
    settings: Mapping[str, float]


def _ones(a: Tensor, s: Tensor, by: Mapping[str, float]) -> Tensor:
    return torch.ones_like(a)


SCHEMES: dict[str, Scheme] = {
    # 1 on the network's own error, whatever it predicts.
    "uniform": Scheme(_ones, _ones, _ones, {}),
    # min(SNR, gamma) on e (Hang et al., 2023).
    "min-snr": Scheme(
        x0=lambda a, s, by: (a / s).clamp(max=by["gamma"]),
        eps=lambda a, s, by: (by["gamma"] * s / a).clamp(max=1),
        mixed=lambda a, s, by: torch.minimum(a, by["gamma"] * s),
        settings={"gamma": 5.0},
    ),
    # (k + SNR)^-gamma on the error of eps (Choi et al., 2022).
    "p2": Scheme(
        x0=lambda a, s, by: a * s ** (by["gamma"] - 1) / (by["k"] * s + a) ** by["gamma"],
        eps=lambda a, s, by: (by["k"] + a / s) ** -by["gamma"],
        mixed=lambda a, s, by: a * (s / (by["k"] * s + a)) ** by["gamma"],
        settings={"k": 1.0, "gamma": 1.0},
    ),
    # (rho^2 + sigma_data^2) / (rho sigma_data)^2 on e (Karras et al., 2022, table 1).
    "edm": Scheme(
        x0=lambda a, s, by: a / s + by["sigma_data"] ** -2,
        eps=lambda a, s, by: 1 + s / a / by["sigma_data"] ** 2,
        mixed=lambda a, s, by: a + s / by["sigma_data"] ** 2,
        settings={},
    ),
    # 2 / (pi (1 - 2t + 2t^2)) on the error of the velocity: the density of `levels.cosmap`, so
    # that uniform times have the same expected loss. Its mean over them is 1.
    "cosmap": Scheme(None, None, lambda a, s, by: 2 / pi / (a + s), {}),
}


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A scheme by its name in `SCHEMES`, with its settings; none takes its default.

    `gamma` is of min-snr (5) and p2 (1), `k` of p2 (1). Raises NotFound for an unknown kind,
    InvalidValue for a setting out of range or not read.
    """

    kind: Literal["uniform", "min-snr", "p2", "edm", "cosmap"] = "uniform"
    gamma: float | None = None
    k: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in SCHEMES:
            raise unknown("weight", self.kind, SCHEMES)
        values = settings_of(self, SCHEMES[self.kind].settings, ("gamma", "k"))
        for name, value in values.items():
            if not value > 0:
                raise InvalidValue(f"A {name} of {value:g} is not offered.", do="It is above 0.")


def weights(
    weight: Weight, prediction: Prediction, at: Places, sigma_data: float = SIGMA_DATA
) -> Tensor:
    """The weight [B] on the squared error of what the network says, target against output.

    `sigma_data`, the spread of the data, is read by a prediction or a weight of edm alone. Raises
    InvalidValue for a scheme that says nothing of this prediction.
    """
    scheme, a, s = SCHEMES[weight.kind], at.alpha.square(), at.sigma.square()
    mixed = dict.fromkeys(("v", "velocity", "edm"), scheme.mixed)
    form = {"x0": scheme.x0, "eps": scheme.eps, **mixed}[prediction]
    if form is None or (weight.kind == "cosmap" and prediction != "velocity"):
        raise InvalidValue(
            f"{weight.kind} weighs the velocity of a flow and not a prediction of {prediction}.",
            do="Predict the velocity, or choose min-snr.",
        )
    found = form(a, s, settings_of(weight, scheme.settings, ()) | {"sigma_data": sigma_data})
    if prediction == "edm" and weight.kind != "uniform":
        return found / (a + s / sigma_data**2)  # c_out^2 / sigma^2 of the own error
    return found


def per_clean(prediction: Prediction, at: Places, sigma_data: float = SIGMA_DATA) -> Tensor:
    """How many times e the network's own squared error is, [B]; infinite or 0 at the ends."""
    a, s = at.alpha.square(), at.sigma.square()
    if prediction == "x0":
        return torch.ones_like(a)
    if prediction == "edm":
        return 1 / s + sigma_data**-2
    return {"eps": a / s, "v": a / s + 1, "velocity": 1 / s}[prediction]


@lru_cache(maxsize=64)
def check(path: Path, prediction: Prediction, weight: Weight, sigma_data: float) -> None:
    """Raises InvalidValue where path, prediction and weight do not go together: a prediction that
    is defined on another kind of path, a weight that is infinite at an end of this one."""
    node = path.node(min(1.0, path.start))
    ones = {
        "v": (node.alpha**2 + node.sigma**2, "a variance preserving path"),
        "velocity": (node.alpha + node.sigma, "a flow"),
        "edm": (node.alpha, "a variance exploding path"),
    }
    one, kind = ones.get(prediction, (1.0, ""))
    if abs(one - 1) > 1e-9:
        raise InvalidValue(
            f"A prediction of {prediction} is one of {kind}, and {type(path).__name__} is none.",
            do="Predict x0 or eps, or change the path.",
        )
    ends = of_nodes([path.node(path.end), path.node(path.start)])
    finite = weights(weight, prediction, ends, sigma_data).isfinite().tolist()
    for good, end in zip(finite, ("data", "noise"), strict=True):
        if not good:
            raise InvalidValue(
                f"The weight {weight.kind} of a prediction of {prediction} is infinite at the "
                f"{end} end of this path.",
                do="Choose min-snr, a path that stops short of that end, or another prediction.",
            )
