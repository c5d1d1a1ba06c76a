"""An adapter written in a dialect, so that it is read back as it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.adapters.adapter import Adapter, Place
from diptych.adapters.changes import Change, Dora, Full, LowRank
from diptych.adapters.fused import Rows
from diptych.checkpoints.adapters.endings import (
    ALPHA,
    BIAS,
    DORA_SCALE,
    DOWN,
    MAGNITUDE,
    STYLES,
    UP_BIAS,
)
from diptych.checkpoints.adapters.kinds import parts_of
from diptych.checkpoints.adapters.names import plans_of
from diptych.checkpoints.adapters.said import METADATA
from diptych.checkpoints.folder import save_tensors
from diptych.checkpoints.rules import Take, ours_of, shape_of
from diptych.foundation.errors import InvalidValue, unknown
from diptych.models.t5_encoder import T5Encoder


@dataclass(frozen=True)
class Written:
    """A dialect: of each component the start of names and the layout of the rest; ends of names
    by part; `flat`: underscores for dots; `alphas`: beside the tensors, or in the metadata."""

    starts: Mapping[str, str]
    layouts: Mapping[str, str]
    ends: Mapping[str, str]
    flat: bool = False
    alphas: bool = True


_KOHYA = {
    **STYLES["LoHa"], **STYLES["LoKr"], **STYLES["LyCORIS"], **STYLES["ComfyUI"],
    **STYLES["all"], **STYLES["kohya"], MAGNITUDE: STYLES["LyCORIS"][DORA_SCALE],
}  # fmt: skip
_STARTS = {
    "unet": "lora_unet_", "transformer": "lora_unet_", "text_encoder": "lora_te_",
    "text_encoder_2": "lora_te2_", "text_encoder_3": "lora_te3_",
}  # fmt: skip
_TEXT_MODEL = {"text_encoder": "with text_model", "text_encoder_2": "with text_model"}
DIALECTS: dict[str, Written] = {
    "kohya": Written(_STARTS, _TEXT_MODEL, _KOHYA, flat=True),
    # As trainers write whose networks have the original layout: SDXL, FLUX, SD3.
    "kohya, original": Written(
        _STARTS, _TEXT_MODEL | dict.fromkeys(("unet", "transformer"), "original"), _KOHYA, flat=True
    ),
    "PEFT": Written(
        {name: f"{name}." for name in _STARTS}, _TEXT_MODEL, STYLES["PEFT"], alphas=False
    ),
}  # fmt: skip


def write_adapter(
    path: Path, adapter: Adapter, networks: Mapping[str, nn.Module], dialect: str = "kohya"
) -> Path:
    """Written whole or not at all. `networks` are those that the adapter changes, by name.

    Raises NotFound for an unknown dialect, InvalidValue for a change that has no form in it,
    NotWritten.
    """
    if dialect not in DIALECTS:
        raise unknown("dialect", dialect, DIALECTS)
    metadata = {"format": "pt"}
    if not DIALECTS[dialect].alphas and (configs := _configs(adapter)):
        metadata[METADATA] = json.dumps(configs, sort_keys=True)
    return save_tensors(path, tensors_of(adapter, networks, dialect), metadata)


def tensors_of(
    adapter: Adapter, networks: Mapping[str, nn.Module], dialect: str
) -> dict[str, Tensor]:
    """The tensors of its file by name. Raises InvalidValue."""
    how = DIALECTS[dialect]
    made: dict[str, Tensor] = {}
    for component, takes in _by_layer(adapter, networks, how):
        start = how.starts[component]
        if start == "lora_te_" and len([name for name in networks if "text" in name]) > 1:
            start = "lora_te1_"
        if how.flat and isinstance(networks[component], T5Encoder):
            start = _STARTS["text_encoder_3"]  # of FLUX too, where it is the second
        layer = takes[0].theirs.rpartition(".")[0]
        target = start + (layer.replace(".", "_") if how.flat else layer)
        parts = _parts(component, takes, adapter, networks[component])
        for part, tensor in _magnitudes(parts, how).items():
            if part == ALPHA and not how.alphas:
                continue
            if part not in how.ends:
                raise InvalidValue(
                    f"{target!r} has a part that {dialect} has no name for: {part}.",
                    do="Write it in the dialect 'kohya'.",
                )
            made[target + how.ends[part]] = tensor.contiguous()
    return made


def _magnitudes(parts: dict[str, Tensor], how: Written) -> dict[str, Tensor]:
    """DoRA's magnitudes as the dialect lays them: kohya along their axis, PEFT along the second
    of a convolution and else the only one. Those of columns PEFT does not know."""
    ones = [1] * (parts[DOWN].ndim - 1) if DOWN in parts else [1]
    if MAGNITUDE in parts and how.flat:
        parts[MAGNITUDE] = parts[MAGNITUDE].reshape(-1, *ones)
    elif DORA_SCALE in parts and not how.flat and len(parts[DORA_SCALE]) > 1:
        found = parts.pop(DORA_SCALE)
        parts[MAGNITUDE] = found.flatten() if len(ones) == 1 else found.reshape(1, -1, *ones[1:])
    return parts


def _by_layer(
    adapter: Adapter, networks: Mapping[str, nn.Module], how: Written
) -> Iterable[tuple[str, list[Take]]]:
    """Our weights, those of one stored layer together, in the order of the network."""
    touched = {(place.component, place.module) for place in adapter.changes}
    left = set(touched)
    for component, network in networks.items():
        named = plans_of(component, network)
        plans = {layout: plan for dialect, layout, plan in named if not dialect}
        layers: dict[str, list[Take]] = {}
        # T5 has no layout of CLIP's, whichever of the encoders it is.
        for take in plans.get(how.layouts.get(component, "folder"), plans["folder"]):
            module, _, leaf = take.ours.rpartition(".")
            if leaf == "weight":
                layers.setdefault(take.theirs, []).append(take)
                left.discard((component, module))
        for takes in layers.values():
            if any((component, take.ours.rpartition(".")[0]) in touched for take in takes):
                yield component, takes
    if left:
        raise InvalidValue(f"{'.'.join(min(left))!r} is no layer that has a name in files.")


def _parts(
    component: str, takes: Sequence[Take], adapter: Adapter, network: nn.Module
) -> dict[str, Tensor]:
    """All that is stored of one layer."""
    found: list[tuple[Take, dict[str, Change]]] = []
    for take in takes:
        module = take.ours.rpartition(".")[0]
        leaves = {
            leaf: change
            for leaf in ("weight", "bias")
            if (change := adapter.changes.get(Place(component, module, leaf))) is not None
        }
        found.append((take, leaves))
    parts: dict[str, Tensor] = {}
    weights = [(take, leaves.get("weight")) for take, leaves in found]
    rows = [network.get_parameter(take.ours).shape[0] for take in takes]
    change = _stored(weights, rows)
    if change is not None:
        parts |= parts_of(change)
    biases = [(take, leaves.get("bias")) for take, leaves in found]
    bias = _stored(biases, rows)
    if isinstance(bias, Full):
        scale = change.scale if isinstance(change, LowRank) else 1.0
        parts[BIAS if bias.scale == 1 else UP_BIAS] = bias.diff
        if bias.scale not in (1, scale):
            raise InvalidValue("A bias that is scaled apart from its weight cannot be written.")
    elif bias is not None:
        raise InvalidValue(f"A bias that is changed as a {type(bias).__name__} cannot be written.")
    return parts


def _stored(changes: Sequence[tuple[Take, Change | None]], rows: Sequence[int]) -> Change | None:
    """Changes of ours that lie in one stored weight -> its change."""
    found = [(take, change) for take, change in changes if change is not None]
    if not found:
        return None
    take, first = found[0]
    whole = shape_of(take, (rows[0],))[0]
    orders = [ours_of(take, torch.arange(whole)) for take, _ in changes]
    if len(changes) == 1 and torch.equal(orders[0], torch.arange(whole)):
        return first
    if isinstance(first, Rows) and all(
        isinstance(change, Rows) and change.change is first.change for _, change in changes
    ):
        return first.change
    each = [change for _, change in changes]
    both = zip(each, orders, strict=True)
    thin = [(change, order) for change, order in both if isinstance(change, LowRank)]
    if len(thin) == len(found):
        return _joined(thin, whole)
    if all(isinstance(change, Full) and change.scale == 1 for change in each):
        diff = torch.cat([change.diff for change in each if isinstance(change, Full)])
        return Full(torch.empty_like(diff).index_copy_(0, torch.cat(orders), diff))
    raise InvalidValue(
        f"A {type(first).__name__} of a part of {take.theirs!r} has no form in files.",
        do="Write it in a dialect whose layers are ours.",
    )


def _joined(found: Sequence[tuple[LowRank, Tensor]], whole: int) -> LowRank:
    """LoRAs of parts of a matrix -> of the whole: those that share their `down` lie above each
    other, as they were read; others on a diagonal."""
    first = found[0][0]
    kind = first.up.dtype
    if all(
        (part.alpha, part.stabilized, part.mid) == (first.alpha, first.stabilized, None)
        and torch.equal(part.down, first.down)
        for part, _ in found
    ):
        up = torch.zeros(whole, *first.up.shape[1:], dtype=kind)
        for part, order in found:
            up[order] = part.up
        return replace(first, up=up)
    kind = torch.promote_types(kind, torch.float32)
    up = torch.zeros(whole, sum(part.rank for part, _ in found), dtype=kind)
    column = 0
    for part, order in found:
        up[order, column : column + part.rank] = part.up.flatten(1).to(kind) * part.scale
        column += part.rank
    return LowRank(up, torch.cat([part.down.to(kind) for part, _ in found]))


def _configs(adapter: Adapter) -> dict[str, Any]:
    """PEFT's configs, by component, of layers whose alpha is not their rank."""
    by_component: dict[str, dict[str, LowRank]] = {}
    for place, change in adapter.changes.items():
        change = change.change if isinstance(change, Dora) else change
        if isinstance(change, LowRank):
            by_component.setdefault(place.component, {})[place.module] = change
    configs: dict[str, Any] = {}
    for component, layers in by_component.items():
        if all(change.scale == 1 for change in layers.values()):
            continue
        if len({change.stabilized for change in layers.values()}) > 1:
            raise InvalidValue("PEFT stabilizes all ranks or none.", do="Write another dialect.")
        alphas = {n: _short(c.rank if c.alpha is None else c.alpha) for n, c in layers.items()}
        ranks = {name: change.rank for name, change in layers.items()}
        alpha, rank = (Counter(said.values()).most_common(1)[0][0] for said in (alphas, ranks))
        said = {
            "peft_type": "LORA", "r": rank, "lora_alpha": alpha,
            "rank_pattern": {n: r for n, r in ranks.items() if r != rank},
            "alpha_pattern": {n: a for n, a in alphas.items() if a != alpha},
            "use_rslora": next(iter(layers.values())).stabilized,
            "target_modules": sorted(layers),
        }  # fmt: skip
        configs |= {f"{component}.{key}": value for key, value in said.items()}
    return configs


def _short(number: float) -> float:
    """Whole numbers without a point, as PEFT has them."""
    return int(number) if number == int(number) else number
