"""How the times of a flow are shifted, as a folder's scheduler_config.json says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.presets import Preset
from diptych.diffusion.spacings import shift_for_tokens
from diptych.foundation.errors import Unreadable


def flow_preset_of(preset: Preset, content: Mapping[str, Any]) -> Preset:
    """The family's preset as this file has it. Raises Unreadable for what is not built here."""
    kind = content.get("_class_name", "FlowMatchEulerDiscreteScheduler")
    if not str(kind).startswith("FlowMatch"):
        raise Unreadable(f"A flow with a {kind} is not built here.")
    said = PublishedConfig(content, "A scheduler")
    said.only("num_train_timesteps", 1000)
    for key in ("invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
                "stochastic_sampling"):  # fmt: skip
        said.only(key, False)
    said.only("shift_terminal", None)
    said.only("time_shift_type", "exponential")
    shift = said.take("shift", 1.0)
    low = said.take("base_image_seq_len", 256), said.take("base_shift", 0.5)
    high = said.take("max_image_seq_len", 4096), said.take("max_shift", 1.15)
    if not said.take("use_dynamic_shifting", False):
        said.end()
        return replace(preset, shift=float(shift))
    said.end()
    by_tokens = partial(shift_for_tokens, low=low, high=high)
    return replace(preset, shift=lambda tokens, steps: by_tokens(tokens))
