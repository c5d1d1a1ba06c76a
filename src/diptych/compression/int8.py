"""Linear maps in eight bits, weights and inputs (LLM.int8, Dettmers et al., 2022, section 3,
without its outliers): a scale for each output channel and one for each token, found as it comes.

Sums of products are whole numbers, so no order of adding changes them: a row's bits do not depend
on how many rows there are. The result is another than the exact one, by about a hundredth.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue

_MOST = 127  # -128 is left out: both signs reach as far
# int8 [N, C] and [C, D] -> int32 [N, D]. 1,024 tokens of 3,072 to as many, torch 2.13 with VNNI and
# AMX: 12 ms and 3 for the codes; bfloat16 16, torch.ao.quantization's dynamic map 35, float32 101.
_products: Callable[[Tensor, Tensor], Tensor] = torch.ops.aten._int_mm
LEAST = 96  # inputs and outputs from which it pays; narrower maps begin and end networks


class Int8Linear(nn.Module):
    """A linear map whose weight is `codes` int8 [D, C] times `scale` float32 [D]; for inference
    on a CPU."""

    codes: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        codes, scale = coded(linear.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale[:, 0])
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., D] of the type of `x`"""
        rows, scale = coded(x.flatten(0, -2))
        sums = _products(rows, self.codes.T).float()
        out = sums.mul_(scale).mul_(self.scale).to(x.dtype)
        out = out if self.bias is None else out.add_(self.bias)
        return out.unflatten(0, x.shape[:-1])

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def coded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[N, C] -> int8 codes [N, C] and scales float32 [N, 1], whose product is near; a row of
    zeros stays so."""
    wide = rows.float()
    scale = wide.abs().amax(1, keepdim=True) / _MOST
    codes = (wide / scale.clamp(min=torch.finfo(torch.float32).tiny)).round_()
    return codes.to(torch.int8), scale


@torch.no_grad()
def to_int8(network: nn.Module, least: int = LEAST) -> int:
    """Put eight bits in the place of all plain linear maps of at least so many inputs and
    outputs, in place; how many. What every token is told (times, modulation) stays exact.

    Raises InvalidValue for a network that has none, and off the CPU."""
    found = [
        (module, name, child)
        for module in network.modules()
        for name, child in module.named_children()
        if type(child) is nn.Linear and min(child.in_features, child.out_features) >= least
    ]
    if not found:
        raise InvalidValue(
            f"No linear map of this {type(network).__name__} has {least} inputs and outputs: "
            "eight bits win nothing.",
            do="Leave int8 out.",
        )
    if any(child.weight.device.type != "cpu" for _, _, child in found):
        raise InvalidValue("Eight bits are for networks on a CPU.", do="Choose bfloat16 here.")
    for module, name, child in found:
        setattr(module, name, Int8Linear(child))
    return len(found)


def bytes_of(network: nn.Module) -> int:
    """What a network's weights take."""
    return sum(one.nbytes for one in (*network.parameters(), *network.buffers()))
