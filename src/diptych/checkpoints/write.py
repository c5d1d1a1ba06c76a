"""Networks written as one file in the original layout, which every program of this kind reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from diptych.checkpoints.families.scheduler import PREDICTIONS, V_MARK, ZERO_TERMINAL_MARK
from diptych.checkpoints.folder import read_json, save_tensors
from diptych.checkpoints.header import header_of
from diptych.checkpoints.layout import Layout
from diptych.checkpoints.layouts import KINDS, LAYOUTS, kind_of
from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.rules import Take, plan_of, stored_of
from diptych.foundation.errors import InvalidValue

# Of each component the layout of whole-model files, and where it begins there.
_Places = dict[str, tuple[str, str]]
_EACH: _Places = {
    "unet": ("original", "model.diffusion_model."),
    "vae": ("original", "first_stage_model."),
}
_JOINT: _Places = {
    "transformer": ("original", "model.diffusion_model."),
    "text_encoder": ("with text_model", "text_encoders.clip_l.transformer."),
}
_ALONGSIDE: _Places = {
    "transformer": ("original", "model.diffusion_model."),
    "vae": ("original", "vae."),
}
_ALONE: _Places = {"transformer": ("original", "")}
WHOLE: dict[str, _Places] = {
    "sd1": _EACH | {"text_encoder": ("with text_model", "cond_stage_model.transformer.")},
    "sd2": _EACH | {"text_encoder": ("OpenCLIP", "cond_stage_model.model.")},
    "sdxl": _EACH
    | {
        "text_encoder": ("with text_model", "conditioner.embedders.0.transformer."),
        "text_encoder_2": ("OpenCLIP", "conditioner.embedders.1.model."),
    },
    "sdxl-refiner": _EACH | {"text_encoder_2": ("OpenCLIP", "conditioner.embedders.0.model.")},
    "sd3": _JOINT
    | {
        "vae": ("original", "first_stage_model."),
        "text_encoder_2": ("with text_model", "text_encoders.clip_g.transformer."),
        "text_encoder_3": ("T5", "text_encoders.t5xxl.transformer."),
    },
    "flux": _JOINT
    | {
        "vae": ("original", "vae."),
        "text_encoder_2": ("T5", "text_encoders.t5xxl.transformer."),
    },
    "clip": {"clip": ("folder", "")},
    "siglip": {"siglip": ("folder", "")},
    **{
        # As ComfyUI writes them whole.
        name: _ALONGSIDE | {"text_encoder": encoder}
        for name, encoder in {
            "pixart-alpha": ("T5", "text_encoders.t5xxl.transformer."),
            "pixart-sigma": ("T5", "text_encoders.t5xxl.transformer."),
            "lumina2": ("Gemma with its head", "text_encoders.gemma2_2b.transformer."),
        }.items()
    },
    # No file of these is known that holds more.
    "dit": _ALONE,
    "lumina-next": _ALONE,
}
# As they were published: the transformer in a file of its own.
_IN_PARTS = ("flux", "lumina2", "pixart-alpha", "pixart-sigma")
# Families whose files are alike.
_ALIKE = {"sd3.5-medium": "sd3", "sd3.5-large": "sd3"} | dict.fromkeys(
    ("flux-dev", "flux-schnell", "flux-fill", "flux-control"), "flux"
)


def write_single_file(
    path: Path,
    networks: Mapping[str, nn.Module],
    dtype: torch.dtype | None = None,
    *,
    family: str = "",
    prediction: str = "eps",
    zero_terminal: bool = False,
) -> Path:
    """`networks`: components by name (`unet` or `transformer`, `vae`, `text_encoder`, ...), one or
    all. `dtype` for floating-point tensors, None for what they have. `family`: where none of them
    tells it. `prediction`: `v` is told by a mark, and by another that its schedule ends in noise
    alone, `zero_terminal`. Written whole or not at all.

    Raises InvalidValue for a component that has no place in such a file, NotWritten.
    """
    marks = ((V_MARK, prediction == "v"), (ZERO_TERMINAL_MARK, zero_terminal))
    tensors = {mark: torch.empty(0) for mark, said in marks if said}
    places = _places(networks, family)
    for name, plan in plans_of(networks, family).items():
        layout, prefix = _layout(name, places[name][0], networks[name]), places[name][1]
        made = layout.made(networks[name].config)
        stored = stored_of(plan, networks[name].state_dict())
        for key, tensor in (stored | {prefix + key: made[key] for key in made}).items():
            kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
            tensors[key] = tensor.detach().to(kind).contiguous()
    return save_tensors(path, tensors, {"format": "pt"})


def write_file_of(
    source: Path, out: Path, dtype: torch.dtype | None = None, *, variant: str = ""
) -> Path:
    """A pipeline's folder, a component's, or a file, as one file in the original layout. What the
    network predicts is taken from the folder's schedule. Raises as `write_single_file`, NotFound,
    Unreadable."""
    if out.exists():
        raise InvalidValue(f"{str(out)!r} is there already.", do="Name another with -o.")
    found = found_in(source, variant=variant)
    said = source / "scheduler" / "scheduler_config.json"
    content = read_json(said) if said.is_file() else {}
    marks = header_of(source) if source.is_file() else {}
    v = PREDICTIONS.get(content.get("prediction_type", "epsilon")) == "v" or V_MARK in marks
    zero = bool(content.get("rescale_betas_zero_snr")) or ZERO_TERMINAL_MARK in marks
    networks = {one.part.component: load(one) for one in found}
    family = next((one.report.family for one in found if one.report.family != "any"), "")
    return write_single_file(
        out, networks, dtype, family=family, prediction="v" if v else "eps", zero_terminal=zero
    )


def plans_of(networks: Mapping[str, nn.Module], family: str = "") -> dict[str, list[Take]]:
    """Where every tensor of each component lies in a whole-model file. Raises InvalidValue."""
    places, plans = _places(networks, family), dict[str, list[Take]]()
    for name, network in networks.items():
        if name not in places:
            known = ", ".join(places)
            raise InvalidValue(f"{name!r} has no place in one file.", do=f"Known: {known}.")
        layout, prefix = _layout(name, places[name][0], network), places[name][1]
        plans[name] = plan_of(layout.rules(network.config), network.state_dict(), prefix)
    return plans


def _places(networks: Mapping[str, nn.Module], family: str) -> _Places:
    for network in networks.values():
        told = {
            kind.family(network.config) for kind in KINDS.values() if kind.build is type(network)
        }
        family = next((name for name in told if name != "any"), family)
    family = _ALIKE.get(family, family)
    if family in _IN_PARTS and set(networks) == {"transformer"}:
        return _ALONE
    if family not in WHOLE:
        known = ", ".join(WHOLE)
        raise InvalidValue(f"The family {family!r} has no such files.", do=f"family: {known}.")
    return WHOLE[family]


def _layout(component: str, name: str, network: nn.Module) -> Layout:
    """Of this name, for this network: families call different networks alike."""
    for row in LAYOUTS:
        if (row.component, row.name) == (component, name) and kind_of(row).build is type(network):
            return row
    raise InvalidValue(f"{component!r} of such a file is no {type(network).__name__}.")
