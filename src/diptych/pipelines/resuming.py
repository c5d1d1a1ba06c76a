"""A picture under way as a file, and back: it goes on at its step to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diptych.diffusion import kernel
from diptych.foundation.errors import Unreadable
from diptych.foundation.files import write_with
from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.text_to_image import PaintState, prepare


def resumable(state: PaintState) -> bool:
    """Whether all that it has come to is in its latents: not where the network keeps things of a
    picture from step to step."""
    return not any(state.kept)


def write_state(path: Path, state: PaintState) -> Path:
    """All that steps have changed, as safetensors. Raises NotWritten."""
    solving = state.solving
    tensors: dict[str, Tensor] = {"base": solving.base, "x": solving.x}
    tensors |= {f"stored.{k}": slot for k, slot in enumerate(solving.stored)}
    if state.momentum is not None:
        tensors["momentum"] = state.momentum
    # Each its own memory: `base` and `x` are often one tensor, which the format refuses.
    apart = {name: one.detach().cpu().clone().contiguous() for name, one in tensors.items()}
    return write_with(
        path, lambda to: save_file(apart, str(to), metadata={"step": str(state.step)})
    )


def read_state(path: Path, networks: Painting, request: Request) -> PaintState:
    """The state of a request as it was written. Raises Unreadable for a file that is not of it."""
    begun = prepare(networks, request)
    try:
        with safe_open(path, framework="pt") as file:
            step = int((file.metadata() or {})["step"])
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise Unreadable(f"{path.name} is no picture under way.") from error
    shape = begun.solving.x.shape
    if any(one.shape != shape for one in found.values()) or not {"base", "x"} <= found.keys():
        raise Unreadable(f"{path.name} is of another request.")
    if not 0 <= step <= len(begun.table):
        raise Unreadable(f"{path.name} stands at step {step} of {len(begun.table)}.")
    placed = {name: one.to(begun.solving.x) for name, one in found.items()}
    stored = [placed[f"stored.{k}"] for k in range(kernel.SLOTS) if f"stored.{k}" in placed]
    solving = kernel.State(placed["base"], placed["x"], tuple(stored))
    return replace(begun, solving=solving, momentum=placed.get("momentum"), step=step)


def finite(state: PaintState) -> bool:
    """Whether the latents are numbers still."""
    return bool(torch.isfinite(state.solving.x).all())
