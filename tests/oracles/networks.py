"""Networks of another library and ours with the same weights, and how far they are apart.

Fresh networks are blind (scales of 1, biases and gates of 0), so everything is drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import log
from typing import Any, TypeVar

import torch
from pytest import MonkeyPatch
from torch import Tensor, nn

_NORMS = nn.GroupNorm | nn.LayerNorm | nn.RMSNorm
Module = TypeVar("Module", bound=nn.Module)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def randomized(network: Module, seed: int = 0) -> Module:
    """The network in float64: matrices N(0, 1 / fan in), vectors N(0, .3), the scales of norms
    around 1."""
    network.double().eval()
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _NORMS) or type(module).__name__.endswith("RMSNorm")
    ]
    scales = {id(norm.weight) for norm in norms if norm.weight is not None}
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            values = drawn(*parameter.shape, seed=1000 * seed + number)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            parameter.copy_(values * (fan_in**-0.5 if fan_in else 0.3))
            if id(parameter) in scales:
                parameter += 1
    return network


def twin(ours: Module, theirs: nn.Module) -> Module:
    """Our network with their weights, name by name."""
    ours.double().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours


class ExactTimes(nn.Module):
    """Their features of a time, which they round to float32 on the way, in float64."""

    def __init__(self, width: int, shift: float = 0.0):
        super().__init__()
        self.width, self.shift = width, shift

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        powers = torch.arange(half, dtype=torch.float64) / (half - self.shift)
        angles = t.double()[:, None] * torch.exp(-log(1e4) * powers)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ExactRMSNorm(nn.Module):
    """Their norm, whose variance they take in float32, in float64."""

    def __init__(self, theirs: nn.Module):
        super().__init__()
        self.weight, self.eps = theirs.weight, theirs.eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def replaced(network: nn.Module, kind: type[nn.Module], by: Callable[[Any], nn.Module]) -> None:
    """Put others in the place of all modules of a kind."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, kind):
                setattr(parent, name, by(child))


@contextmanager
def widened() -> Iterator[None]:
    """Where they say `.float()`, or ask a softmax for float32, float64 stays float64."""
    softmax = torch.nn.functional.softmax
    with MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        patch.setattr(
            torch.nn.functional, "softmax", lambda x, dim, dtype=None: softmax(x.double(), dim=dim)
        )
        yield


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference relative to the largest value."""
    assert ours.shape == theirs.shape
    wide = ours.detach().double(), theirs.detach().double()
    return float((wide[0] - wide[1]).abs().max() / wide[1].abs().max())


def all_apart(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The same for several outputs, the worst of them."""
    return max(apart(a, b) for a, b in zip(ours, theirs, strict=True))


def gradients(run: Callable[[], Tensor], wanted: Sequence[Tensor]) -> list[Tensor]:
    """Of one scalar that weighs every value of the output, with respect to what is wanted."""
    out = run()
    return list(torch.autograd.grad((out * drawn(*out.shape, seed=77)).sum(), list(wanted)))


def named(network: nn.Module, prefix: str = "") -> list[str]:
    """All parameters below `prefix`, but those whose gradient is nothing: what is added to every
    key alike changes no softmax."""
    names = [name for name, _ in network.named_parameters() if name.startswith(prefix)]
    return [name for name in names if not name.endswith("to_k.bias")]


def gradients_apart(
    ours: nn.Module, theirs: nn.Module, x: Tensor, weights: Sequence[str], run: Callable[..., Any]
) -> float:
    """`run(network, x)` gives the output; compares gradients of the input and of the weights."""
    found = []
    for network in (ours, theirs):
        own = x.clone().requires_grad_(True)
        wanted = [own, *(network.get_parameter(name) for name in weights)]
        found.append(gradients(lambda network=network, own=own: run(network, own), wanted))
    return all_apart(*found)


def exact_norms(network: Module, epsilon: float = 1e-6) -> Module:
    """Their RMS norms, which take the mean of squares in float32, in the type of the input."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            kind = type(child).__name__
            plain = kind.endswith(("RMSNorm", "T5LayerNorm")) and not kind.startswith("Gemma")
            if plain and type(child) is not nn.RMSNorm:
                made = nn.RMSNorm(len(child.weight), eps=epsilon)
                made.weight = child.weight
                setattr(parent, name, made)
    return network


_float = Tensor.float


class Float32Angles(nn.Module):
    """Their cosines and sines in float32, as they are, where all else is widened."""

    def __init__(self, theirs: nn.Module):
        super().__init__()
        self.theirs = theirs

    def forward(self, *given: Any, **named: Any) -> Any:
        with MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "float", _float)
            return self.theirs(*given, **named)
