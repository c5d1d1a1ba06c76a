"""Published models by their family: which program reads a folder or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.load import Found, found_in
from diptych.foundation.errors import Unreadable
from diptych.foundation.progress import Report, silent
from diptych.pipelines.attachments import KINDS
from diptych.pipelines.flow_transformer_files import FLOW_FAMILIES, read_flow_transformer
from diptych.pipelines.painting import Painting
from diptych.pipelines.pixel_files import PIXEL_FAMILIES, beside, read_pixels
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.stable_diffusion_files import FAMILIES, need, read_stable_diffusion
from diptych.pipelines.transformer_files import TRANSFORMERS, read_transformer

Read = tuple[Painting, Sampling, tuple[LoadReport, ...]]
Reader = Callable[[Path, Mapping[str, Found], torch.dtype, Report], Read]

# What paints, of the components that a model may have.
_PAINTERS = ("unet", "transformer")
# What a folder may have beside, as pipelines of ControlNets were saved.
BESIDE = (*KINDS, "image_encoder")
READERS: dict[str, Reader] = {
    **dict.fromkeys(FAMILIES, read_stable_diffusion),
    **dict.fromkeys(FLOW_FAMILIES, read_flow_transformer),
    **dict.fromkeys(TRANSFORMERS, read_transformer),
    **dict.fromkeys(PIXEL_FAMILIES, read_pixels),
}


def is_published(path: Path) -> bool:
    """Whether this is a published folder or a weight file, and not a folder of ours."""
    return path.is_file() or (path / "model_index.json").is_file()


def read_published(
    path: Path,
    dtype: torch.dtype,
    *,
    variant: str = "",
    allow: Sequence[str] = (),
    report: Report = silent,
) -> Read:
    """The networks, the recommended sampling, and the account of every component.

    Raises NotFound or Unreadable; every file is accounted for before any tensor is read.
    """
    every = found_in(path, variant=variant, allow=allow, content=beside(path))
    found = {one.part.component: one for one in every}
    painter = next((name for name in _PAINTERS if name in found), "")
    if not painter:
        need(path, found, _PAINTERS[0])
    name = found[painter].report.family
    if name not in READERS:
        raise Unreadable(
            f"{name} is not painted with here yet.", do="docs/checkpoints.md lists what is."
        )
    for one in found.values():
        one.report.check()
    painting, sampling, reports = READERS[name](path, found, dtype, report)
    return painting, sampling, tuple(_with_use(one) for one in reports)


def _with_use(report: LoadReport) -> LoadReport:
    """The account of a component that painting by words does not use says so."""
    if report.component not in BESIDE:
        return report
    said = "none by itself: TextToImage.add uses its folder"
    return replace(report, assumed={**report.assumed, "use": said})
