"""What is added to a model that paints: networks that show it pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from diptych.adapters.adapter import Adapter
from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.adapters.faces import face_lora
from diptych.checkpoints.load import found_in, load
from diptych.foundation.errors import InvalidValue, Unreadable, unknown
from diptych.models.clip_vision import CLIPVision
from diptych.models.ip_adapter import IPAdapter
from diptych.pipelines.painting import Extras
from diptych.pipelines.steering import Control, ImagePrompt, pixels_of

FOLLOWED = ("controlnet", "controlnet_union", "t2i_adapter")
KINDS = (*FOLLOWED, "ip_adapter")


@dataclass(frozen=True, eq=False)
class Attachment:
    """A network that was added, the account of its file, for an IP-Adapter its encoder, and for one
    that reads faces the LoRA that its file may hold as well."""

    network: nn.Module
    report: LoadReport
    encoder: CLIPVision | None = None
    lora: Adapter | None = None


def read_attachment(
    path: Path, painter: nn.Module, *, encoder: Path | None, variant: str, allow: Sequence[str],
) -> Attachment:  # fmt: skip
    """For the network `painter`, on its device and of its dtype: a ControlNet, T2I- or IP-Adapter
    from a file or folder; an IP-Adapter's image `encoder` from a folder or file of its own. Raises
    NotFound, Unreadable, InvalidValue."""
    found = {one.part.component: one for one in found_in(path, variant=variant, allow=allow)}
    component = next((kind for kind in KINDS if kind in found), "")
    like = next(painter.parameters())
    device, dtype = like.device, like.dtype
    if not component or len(found) > 1:
        raise Unreadable(
            f"{str(path)!r} holds {', '.join(found)}: nothing that is added to a model.",
            do="Added are ControlNets, T2I- and IP-Adapters, LoRA and its like, learnt words.",
        )
    network = load(found[component], dtype).to(device).eval().requires_grad_(False)
    sees = None
    if component == "ip_adapter" and encoder is not None:
        (one,) = found_in(encoder, variant=variant)
        if one.part.component != "image_encoder":
            raise Unreadable(f"{str(encoder)!r} is no image encoder but a {one.part.component}.")
        sees = load(one, dtype).to(device).eval().requires_grad_(False)
        assert isinstance(sees, CLIPVision)
    elif encoder is not None:
        raise InvalidValue(
            f"A {component} has no image encoder.", do="Name one for an IP-Adapter only."
        )
    report, lora = found[component].report, None
    if component == "ip_adapter":
        lora = face_lora(found[component].part.header, painter, path)
    if lora is not None:
        said = f"{len(lora.changes)} layers, rank {lora.ranks[-1]}, wherever it is read"
        report = replace(report, ignored=(), assumed={**report.assumed, "LoRA": said})
        lora = lora.to(device)
    return Attachment(network, report, sees, lora)


def loras_of(
    attached: Mapping[str, Attachment], prompts: Sequence[ImagePrompt]
) -> list[tuple[Adapter, float]]:
    """Those that come with IP-Adapters that are read, as strong as they were trained."""
    names = dict.fromkeys(one.network for one in prompts if isinstance(one.network, str))
    return [(lora, 1.0) for name in names if (lora := attached[name].lora) is not None]


def with_networks(
    attached: Mapping[str, Attachment],
    controls: Sequence[Control],
    prompts: Sequence[ImagePrompt],
) -> tuple[tuple[Control, ...], tuple[ImagePrompt, ...]]:
    """Networks in the place of the names they were added by. Raises NotFound, InvalidValue."""
    followed: list[Control] = []
    for one in controls:
        network = _named(attached, one.network).network if isinstance(one.network, str) else None
        if isinstance(network, IPAdapter):
            raise InvalidValue(
                f"{one.network!r} reads pictures like words.", do="Give it as an image prompt."
            )
        followed.append(replace(one, network=network or one.network))
    read: list[ImagePrompt] = []
    for prompt in prompts:
        if not isinstance(prompt.network, str):
            read.append(prompt)
            continue
        found = _named(attached, prompt.network)
        if not isinstance(found.network, IPAdapter):
            raise InvalidValue(
                f"{prompt.network!r} follows a picture of the painted size.",
                do="Give it as a control.",
            )
        read.append(replace(prompt, network=found.network, encoder=prompt.encoder or found.encoder))
    return tuple(followed), tuple(read)


def _named(attached: Mapping[str, Attachment], name: str) -> Attachment:
    if name not in attached:
        raise unknown("added network", name, attached, see="Add it first.")
    return attached[name]


def told_of(
    extras: Extras, controls: Sequence[Control], prompts: Sequence[ImagePrompt]
) -> dict[str, Any]:
    """What a picture's recipe says of them."""
    told: dict[str, Any] = {"clip_skip": extras.reading.clip_skip}
    if controls:
        told["controls"] = tuple(
            f"{_name(one.network)} x {one.strength:g} from {one.start:g} to {one.end:g} on "
            f"{mark_of(pixels_of(one.picture))}"
            for one in controls
        )
    if prompts:
        told["image_prompts"] = tuple(
            f"{_name(one.network)} x {one.strength:g} on "
            f"{mark_of(one.embedding if one.picture is None else pixels_of(one.picture))}"
            for one in prompts
        )
    return told


def mark_of(values: NDArray[Any] | None) -> str:
    """The first ten digits of the SHA-256 of numbers."""
    content = b"" if values is None else np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(content).hexdigest()[:10]


def _name(network: nn.Module | str) -> str:
    return Path(network).stem if isinstance(network, str) else type(network).__name__
