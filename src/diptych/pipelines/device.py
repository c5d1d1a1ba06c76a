"""Where networks run, chosen by what is there."""

from __future__ import annotations

import torch

from diptych.foundation.errors import InvalidValue


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
