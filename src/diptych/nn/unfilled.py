"""Networks without memory, to be filled from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules that are made inside are on the meta device, and nothing is drawn for them: drawing
    there would load PyTorch's compiler, which takes longer than all else at the start."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DRAWS_INTO:
            return args[0] if args else given["tensor"]
        if func in _SCALES and len(args) == 2 and isinstance(args[1], int | float):
            return args[0]
        return _MADE.get(func, func)(*args, **given)


_DRAWS_INTO = {
    Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_,
    nn.init.xavier_uniform_, nn.init.trunc_normal_,
}  # fmt: skip
# What was drawn, times a number.
_SCALES = {Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
_MADE = {torch.randn: torch.empty, torch.rand: torch.empty}
