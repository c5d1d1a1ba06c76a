"""Networks written as one file in the original layout, which every program of this kind reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from diptych.checkpoints.folder import save_tensors
from diptych.checkpoints.layouts import LAYOUTS, Layout
from diptych.checkpoints.rules import plan_of, stored_of
from diptych.foundation.errors import InvalidValue

# Of each component the layout of whole-model files, and where it begins there.
_WHOLE = {"unet": "original", "vae": "original", "text_encoder": "with text_model"}


def write_single_file(
    path: Path, networks: Mapping[str, nn.Module], dtype: torch.dtype | None = None
) -> Path:
    """`networks`: components by name (`unet`, `vae`, `text_encoder`), one or all. `dtype` for
    floating-point tensors, None for what they have. Written whole or not at all.

    Raises InvalidValue for a component that has no place in such a file, NotWritten.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, network in networks.items():
        layout = _layout(name)
        state = network.state_dict()
        plan = plan_of(layout.rules(network.config), state, layout.prefixes[0])
        for key, tensor in stored_of(plan, state).items():
            kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
            tensors[key] = tensor.detach().to(kind).contiguous()
    return save_tensors(path, tensors, {"format": "pt"})


def _layout(name: str) -> Layout:
    for layout in LAYOUTS:
        if layout.component == name and layout.name == _WHOLE.get(name):
            return layout
    raise InvalidValue(f"{name!r} has no place in one file.", do=f"Known: {', '.join(_WHOLE)}.")
