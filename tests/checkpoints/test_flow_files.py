"""SD3 and FLUX in one file: every tensor has its place, of the published sizes too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.checkpoints.families import flux, sd3, t5
from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.rules import shape_of
from diptych.checkpoints.write import plans_of, write_single_file
from diptych.foundation.errors import Unreadable
from diptych.models.autoencoder_sd import FLUX_VAE, SD3_VAE, AutoencoderSD
from diptych.models.clip_text import CLIP_L, OPENCLIP_BIGG, CLIPText
from diptych.models.flux import FLUX_CONTROL, FLUX_DEV, FLUX_FILL, FLUX_SCHNELL, Flux, FluxConfig
from diptych.models.sd3 import SD3, SD3_MEDIUM, SD35_LARGE, SD35_MEDIUM, SD3Config
from diptych.models.t5_encoder import T5_XXL, T5Encoder
from tests.checkpoints.test_full_size import Shapes, hollow
from tests.tiny_flow import FLOWS, tiny_flow, tiny_flow_file

every_family = pytest.mark.parametrize("family", FLOWS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("flows")
    return {name: tiny_flow_file(folder / f"{name}.safetensors", name) for name in FLOWS}


@every_family
def test_all_is_applied_and_comes_back_to_the_bit(family: str, files, tmp_path: Path):
    drawn = tiny_flow(family)
    found = {one.part.component: one for one in found_in(files[family])}
    assert found.keys() == drawn.keys()
    for one in found.values():
        assert one.report.applied == one.report.total > 10 and not one.report.problems
        assert not one.report.ignored
    assert found["transformer"].report.family == family
    networks = {name: load(one) for name, one in found.items()}
    for name, network in networks.items():
        assert network.config == drawn[name].config
        mine, theirs = network.state_dict(), drawn[name].state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    again = write_single_file(tmp_path / "again.safetensors", networks)
    assert again.read_bytes() == files[family].read_bytes()


def test_the_matrices_of_the_original_layouts(files):
    """As the publishers' programs cut them."""
    stored, ours = load_file(files["flux-dev"]), tiny_flow("flux-dev")["transformer"].state_dict()
    single = "single_transformer_blocks.1"
    parts = [f"{single}.{name}.bias" for name in ("attn.to_q", "attn.to_k", "attn.to_v")]
    whole = stored["model.diffusion_model.single_blocks.1.linear1.bias"]
    assert torch.equal(
        torch.cat([ours[name] for name in [*parts, f"{single}.proj_mlp.bias"]]), whole
    )
    last = stored["model.diffusion_model.final_layer.adaLN_modulation.1.bias"].chunk(2)
    assert torch.equal(torch.cat([last[1], last[0]]), ours["norm_out.linear.bias"])
    stored, ours = load_file(files["sd3"]), tiny_flow("sd3")["transformer"].state_dict()
    words = stored["model.diffusion_model.joint_blocks.1.context_block.adaLN_modulation.1.bias"]
    mine = ours["transformer_blocks.1.norm1_context.linear.bias"].chunk(2)
    assert torch.equal(torch.cat([mine[1], mine[0]]), words)
    assert torch.equal(stored["model.diffusion_model.pos_embed"], ours["pos_embed.pos_embed"])


@pytest.mark.parametrize("family", ["flux-dev", "flux-fill"])
def test_a_transformer_alone_has_no_prefix(family: str, tmp_path: Path):
    drawn = tiny_flow(family)["transformer"]
    path = write_single_file(tmp_path / "flux.safetensors", {"transformer": drawn})
    assert "double_blocks.0.img_attn.qkv.weight" in load_file(path)
    (found,) = found_in(path)
    assert (found.part.component, found.report.family) == ("transformer", family)
    network, state = load(found), drawn.state_dict()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_t5_alone_and_tied_the_other_way(tmp_path: Path):
    drawn = tiny_flow("flux-dev")["text_encoder_2"].state_dict()
    tensors = {key: value.contiguous() for key, value in drawn.items()}
    for name, change in {
        "plain": {},
        "twice": {"encoder.embed_tokens.weight": tensors["shared.weight"].clone()},
        "other": {"encoder.embed_tokens.weight": tensors["shared.weight"], "shared.weight": None},
    }.items():
        path = tmp_path / f"{name}.safetensors"
        save_file({k: v for k, v in (tensors | change).items() if v is not None}, path)
        (found,) = found_in(path)
        network = load(found)
        assert found.report.ignored == (("encoder.embed_tokens.weight",) if name == "twice" else ())
        assert all(torch.equal(drawn[key], value) for key, value in network.state_dict().items())


_LINEAR1 = "model.diffusion_model.single_blocks.0.linear1.weight"
_T5 = "text_encoders.t5xxl.transformer."
_QKV = "model.diffusion_model.joint_blocks.1.context_block.attn.qkv.bias"
BROKEN = {
    "missing": ("flux-dev", _LINEAR1, None, "linear1.weight' is missing"),
    "misshaped": ("flux-dev", _LINEAR1, (7, 3), r"linear1.weight' is \[7, 3\], not \[896, 128\]"),
    "of another": ("flux-schnell", f"{_LINEAR1}.lora", (3,), "lora' has no place"),
    "a query": ("sd3", _QKV, None, "context_block.attn.qkv.bias' is missing"),
    "a stray T5": ("sd3", f"{_T5}decoder.x", (3,), "decoder.x' has no place"),
    "no square": ("sd3", "model.diffusion_model.pos_embed", (1, 63, 128), "63 places"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_an_error_that_names_it(kind: str, files, tmp_path: Path):
    family, name, shape, said = BROKEN[kind]
    tensors: dict[str, Tensor] = load_file(files[family])
    tensors.pop(name, None)
    if shape is not None:
        tensors[name] = torch.ones(shape)
    save_file(tensors, tmp_path / "broken.safetensors")
    with pytest.raises(Unreadable, match=said):
        for one in found_in(tmp_path / "broken.safetensors"):
            one.report.check()


def test_what_differs_by_family_alone_is_told(files):
    for family, scale in (("sd3", "1.5305, shift 0.0609"), ("flux-dev", "0.3611, shift 0.1159")):
        found = {one.part.component: one.report for one in found_in(files[family])}
        assert found["vae"].assumed["scale"] == scale
    large = {one.part.component: one.report for one in found_in(files["sd3.5-large"])}
    assert "turbo" in large["transformer"].assumed["steps and guidance"]


def test_a_vae_alone_is_taken_for_that_of_flux(files, tmp_path: Path):
    vae = tiny_flow("sd3")["vae"]
    path = write_single_file(tmp_path / "vae.safetensors", {"vae": vae}, family="sd3")
    (found,) = found_in(path)
    assert found.part.config.scale == FLUX_VAE.scale and "SD3" in found.report.assumed["scale"]


# What is published in one file, and how it is written.
SD3_WORDS = {"text_encoder": CLIP_L, "text_encoder_2": OPENCLIP_BIGG, "text_encoder_3": T5_XXL}
FLUX_WORDS = {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL}
FULL = {
    "sd3": {"transformer": SD3_MEDIUM, "vae": SD3_VAE, **SD3_WORDS},
    "sd3.5-medium": {"transformer": SD35_MEDIUM, "vae": SD3_VAE},
    "sd3.5-large": {"transformer": SD35_LARGE, "vae": SD3_VAE},
    "flux-dev": {"transformer": FLUX_DEV, "vae": FLUX_VAE, **FLUX_WORDS},
    "flux-schnell": {"transformer": FLUX_SCHNELL},
    "flux-fill": {"transformer": FLUX_FILL},
    "flux-control": {"transformer": FLUX_CONTROL},
}
_KINDS = {SD3Config: SD3, FluxConfig: Flux, type(CLIP_L): CLIPText, type(T5_XXL): T5Encoder,
          type(FLUX_VAE): AutoencoderSD}  # fmt: skip


def shapes_of(family: str) -> Shapes:
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            name: _KINDS[type(config)](config) for name, config in FULL[family].items()
        }
    shapes: Shapes = {}
    for name, plan in plans_of(networks).items():
        state = networks[name].state_dict()
        shapes |= {take.theirs: shape_of(take, tuple(state[take.ours].shape)) for take in plan}
    return shapes


@pytest.mark.parametrize("family", FULL)
def test_a_file_of_the_published_size(family: str, tmp_path: Path):
    found = {
        one.part.component: one
        for one in found_in(hollow(tmp_path / "whole.safetensors", shapes_of(family)))
    }
    assert {name: one.part.config for name, one in found.items()} == FULL[family]
    assert found["transformer"].report.family == family
    assert all(one.report.applied == one.report.total for one in found.values())
    assert not any(one.report.problems or one.report.ignored for one in found.values())


@pytest.mark.parametrize(
    ("family", "last"),
    [("sd3", "joint_blocks.23."), ("sd3.5-large", "joint_blocks.37."),
     ("flux-dev", "double_blocks.18."), ("flux-schnell", "single_blocks.37.")],
)  # fmt: skip
def test_a_file_without_its_last_layers_is_not_taken_for_a_smaller_one(
    family: str, last: str, tmp_path: Path
):
    cut = {name: shape for name, shape in shapes_of(family).items() if last not in name}
    with pytest.raises(Unreadable, match=rf"{last}.*is missing"):
        for one in found_in(hollow(tmp_path / "cut.safetensors", cut)):
            one.report.check()


SAID = {
    "activation": (t5, {"feed_forward_proj": "relu"}, "feed_forward_proj = 'relu'"),
    "T5": (t5, {"feed_forward_proj": "gated-gelu", "d_x": 3}, "d_x = 3"),
    "norm": (sd3, {"qk_norm": "layer_norm"}, "qk_norm = 'layer_norm'"),
    "captions": (sd3, {"caption_projection_dim": 7}, "caption_projection_dim = 7"),
    "patch": (flux, {"patch_size": 2}, "patch_size = 2"),
    "axes": (flux, {"axes_dims_rope": [16, 16, 16]}, "attention_head_dim = 128"),
    "channels": (flux, {"in_channels": 63}, "63 channels"),
}


@pytest.mark.parametrize("kind", SAID)
def test_a_config_that_is_not_built_is_refused_by_name(kind: str):
    family, content, said = SAID[kind]
    usual = {
        sd3: {"num_attention_heads": 24, "caption_projection_dim": 1536},
        flux: {"attention_head_dim": 128},
        t5: {},
    }
    with pytest.raises(Unreadable, match=said):
        family.config_of_json(usual[family] | content)


def test_configs_of_folders():
    content = {"num_attention_heads": 24, "num_layers": 24, "caption_projection_dim": 1536,
               "pos_embed_max_size": 192, "_class_name": "SD3Transformer2DModel"}  # fmt: skip
    assert sd3.config_of_json(content) == SD3_MEDIUM
    medium = {"qk_norm": "rms_norm", "dual_attention_layers": list(range(13)),
              "pos_embed_max_size": 384}  # fmt: skip
    assert sd3.config_of_json(content | medium) == SD35_MEDIUM
    content = {"attention_head_dim": 128, "guidance_embeds": True, "in_channels": 64}
    assert flux.config_of_json(content) == FLUX_DEV
    assert flux.config_of_json(content | {"in_channels": 384, "out_channels": 64}) == FLUX_FILL
    content = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
               "feed_forward_proj": "gated-gelu"}  # fmt: skip
    assert t5.config_of_json(content) == replace(T5_XXL, depth=24)
