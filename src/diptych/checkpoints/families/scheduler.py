"""How a model was trained, as its files say it, as a preset: path and prediction, by a folder's
scheduler_config.json or by the marks of a single file. The solver, the steps and the guidance stay
the preset's: they are no property of the weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.presets import Preset
from diptych.diffusion.paths import (
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.diffusion.spacings import SPACINGS
from diptych.foundation.errors import Unreadable

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
# Names without content that some single files of Stable Diffusion have (ComfyUI's convention).
V_MARK, ZERO_TERMINAL_MARK = "v_pred", "ztsnr"
_BETAS: dict[str, Callable[[float, float, int], list[float]]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": lambda first, last, steps: cosine_betas(steps),
}


def preset_of(preset: Preset, content: Mapping[str, Any]) -> Preset:
    """The family's preset as this file has it. Raises Unreadable for what is not built here."""
    said = content.get("prediction_type", "epsilon")
    schedule = content.get("beta_schedule", "linear")
    if said not in PREDICTIONS:
        raise Unreadable(f"A prediction_type of {said!r} is not built here.")
    if schedule not in _BETAS or content.get("trained_betas") is not None:
        raise Unreadable(f"A beta_schedule of {schedule!r} is not built here.")
    first, last = content.get("beta_start", 1e-4), content.get("beta_end", 0.02)
    path = vp_of_betas(_BETAS[schedule](first, last, content.get("num_train_timesteps", 1000)))
    if content.get("rescale_betas_zero_snr"):
        # Noise alone must be among the nodes, else its training was in vain.
        return replace(
            preset,
            path=zero_terminal(path),
            prediction=PREDICTIONS[said],
            spacing="trailing",
            spacing_options={},
            solver="euler",
        )
    spacing, options = content.get("timestep_spacing", preset.spacing), preset.spacing_options
    if spacing != preset.spacing and spacing in SPACINGS:
        # As the turbo models have it, whose few steps must begin at noise.
        options = {"offset": content.get("steps_offset", 0)} if spacing == "leading" else {}
    spacing = spacing if spacing in SPACINGS else preset.spacing
    prediction = PREDICTIONS[said]
    return replace(
        preset, path=path, prediction=prediction, spacing=spacing, spacing_options=options
    )


def preset_by_marks(preset: Preset, names: Collection[str]) -> Preset:
    """The preset of a family of Stable Diffusion as the names in a single file have it."""
    if V_MARK not in names:
        return preset
    said = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": ZERO_TERMINAL_MARK in names,
    }
    return preset_of(preset, said)
