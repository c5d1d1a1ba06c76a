"""Device, precision and processes: one configured `accelerate.Accelerator`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from diptych.training.plan import Settings


def accelerator_of(settings: Settings, precision: str, run: Path) -> Accelerator:
    """An Accelerator for these settings; the libraries must be there."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState
    from accelerate.utils import ProjectConfiguration

    # The state is one per process and refuses a second precision; runs do not share it.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=settings.accumulation,
        log_with=list(settings.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(run), logging_dir=str(run)),
    )
    if precision == "fp16" and accelerator.scaler is None:
        # Accelerate would train in fp32 on a CPU without a word; torch scales there as well.
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)
    return accelerator


def resolved_precision(wanted: str) -> str:
    """auto -> bf16 where the machine multiplies it in hardware, else fp32."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        fast = torch.cuda.get_device_capability() >= (8, 0)
    else:
        fast = _cpu_multiplies_bf16()
    return "bf16" if fast else "fp32"


def _cpu_multiplies_bf16() -> bool:
    # Emulated bf16 is slower than fp32. The question has no public name in torch yet.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    asks: list[Any] = [getattr(torch.cpu, name, None) for name in names]
    return any(ask() for ask in asks if ask is not None)
