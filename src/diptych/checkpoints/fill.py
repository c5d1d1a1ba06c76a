"""Tensors of a file put into a network that was built without memory.

Where the type fits, a tensor stays where it lies in the mapped file; where it does not, its bytes
are read and converted one tensor at a time, so that the peak is the network and one tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.checkpoints.header import Header, Stored
from diptych.checkpoints.rules import Take, ours_of
from diptych.foundation.errors import Unreadable
from diptych.foundation.progress import Progress, Report, silent

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def fill(
    network: nn.Module,
    plan: Sequence[Take],
    header: Header,
    dtype: torch.dtype | None = None,
    report: Report = silent,
) -> None:
    """Assign every tensor of the plan; afterwards no parameter is on the meta device.

    `dtype` for floating-point tensors, None for what the file has. The network is left in
    evaluation mode, without gradients. Raises Unreadable for a tensor that is not finite, and for
    one that is stored twice and is not the same.
    """
    state: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}  # what several of ours are part of is read once
    left = Counter(take.theirs for take in plan)
    with ExitStack() as files:
        opened: dict[Path, Any] = {}
        for done, take in enumerate(plan, 1):
            if take.theirs not in read:
                read[take.theirs] = _read(files, opened, take.theirs, header[take.theirs], dtype)
            for name in take.also:
                again = _read(files, opened, name, header[name], dtype)
                if not torch.equal(again, read[take.theirs]):
                    raise Unreadable(
                        f"{name!r} and {take.theirs!r} are one tensor stored twice, and differ.",
                        do="The file is damaged, or its blocks were trained apart.",
                    )
            state[take.ours] = ours_of(take, read[take.theirs])
            left[take.theirs] -= 1
            if not left[take.theirs]:
                del read[take.theirs]
            report(Progress(done, len(plan), "tensors"))
    network.load_state_dict(state, strict=False, assign=True)
    empty = [name for name, tensor in network.state_dict().items() if tensor.is_meta]
    if empty:
        raise RuntimeError(f"{empty[0]} was in no plan")
    network.requires_grad_(False).eval()


def read_tensors(header: Header, names: Sequence[str]) -> dict[str, Tensor]:
    """Tensors as the files have them, mapped. Raises Unreadable for what is not finite."""
    with ExitStack() as files:
        opened: dict[Path, Any] = {}
        return {name: _read(files, opened, name, header[name], None) for name in names}


def _read(
    files: ExitStack, opened: dict[Path, Any], name: str, stored: Stored, dtype: torch.dtype | None
) -> Tensor:
    kind = DTYPES[stored.dtype]
    if dtype is None or kind == dtype or not kind.is_floating_point:
        from safetensors import safe_open

        if stored.file not in opened:
            opened[stored.file] = files.enter_context(safe_open(stored.file, framework="pt"))
        tensor = opened[stored.file].get_tensor(name)
    else:
        content = bytearray(stored.end - stored.begin)
        with stored.file.open("rb") as file:
            file.seek(stored.begin)
            file.readinto(content)
        flat = torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
        tensor = flat.view(stored.shape).to(dtype)
    if tensor.is_floating_point() and tensor.numel():
        low, high = tensor.aminmax()  # one pass, and NaN is both
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise Unreadable(
                f"{name!r} in {str(stored.file)!r} holds values that are not finite.",
                do="The file is damaged, or its numbers left the range of float16.",
            )
    return tensor
