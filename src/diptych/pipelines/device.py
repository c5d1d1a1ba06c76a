"""Where networks run and what they compute in, chosen by what is there."""

from __future__ import annotations

import torch

from diptych.foundation.errors import InvalidValue, unknown

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def device_of(wanted: str | None) -> torch.device:
    """The named device, or CUDA, MPS, CPU in this order. Raises InvalidValue."""
    if wanted is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidValue(
            f"The device {wanted!r} is not there.", do="Leave it out, or say 'cpu'."
        ) from error
    return device


def dtype_of(wanted: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype wanted, by name or as torch's; or what fits the device: float32 on a CPU, else
    bfloat16 where it is multiplied in hardware, else float16. Raises NotFound naming the
    nearest right one."""
    if wanted is not None:
        name = str(wanted).removeprefix("torch.")
        if name not in DTYPES:
            raise unknown("dtype", name, DTYPES)
        return DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float16
