"""A step that came out as no number, made once more in float32."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.resuming import finite
from diptych.pipelines.text_to_image import PaintState, together

HALF = (torch.float16, torch.bfloat16)


def in_doubt(networks: Painting, state: PaintState) -> bool:
    """Whether float32 may give numbers where this has none."""
    return networks.dtype in HALF and not finite(state)


def once_more(networks: Painting, request: Request, before: PaintState) -> PaintState:
    """The step from `before` in float32, its words read anew, for half precision may have spoilt
    them as well. Its request alone: the bits depend on nobody else. What the network kept of the
    step before is in half precision and left out."""
    with in_float32(networks.modules()):
        told = tuple(networks.tell(request))
        (moved,) = together(networks, [replace(before, told=told, kept=())])
    return replace(moved, told=before.told, kept=())


@contextmanager
def in_float32(modules: Iterable[nn.Module]) -> Generator[None]:
    """Parameters and buffers in float32, and then the very ones of before, to the bit. Takes three
    times the memory of half precision meanwhile."""
    tensors = {
        id(one): one
        for module in modules
        for one in (*module.parameters(), *module.buffers())
        if one.dtype in HALF
    }
    before = [(one, one.data) for one in tensors.values()]
    try:
        # Made here they would be of inference only, which a parameter cannot hold.
        with torch.inference_mode(False), torch.no_grad():
            for one, data in before:
                one.data = data.float()
        yield
    finally:
        for one, data in before:
            one.data = data
