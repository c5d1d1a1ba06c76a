"""Files of what shows pictures to a U-Net: layouts are known by names and shapes, all is applied,
and comes back to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diptych.checkpoints.adapters.faces import face_lora
from diptych.checkpoints.header import Stored, header_of
from diptych.checkpoints.layout import Layout
from diptych.checkpoints.layouts import KINDS, LAYOUTS, parts_of
from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.rules import plan_of, stored_of
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.models.clip_vision import CLIP_VISION_L, OPENCLIP_VISION_BIGG, OPENCLIP_VISION_H
from diptych.models.controlnet import CONTROLNET_SD1, CONTROLNET_SDXL
from diptych.models.controlnet_union import CONTROLNET_UNION_SDXL
from diptych.models.ip_adapter import IP_ADAPTER_PLUS_SD1, IP_ADAPTER_SD1
from diptych.models.t2i_adapter import T2I_ADAPTER_SD1, T2I_ADAPTER_SDXL
from diptych.models.unet import UNet, UNetConfig

FULL = {
    "controlnet-sd1": ("controlnet", CONTROLNET_SD1),
    "controlnet-sdxl": ("controlnet", CONTROLNET_SDXL),
    "controlnet-union": ("controlnet_union", CONTROLNET_UNION_SDXL),
    "t2i-sd1": ("t2i_adapter", T2I_ADAPTER_SD1),
    "t2i-sdxl": ("t2i_adapter", T2I_ADAPTER_SDXL),
    "ip-adapter": ("ip_adapter", IP_ADAPTER_SD1),
    "ip-adapter-plus": ("ip_adapter", IP_ADAPTER_PLUS_SD1),
    "vision-l": ("image_encoder", CLIP_VISION_L),
    "vision-h": ("image_encoder", OPENCLIP_VISION_H),
    "vision-bigg": ("image_encoder", OPENCLIP_VISION_BIGG),
}
CASES = [
    (name, layout)
    for name, (component, _) in FULL.items()
    for layout in LAYOUTS
    if layout.component == component and layout.name != "light"
]
EACH = pytest.mark.parametrize(
    ("name", "layout"), CASES, ids=[f"{name}-{layout.name}" for name, layout in CASES]
)


def built(component: str, config: object) -> nn.Module:
    with torch.device("meta"):
        return KINDS[component].build(config)


@EACH
def test_published_sizes_are_told_by_names_and_shapes(name: str, layout: Layout):
    component, config = FULL[name]
    network = built(component, config)
    plan = plan_of(layout.rules(config), network.state_dict(), layout.prefixes[0])
    stored = stored_of(plan, network.state_dict())
    header = {k: Stored(tuple(t.shape), "F16", Path("x"), 0, 0) for k, t in stored.items()}
    (part,), left = parts_of(header)
    assert part.component == component and part.config == config and not left


def small(name: str) -> nn.Module:
    """The network with an eighth of its channels, drawn; a reader of shapes sees no difference."""
    component, config = FULL[name]
    if component == "ip_adapter":
        config = replace(config, widths=(32, 64), hidden=128, depth=2, heads=2)
    elif component == "image_encoder":
        config = replace(config, width=64, depth=2, heads=1, hidden=96, image_size=28)
    elif component == "t2i_adapter":
        config = replace(config, widths=tuple(width // 8 for width in config.widths))
    else:
        control = getattr(config, "control", config)
        unet = replace(
            control.unet, widths=(64, 128), blocks=1, depths=(0, 1), mid_depth=1, heads=(1, 2),
            context_width=2048 if control.unet.vector_width else 768,
        )  # fmt: skip
        if not unet.linear_projection:
            unet = replace(unet, heads=(8, 8))
        control = replace(control, unet=unet, hint_widths=(8, 16))
        alone = component == "controlnet"
        config = control if alone else replace(config, control=control, width=64)
    torch.manual_seed(0)
    network = KINDS[component].build(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


@EACH
def test_all_is_applied_and_comes_back_to_the_bit(name: str, layout: Layout, tmp_path: Path):
    network = small(name)
    plan = plan_of(layout.rules(network.config), network.state_dict(), layout.prefixes[0])
    path = tmp_path / f"{name}.safetensors"
    stored = {k: t.contiguous() for k, t in stored_of(plan, network.state_dict()).items()}
    save_file(stored, path)
    (found,) = found_in(path)
    assert found.report.applied == found.report.total and not found.report.problems
    assert found.part.layout is layout
    loaded = load(found)
    state = network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.state_dict().items())
    again = stored_of(found.plan, loaded.state_dict())
    assert all(torch.equal(again[key], tensor) for key, tensor in load_file(path).items())


@EACH
def test_what_is_missing_is_named(name: str, layout: Layout, tmp_path: Path):
    network = small(name)
    plan = plan_of(layout.rules(network.config), network.state_dict(), layout.prefixes[0])
    stored = stored_of(plan, network.state_dict())
    lost = sorted(stored)[len(stored) // 2]
    kept = {key: tensor.contiguous() for key, tensor in stored.items() if key != lost}
    save_file(kept, tmp_path / "cut.safetensors")
    with pytest.raises(Unreadable, match=r"is missing|is not whole|No family is known"):
        for one in found_in(tmp_path / "cut.safetensors"):
            one.report.check()


def test_a_face_adapter_that_reads_pictures_too_is_refused_by_name(tmp_path: Path):
    state = small("ip-adapter").state_dict()
    state["image_proj.perceiver_resampler.proj_in.weight"] = torch.zeros(4, 4)
    save_file(state, tmp_path / "face.safetensors")
    with pytest.raises(Unreadable, match=r"FaceID Plus"):
        found_in(tmp_path / "face.safetensors")


def test_half_a_lora_of_a_face_adapter_is_named(tmp_path: Path):
    unet, path, half = UNet(UNetConfig.tiny()), tmp_path / "x.safetensors", "ip_adapter.0.to_q_lora"
    rows, columns = unet.attentions()[0].to_q.weight.shape
    pair = {f"{half}.up.weight": torch.ones(rows, 2), f"{half}.down.weight": torch.ones(2, columns)}
    save_file(pair, path)
    lora = face_lora(header_of(path), unet, path)
    assert lora is not None and lora.ranks == (2,)
    (place,) = lora.changes
    assert place.module.endswith("attn1.to_q")
    save_file({f"{half}.up.weight": torch.ones(rows, 2)}, path)
    with pytest.raises(Unreadable, match=r"to_q_lora\.up.*half a pair"):
        face_lora(header_of(path), unet, path)
    save_file(pair | {f"{half}.down.weight": torch.ones(2, columns + 1)}, path)
    with pytest.raises(InvalidValue, match="another family"):
        face_lora(header_of(path), unet, path)
