"""A file or folder to networks, with the full account of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diptych.checkpoints.account import LoadReport, account, named, sorted_out
from diptych.checkpoints.families.scheduler import V_MARK
from diptych.checkpoints.families.sd_unet import family_of
from diptych.checkpoints.fill import fill
from diptych.checkpoints.folder import read_json
from diptych.checkpoints.header import Header, files_of, header_of
from diptych.checkpoints.layout import Part
from diptych.checkpoints.layouts import COMPONENTS, IGNORABLE, MARKS, kind_of, parts_of
from diptych.checkpoints.rules import Take, nearest, plan_of
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.foundation.progress import Report, silent
from diptych.models.autoencoder_sd import FLUX_VAE, SD3_VAE, SDXL_VAE
from diptych.models.unet import UNetConfig
from diptych.nn.unfilled import without_memory


@dataclass(frozen=True)
class Found:
    """A component before any tensor is read: its network without memory, plan and report."""

    part: Part
    network: nn.Module
    plan: list[Take]
    report: LoadReport


def found_in(
    path: Path,
    *,
    variant: str = "",
    allow: Sequence[str] = (),
    content: Mapping[str, Any] | None = None,
) -> list[Found]:
    """The components of a single file, of a component's folder, or of a pipeline's folder.
    `content`: of a config.json that tells the config of a single file's one component.

    Raises NotFound or Unreadable; problems of the account stand in the reports, whose `check`
    raises them.
    """
    if path.is_dir() and (path / "model_index.json").is_file():
        found = _of_pipeline(path, variant)
    elif path.is_dir():
        found = _of_folder(path, variant)
    else:
        found = _of_file(path, content)
    problems = {problem.name: problem for one in found for problem in one.report.problems}
    for name in allow:
        if name not in problems:
            what = f"allow names {name!r}, and nothing is wrong with that{nearest(name, problems)}."
            raise InvalidValue(what, do="Leave it out.")
        if problems[name].kind != "unused":
            what = f"{problems[name].said}, and a network without it paints nothing."
            raise InvalidValue(what, do="allow= is for tensors that have no place.")
    return [replace(one, report=replace(one.report, allowed=tuple(allow))) for one in found]


def load(found: Found, dtype: torch.dtype | None = None, report: Report = silent) -> nn.Module:
    """The network of a component, filled. Raises Unreadable for problems and broken tensors."""
    found.report.check()
    fill(found.network, found.plan, found.part.header, dtype, report)
    return found.network


def _of_pipeline(path: Path, variant: str) -> list[Found]:
    listed = read_json(path / "model_index.json")
    found: list[Found] = []
    left_out: list[str] = []
    for name, said in listed.items():
        if name.startswith("_") or not isinstance(said, list) or said == [None, None]:
            continue
        if name in COMPONENTS:
            # The oldest folders of one network have its files beside model_index.json.
            flat = not (path / name).is_dir() and (path / "config.json").is_file()
            found += _of_folder(path if flat else path / name, variant, name)
        elif name in _LEFT_OUT:
            left_out.append(f"{name}/")
        elif (path / name / "config.json").is_file():
            raise Unreadable(f"The component {name!r} of {str(path)!r} is not built here yet.")
    if not found:
        raise NotFound(f"{str(path / 'model_index.json')!r} names no component that is known.")
    first, *others = found
    ignored = (*first.report.ignored, *left_out)
    return [replace(first, report=replace(first.report, ignored=ignored)), *others]


# Components that painting does without; the report names them.
_LEFT_OUT = ("safety_checker", "feature_extractor")


def _of_folder(path: Path, variant: str, component: str = "") -> list[Found]:
    header: Header = {}
    for file in files_of(path, variant):
        header |= header_of(file)
    content = read_json(path / "config.json")
    parts, left = parts_of(header, content=content, component=component)
    return _with_strangers([_accounted(part) for part in parts], left)


# What an autoencoder's latents are moved and multiplied by stands in no file, and its shapes are
# all alike. By the first word of a family.
_SCALED = {
    "sdxl": SDXL_VAE, "sdxl-refiner": SDXL_VAE, "sd3": SD3_VAE, "sd3.5": SD3_VAE, "flux": FLUX_VAE,
    "pixart-sigma": SDXL_VAE,
}  # fmt: skip


# What folders of a family call T5, which is SD3's third; by the first word of a family.
_ENCODERS = {"flux": "text_encoder_2", "pixart": "text_encoder"}


def _of_file(path: Path, content: Mapping[str, Any] | None = None) -> list[Found]:
    parts, left = parts_of(header_of(path), content=content)
    marks = [mark for mark in MARKS if mark in left]
    named = [kind_of(part.layout).family(part.config) for part in parts]
    family = next((name for name in named if name != "any"), "")
    found = [_accounted(_settled(part, family, marks)) for part in parts]
    return _with_strangers(found, {k: v for k, v in left.items() if k not in marks})


def _settled(part: Part, family: str, marks: list[str]) -> Part:
    """A part of one file, with what the rest of that file says of it."""
    scaled = _SCALED.get(family) or _SCALED.get(family.split("-")[0])
    if part.component == "vae" and scaled is not None:
        config = replace(part.config, scale=scaled.scale, shift=scaled.shift)
        said = f"{config.scale:g}" + (f", shift {config.shift:g}" if config.shift else "")
        return replace(part, config=config, assumed=part.assumed | {"scale": said})
    if part.component == "text_encoder_3" and family.split("-")[0] in _ENCODERS:
        return replace(part, component=_ENCODERS[family.split("-")[0]])
    if part.component == "unet" and V_MARK in marks:
        said = f"v, for there is {' and '.join(marks)}"
        return replace(part, assumed=part.assumed | {"prediction": said})
    return part


def _accounted(part: Part) -> Found:
    with without_memory():
        network = kind_of(part.layout).build(part.config)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    plan = plan_of(part.layout.rules(part.config), shapes, part.prefix)
    ignorable = [re.escape(part.prefix) + pattern for pattern in part.layout.ignorable]
    problems, ignored = account(plan, shapes, part.header, ignorable=[*ignorable, *IGNORABLE])
    wrong = {problem.name for problem in problems if problem.kind != "unused"}
    report = LoadReport(
        component=part.component,
        family=_family(part),
        layout=part.layout.name,
        parameters=sum(tensor.numel() for tensor in network.parameters()),
        dtypes=tuple(sorted({one.dtype for one in part.header.values()})),
        applied=sum(take.theirs not in wrong for take in plan),
        total=len(plan),
        ignored=tuple(ignored),
        assumed=part.assumed,
        problems=tuple(problems),
    )
    return Found(part, network, plan, report)


def _family(part: Part) -> str:
    """As the network tells it, or that of the U-Net it belongs to; `any` where that does not
    matter."""
    told, config = kind_of(part.layout).family(part.config), part.config
    while told == "any" and not isinstance(config, UNetConfig):
        inner = getattr(config, "unet", None) or getattr(config, "control", None)
        if inner is None:
            return _OF_WIDTH.get(getattr(config, "context_width", 0), "any")
        config = inner
    return family_of(config) if told == "any" else told


# Of words, which are told apart by nothing else.
_OF_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl"}


def _with_strangers(found: list[Found], left: Header) -> list[Found]:
    """Tensors of the file that belong to no component are problems of the first."""
    ignored, strange = sorted_out(left, IGNORABLE)
    known = [take.theirs for one in found for take in one.plan]
    strangers = named("unused", strange, "has no place", known)
    first, *others = found
    report = replace(
        first.report,
        ignored=(*first.report.ignored, *ignored),
        problems=(*first.report.problems, *strangers),
    )
    return [replace(first, report=report), *others]
