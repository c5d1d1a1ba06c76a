"""Files of CLIP, SigLIP and vision towers: what transformers writes and what the first programs
wrote is known, applied whole, and comes back to the bit; what is not built is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

from diptych.checkpoints.header import Stored
from diptych.checkpoints.layout import Layout
from diptych.checkpoints.layouts import LAYOUTS, kind_of, parts_of
from diptych.checkpoints.load import Found, found_in, load
from diptych.checkpoints.rules import plan_of, shape_of, stored_of
from diptych.checkpoints.write import write_single_file
from diptych.foundation.errors import Unreadable
from diptych.models.clip import CLIP_B32, CLIP_L14_336, OPENCLIP_H14
from diptych.models.siglip import SIGLIP_B16, SIGLIP_SO400M_384
from diptych.models.vision_tower import DINOV2_B, DINOV2_G, INTERNVIT_300M

Tensors = dict[str, Tensor]
SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 20,
    "patch_size": 4,
}  # fmt: skip
BODY = {**SIZES, "intermediate_size": 40}
WORDS = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "vocab_size": 40, "max_position_embeddings": 10,
}  # fmt: skip
SAVED: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "CLIP": ("clip", "folder", lambda: hf.CLIPModel(
        hf.CLIPConfig(vision_config=BODY, text_config=WORDS, projection_dim=20))),
    "SigLIP": ("siglip", "folder", lambda: hf.SiglipModel(
        hf.SiglipConfig(vision_config=BODY, text_config=WORDS))),
    "SigLIP tower": ("vision_tower", "SigLIP", lambda: hf.SiglipVisionModel(
        hf.SiglipVisionConfig(**BODY))),
    "PaliGemma's tower": ("vision_tower", "SigLIP", lambda: hf.SiglipVisionModel(
        hf.SiglipVisionConfig(**BODY, vision_use_head=False))),
    "CLIP tower": ("image_encoder", "folder", lambda: hf.CLIPVisionModel(
        hf.CLIPVisionConfig(**BODY))),
    "DINOv2": ("vision_tower", "DINOv2", lambda: hf.Dinov2Model(hf.Dinov2Config(**SIZES))),
    "DINOv2 giant": ("vision_tower", "DINOv2", lambda: hf.Dinov2Model(
        hf.Dinov2Config(**SIZES, use_swiglu_ffn=True))),
    "DINOv2, registers": ("vision_tower", "DINOv2", lambda: hf.Dinov2WithRegistersModel(
        hf.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3))),
    "ViT": ("vision_tower", "pooled ViT", lambda: hf.ViTModel(hf.ViTConfig(**BODY))),
    "ViT, not pooled": ("vision_tower", "ViT", lambda: hf.ViTModel(
        hf.ViTConfig(**BODY), add_pooling_layer=False)),
    "InternViT": ("vision_tower", "InternViT", lambda: hf.InternVLVisionModel(
        hf.InternVLVisionConfig(**BODY))),
    "Idefics3's tower": ("vision_tower", "SigLIP", lambda: Idefics3VisionTransformer(
        hf.Idefics3VisionConfig(**BODY))),
}  # fmt: skip
every_saved = pytest.mark.parametrize("name", SAVED)


def drawn(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return network.eval()


def only(found: list[Found]) -> Found:
    (one,) = found
    one.report.check()
    return one


def comes_back(one: Found, tensors: Tensors) -> None:
    """All but what is ignored, to the bit."""
    stored = stored_of(one.plan, load(one).state_dict())
    assert stored.keys() == tensors.keys() - set(one.report.ignored)
    for key, tensor in stored.items():
        assert tensor.shape == tensors[key].shape and torch.equal(tensor, tensors[key])


def same_outputs(ours: nn.Module, theirs: Any) -> None:
    image = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(2))
    words = torch.randint(38, (2, 10), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        if hasattr(theirs, "text_model"):
            out = theirs(pixel_values=image, input_ids=words)
            seen = ours.encode_image(image)
            torch.testing.assert_close(seen, out.image_embeds, rtol=1e-4, atol=1e-5)
            said = ours.encode_text(words)
            torch.testing.assert_close(said, out.text_embeds, rtol=1e-4, atol=1e-5)
        else:
            out, own = theirs(image), ours(image)
            last = own.layers[-1] if hasattr(own, "layers") else own.last
            torch.testing.assert_close(last, out.last_hidden_state, rtol=1e-4, atol=1e-5)


@every_saved
def test_what_transformers_saves_is_loaded_and_comes_back(name: str, tmp_path: Path):
    component, layout, make = SAVED[name]
    theirs = drawn(make())
    theirs.save_pretrained(tmp_path)
    one = only(found_in(tmp_path))
    assert (one.part.component, one.report.layout) == (component, layout)
    assert one.report.applied == one.report.total
    same_outputs(load(one), theirs)
    comes_back(one, load_file(tmp_path / "model.safetensors"))


NEWER = [name for name in SAVED if name.startswith(("DINOv2", "ViT"))]


@pytest.mark.parametrize("name", NEWER)
def test_names_of_the_network_in_memory_are_known_too(name: str, tmp_path: Path):
    theirs = drawn(SAVED[name][2]())
    theirs.config.save_pretrained(tmp_path)
    tensors = {key: value.contiguous() for key, value in theirs.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    one = only(found_in(tmp_path))
    assert "newer names" in one.report.layout
    same_outputs(load(one), theirs)
    comes_back(one, tensors)


def test_older_towers_have_a_prefix(tmp_path: Path):
    """As transformers 4 saved SigLIP's tower: `vision_model.` before everything."""
    theirs = drawn(SAVED["SigLIP tower"][2]())
    theirs.config.save_pretrained(tmp_path)
    tensors = {f"vision_model.{key}": value for key, value in theirs.state_dict().items()}
    tensors["vision_model.embeddings.position_ids"] = torch.arange(25)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    one = only(found_in(tmp_path))
    assert one.report.ignored == ("vision_model.embeddings.position_ids",)
    same_outputs(load(one), theirs)
    comes_back(one, tensors)


def test_a_classifier_is_named_and_the_tower_below_its_prefix_found(tmp_path: Path):
    theirs = drawn(hf.ViTForImageClassification(hf.ViTConfig(**BODY)))
    theirs.save_pretrained(tmp_path)
    (one,) = found_in(tmp_path)
    with pytest.raises(Unreadable, match=r"'classifier\.(weight|bias)' has no place"):
        one.report.check()
    one = only(found_in(tmp_path, allow=("classifier.weight", "classifier.bias")))
    same_outputs(load(one), theirs.vit)


# Files without a config beside them. The widths are those of which a head is known.
FULL = {
    "clip": (CLIP_B32, CLIP_L14_336, OPENCLIP_H14),
    "siglip": (SIGLIP_B16, SIGLIP_SO400M_384),
    "vision_tower": (DINOV2_B, DINOV2_G, SIGLIP_B16.vision),
}
# Which layouts a tower can be in.
FITS = {DINOV2_B: "original DINOv2", DINOV2_G: "original DINOv2"}
ALONE = [
    (config, layout)
    for component, configs in FULL.items()
    for config in configs
    for layout in LAYOUTS
    if layout.component == component
    and (component != "vision_tower" or layout.name in (FITS.get(config, ""), "timm", "SigLIP"))
    and not (config in FITS and layout.name != FITS[config])
]
each_alone = pytest.mark.parametrize(
    ("config", "layout"), ALONE, ids=[f"{type(c).__name__}-{row.name}" for c, row in ALONE]
)


def shapes_of(config: object, layout: Layout) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = kind_of(layout).build(config)
    state = network.state_dict()
    plan = plan_of(layout.rules(config), state, layout.prefixes[0])
    return {take.theirs: shape_of(take, tuple(state[take.ours].shape)) for take in plan}


@each_alone
def test_published_sizes_are_told_by_names_and_shapes(config: Any, layout: Layout):
    shapes = shapes_of(config, layout)
    if layout.component == "clip" and config.vision.activation == "quick_gelu":
        shapes |= {"input_resolution": ()} if layout.name != "folder" else {}
    header = {name: Stored(shape, "F16", Path("x"), 0, 0) for name, shape in shapes.items()}
    (part,), left = parts_of(header)
    assert part.layout.name == layout.name and part.config == config and not left


def smaller(config: Any) -> Any:
    """With few layers and a width of which nothing is known but 64 channels a head."""
    if hasattr(config, "vision"):
        text = replace(config.text, vocabulary=50, width=128, heads=2, hidden=96, depth=2)
        vision = smaller(config.vision)
        if type(config).__name__ == "SigLIPConfig":
            return replace(config, vision=vision, text=replace(text, projection=64))
        return replace(config, vision=vision, text=text, projection=64)
    size = 2 * config.patch_size
    return replace(config, image_size=size, width=64, depth=2, heads=1, hidden=96)


@each_alone
def test_a_file_alone_is_loaded_and_comes_back(config: Any, layout: Layout, tmp_path: Path):
    config = smaller(config)
    network = drawn(kind_of(layout).build(config))
    plan = plan_of(layout.rules(config), network.state_dict(), layout.prefixes[0])
    tensors = {k: v.contiguous() for k, v in stored_of(plan, network.state_dict()).items()}
    save_file(tensors, tmp_path / "one.safetensors")
    one = only(found_in(tmp_path / "one.safetensors"))
    assert one.report.layout == layout.name
    loaded = load(one).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())
    comes_back(one, tensors)
    cut = {key: value for key, value in tensors.items() if key != sorted(tensors)[-1]}
    save_file({**cut, "stray": torch.zeros(1)}, tmp_path / "cut.safetensors")
    with pytest.raises(Unreadable):
        for found in found_in(tmp_path / "cut.safetensors"):
            found.report.check()


@pytest.mark.parametrize("quick", [True, False])
def test_openclip_is_told_its_gelu_by_the_file_beside(quick: bool, tmp_path: Path):
    layout = next(row for row in LAYOUTS if (row.component, row.name) == ("clip", "OpenCLIP"))
    config = smaller(CLIP_B32)
    network = drawn(kind_of(layout).build(config))
    plan = plan_of(layout.rules(config), network.state_dict())
    tensors = stored_of(plan, network.state_dict())
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "a.safetensors")
    assert only(found_in(tmp_path / "a.safetensors")).report.assumed["activation"] == "gelu"
    said = {"model_cfg": {"quick_gelu": quick}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
    one = only(found_in(tmp_path / "a.safetensors"))
    wanted = "quick_gelu" if quick else "gelu"
    assert one.part.config.vision.activation == one.part.config.text.activation == wanted


def test_internvit_of_the_first_repository(tmp_path: Path):
    layout = next(row for row in LAYOUTS if row.name == "original InternViT")
    config = smaller(INTERNVIT_300M)
    config = replace(config, qkv_bias=True, qk_norm=True)
    network = drawn(kind_of(layout).build(config))
    plan = plan_of(layout.rules(config), network.state_dict())
    tensors = {k: v.contiguous() for k, v in stored_of(plan, network.state_dict()).items()}
    assert tensors["embeddings.class_embedding"].shape == (1, 1, 64)
    assert tensors["encoder.layers.1.attn.qkv.weight"].shape == (192, 64)
    said = {
        "model_type": "intern_vit_6b", "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 1, "intermediate_size": 96, "image_size": 28, "patch_size": 14,
        "qkv_bias": True, "qk_normalization": True, "initializer_factor": 0.1,
        "norm_type": "layer_norm", "layer_norm_eps": 1e-6, "use_flash_attn": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(said))
    save_file(tensors, tmp_path / "model.safetensors")
    one = only(found_in(tmp_path))
    assert one.part.config == config
    comes_back(one, tensors)


@pytest.mark.parametrize("config", [smaller(CLIP_B32), smaller(SIGLIP_B16)], ids=["clip", "siglip"])
def test_networks_are_written_as_one_file(config: Any, tmp_path: Path):
    name = "clip" if config.projection and type(config).__name__ == "CLIPConfig" else "siglip"
    layout = next(row for row in LAYOUTS if row.component == name)
    network = drawn(kind_of(layout).build(config))
    path = write_single_file(tmp_path / "one.safetensors", {name: network})
    one = only(found_in(path))
    loaded = load(one).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("visual.layer1.0.conv1.weight", "ResNet"),
        ("visual.trunk.stem.0.weight", "ConvNeXt"),
        ("visual.trunk.cls_token", "class token"),
        ("visual.blocks.0.attn.q_bias", "EVA-CLIP"),
    ],
)
def test_what_is_not_built_is_refused_by_name(key: str, said: str, tmp_path: Path):
    save_file({key: torch.zeros(2), "logit_scale": torch.zeros(())}, tmp_path / "a.safetensors")
    with pytest.raises(Unreadable, match=said):
        found_in(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("SigLIP", {"model_type": "siglip2"}, "NaFlex"),
        ("CLIP", {"model_type": "metaclip_2"}, "metaclip_2"),
        ("ViT", {"model_type": "beit"}, "'beit'"),
        ("ViT", {"hidden_act": "swish"}, "'swish'"),
        ("ViT", {"image_size": [20, 24]}, "not square"),
        ("DINOv2", {"new_word": 3}, "new_word"),
    ],
)
def test_a_config_of_something_else_is_refused(
    name: str, change: dict[str, Any], said: str, tmp_path: Path
):
    drawn(SAVED[name][2]()).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(Unreadable, match=said):
        found_in(tmp_path)


def test_siglip_of_any_size_is_told_by_its_patches():
    shapes = shapes_of(SIGLIP_B16, next(row for row in LAYOUTS if row.component == "siglip"))
    shapes["vision_model.embeddings.patch_embedding.weight"] = (768, 768)
    header = {name: Stored(shape, "F16", Path("x"), 0, 0) for name, shape in shapes.items()}
    with pytest.raises(Unreadable, match="NaFlex"):
        parts_of(header)


def test_old_configs_say_everything_twice(tmp_path: Path):
    """`text_config_dict` holds what differs from the defaults and wins over `text_config`."""
    theirs = drawn(SAVED["CLIP"][2]())
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content |= {
        "text_config_dict": {**WORDS, "eos_token_id": 2},
        "text_config": {"hidden_size": 512, "top_k": 50, "num_beams": 1, "id2label": {"0": "A"}},
        "vision_config_dict": None,
    }
    path.write_text(json.dumps(content))
    one = only(found_in(tmp_path))
    assert one.part.config.text.width == 24 and one.part.config.text.eos == 49407
    comes_back(one, load_file(tmp_path / "model.safetensors"))
