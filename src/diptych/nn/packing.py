"""Convolution weights kept in the order that a CPU wants, so that they are not brought into it in
every call. Other kernels are then chosen: results differ by rounding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def pack(network: nn.Module) -> int:
    """Pack all plain convolutions of a network on a CPU, once more in memory; how many. Those of
    one pixel are matrix products already, and slower packed. Weights that change are packed
    again, and with gradients the plain ones are taken."""
    count = 0
    for module in network.modules():
        # Not what was put in a convolution's place: that has a forward of its own.
        if not isinstance(module, nn.Conv2d) or type(module) is not nn.Conv2d:
            continue
        if module.padding_mode == "zeros" and module.groups == 1 and module.kernel_size != (1, 1):
            vars(module)["forward"] = _Packed(module)
            count += 1
    return count


def unpack(network: nn.Module) -> None:
    """Forget the packed weights."""
    for module in network.modules():
        if isinstance(vars(module).get("forward"), _Packed):
            del vars(module)["forward"]


class _Packed:
    """A convolution's forward."""

    def __init__(self, conv: nn.Conv2d):
        self.conv = conv
        self.of: tuple[int, int, torch.dtype] | None = None
        self.weight: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        conv, weight = self.conv, self.conv.weight
        outside = x.device.type != "cpu" or x.dtype not in _KINDS
        if torch.is_grad_enabled() or outside or x.shape[2] * x.shape[3] >= _PLAIN_FROM:
            return nn.Conv2d.forward(conv, x)
        now = (weight.data_ptr(), weight._version, weight.dtype)
        if now != self.of:
            self.weight, self.of = _packed(conv), now
        return _convolve(
            x, self.weight, conv.bias, conv.padding, conv.stride, conv.dilation, 1, "none", [], ""
        )


def _packed(conv: nn.Conv2d) -> Tensor:
    return _reorder(
        conv.weight.detach().to_mkldnn(), conv.padding, conv.stride, conv.dilation, conv.groups
    )


_KINDS = (torch.float32, torch.bfloat16)
# Cells from which plain kernels are as fast (0.97 to 1.03 of their time, below 0.66 to 0.93): see
# benchmarks/packed_convolutions.py.
_PLAIN_FROM = 24 * 24
_reorder: Callable[..., Tensor] = torch.ops.aten.mkldnn_reorder_conv2d_weight
_convolve: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
