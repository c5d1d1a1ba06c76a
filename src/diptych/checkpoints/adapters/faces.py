"""The LoRA inside an IP-Adapter's file, as those for faces (FaceID) were published: it changes the
attentions of the U-Net wherever the adapter is read."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from diptych.adapters.adapter import Adapter, Place
from diptych.adapters.changes import Change, LowRank
from diptych.checkpoints.fill import read_tensors
from diptych.checkpoints.header import Header
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.models.unet import UNet

# Numbered by all attentions of the U-Net: to themselves even, to the words odd.
_NAME = re.compile(r"ip_adapter\.(\d+)\.to_(q|k|v|out)_lora\.(down|up)\.weight")


def face_lora(header: Header, unet: nn.Module, path: Path) -> Adapter | None:
    """What a file has of this, None for nothing. Raises Unreadable for half a pair and tensors
    that are not finite, InvalidValue for layers that the U-Net has not."""
    pairs: dict[tuple[int, str], dict[str, str]] = {}
    for name in header:
        if found := _NAME.fullmatch(name):
            pairs.setdefault((int(found[1]), found[2]), {})[found[3]] = name
    if not pairs:
        return None
    places = _places(unet)
    for (number, part), names in pairs.items():
        if len(names) < 2:
            raise Unreadable(f"{next(iter(names.values()))!r} of {str(path)!r} is half a pair.")
        shape = places.get((number, part), (None, ()))[1]
        ends = tuple(header[names[end]].shape[axis] for end, axis in (("up", 0), ("down", 1)))
        if shape != ends:
            raise InvalidValue(
                f"The LoRA of {path.name!r} was made for another family of models: "
                f"{names['down']!r} does not fit.",
                do="Take one for this model.",
            )
    tensors = read_tensors(header, [name for names in pairs.values() for name in names.values()])
    changes: dict[Place, Change] = {
        Place("unet", places[key][0]): LowRank(tensors[names["up"]], tensors[names["down"]])
        for key, names in pairs.items()
    }
    return Adapter(path.stem, changes)


def _places(unet: nn.Module) -> dict[tuple[int, str], tuple[str, tuple[int, ...]]]:
    """Layers by number and part, with the shapes of their weights."""
    if not isinstance(unet, UNet):
        return {}
    paths = {module: path for path, module in unet.named_modules()}
    found: dict[tuple[int, str], tuple[str, tuple[int, ...]]] = {}
    for number, attention in enumerate(unet.attentions()):
        block = paths[attention].removesuffix("attn2")
        for k, own in enumerate(("attn1", "attn2")):
            for part in ("q", "k", "v", "out"):
                path = f"{block}{own}.to_{part}{'.0' if part == 'out' else ''}"
                shape = tuple(unet.get_parameter(f"{path}.weight").shape)
                found[2 * number + k, part] = path, shape
    return found
