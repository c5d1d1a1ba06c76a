"""PixArt, DiT and Lumina in their original layouts: every tensor has its place, of the published
sizes too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.checkpoints.families import dit, gemma, lumina, pixart, unet_adm
from diptych.checkpoints.folder import write_network
from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.rules import plan_of, shape_of, stored_of
from diptych.checkpoints.write import write_single_file
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.models.dit import DIT_XL_2, DiT
from diptych.models.gemma_encoder import GEMMA2_2B, GEMMA_2B, GemmaEncoder
from diptych.models.lumina2 import LUMINA2, Lumina2
from diptych.models.lumina_next import LUMINA_NEXT, LuminaNext
from diptych.models.pixart import PIXART_ALPHA, PIXART_SIGMA, PixArt
from diptych.models.unet_adm import ADM_IMAGENET_64, DDPM_CIFAR10
from tests.checkpoints.test_full_size import Shapes, hollow
from tests.tiny_transformers import (
    DIT,
    TRANSFORMERS,
    one_of_each,
    tiny_transformer,
    tiny_transformer_file,
)

every_family = pytest.mark.parametrize("family", TRANSFORMERS)
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("transformers")
    return {
        name: tiny_transformer_file(folder / f"{name}.safetensors", name) for name in TRANSFORMERS
    }


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@every_family
def test_all_is_applied_and_comes_back_to_the_bit(family: str, files, tmp_path: Path):
    drawn = tiny_transformer(family)
    (found,) = found_in(files[family])
    assert found.report.family == family and found.report.layout == "original"
    assert found.report.applied == found.report.total > 30 and not found.report.problems
    # Where patches stand is made anew.
    places = ["pos_embed"] if family.startswith(("dit", "pixart")) else []
    assert list(found.report.ignored) == places
    network = load(found)
    assert network.config == drawn.config and same(network, drawn)
    again = write_single_file(tmp_path / "again.safetensors", {"transformer": network})
    assert again.read_bytes() == files[family].read_bytes()


# For each family: names of theirs, and of ours that they are made of, side by side.
MATRICES = {
    "dit": {
        "blocks.1.attn.qkv.bias": [f"transformer_blocks.1.attn1.to_{n}.bias" for n in "qkv"],
        "y_embedder.embedding_table.weight": ["emb.class_embedder.embedding_table.weight"],
        "blocks.0.adaLN_modulation.1.weight": ["transformer_blocks.0.norm1.linear.weight"],
        "final_layer.adaLN_modulation.1.bias": ["proj_out_1.bias"],
    },
    "pixart-alpha": {
        "blocks.1.attn.qkv.weight": [f"transformer_blocks.1.attn1.to_{n}.weight" for n in "qkv"],
        "blocks.0.cross_attn.kv_linear.bias": [
            f"transformer_blocks.0.attn2.to_{n}.bias" for n in "kv"
        ],
        "blocks.1.scale_shift_table": ["transformer_blocks.1.scale_shift_table"],
        "final_layer.scale_shift_table": ["scale_shift_table"],
        "csize_embedder.mlp.2.weight": ["adaln_single.emb.resolution_embedder.linear_2.weight"],
        "ar_embedder.mlp.0.bias": ["adaln_single.emb.aspect_ratio_embedder.linear_1.bias"],
        "t_block.1.weight": ["adaln_single.linear.weight"],
    },
    "lumina-next": {
        "layers.1.attention.wq.weight": ["layers.1.attn2.to_q.weight"],
        "layers.1.attention.wv_y.weight": ["layers.1.attn2.to_v.weight"],
        "layers.0.attention.ky_norm.bias": ["layers.0.attn2.norm_k.bias"],
        "layers.0.attention.gate": ["layers.0.gate"],
        "layers.0.attention_norm1.weight": ["layers.0.norm1.norm.weight"],
        "layers.0.attention_y_norm.weight": ["layers.0.norm1_context.weight"],
        "x_embedder.weight": ["patch_embedder.proj.weight"],
        "pad_token": ["pad_token"],
    },
    "lumina2": {
        "layers.1.attention.qkv.weight": [f"layers.1.attn.to_{n}.weight" for n in "qkv"],
        "context_refiner.0.attention_norm1.weight": ["context_refiner.0.norm1.weight"],
        "noise_refiner.0.attention_norm1.weight": ["noise_refiner.0.norm1.norm.weight"],
        "noise_refiner.0.attention.out.weight": ["noise_refiner.0.attn.to_out.0.weight"],
        "layers.0.feed_forward.w3.weight": ["layers.0.feed_forward.linear_3.weight"],
        "final_layer.linear.bias": ["norm_out.linear_2.bias"],
        "cap_embedder.1.weight": ["time_caption_embed.caption_embedder.1.weight"],
    },
}


@pytest.mark.parametrize("family", MATRICES)
def test_the_matrices_of_the_original_layouts(family: str, files):
    """As the publishers' programs name and cut them."""
    stored, ours = load_file(files[family]), tiny_transformer(family).state_dict()
    for theirs, parts in MATRICES[family].items():
        assert torch.equal(torch.cat([ours[name] for name in parts]), stored[theirs]), theirs


def test_the_queries_of_lumina_next_are_one(tmp_path: Path):
    network = tiny_transformer("lumina-next")
    assert isinstance(network, LuminaNext)
    network.layers[0].attn2.to_q.weight += 1
    with pytest.raises(InvalidValue, match=r"layers\.0\.attention\.wq\.weight.*differ"):
        write_single_file(tmp_path / "next.safetensors", {"transformer": network})


def test_prefixes_of_all_in_one_files(files, tmp_path: Path):
    tensors = load_file(files["lumina2"]) | {"norm_final.weight": torch.ones(24)}
    path = tmp_path / "prefixed.safetensors"
    save_file({f"model.diffusion_model.{key}": value for key, value in tensors.items()}, path)
    (found,) = found_in(path)
    assert found.report.ignored == ("model.diffusion_model.norm_final.weight",)
    assert same(load(found), tiny_transformer("lumina2"))


def folder_of(path: Path, network: nn.Module, rules, config: dict[str, object]) -> Path:
    """A component's folder with this config."""
    plan = plan_of(rules, network.state_dict())
    write_network(path, network)
    stored = stored_of(plan, network.state_dict())
    save_file({k: v.clone() for k, v in stored.items()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path


OLD_DIT = {
    "_class_name": "Transformer2DModel", "num_attention_heads": 2, "attention_head_dim": 64,
    "in_channels": 4, "out_channels": 8, "num_layers": 2, "sample_size": 8, "patch_size": 2,
    "num_embeds_ada_norm": 10, "norm_eps": 1e-5, "cross_attention_dim": None,
    "num_vector_embeds": None, "attention_bias": True, "norm_type": "ada_norm_zero",
    "only_cross_attention": False, "use_linear_projection": False,
}  # fmt: skip


def test_what_a_folder_stores_many_times_must_be_one(tmp_path: Path):
    network = tiny_transformer("dit")
    folder = folder_of(tmp_path / "dit", network, dit.folder_rules(DIT), OLD_DIT)
    (found,) = found_in(folder)
    assert found.report.layout == "folder" and found.part.config == DIT
    assert same(load(found), network)
    stored = load_file(folder / "model.safetensors")
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    for change, said in (
        (lambda t: t[name].add_(1), "timestep_embedder.linear_1.bias' and .* differ"),
        (lambda t: t.pop(name), r"blocks.1.norm1.emb.*linear_1.bias' is missing"),
        (lambda t: t.update({name: torch.ones(3)}), r"linear_1.bias' is \[3\], not \[128\]"),
    ):
        tensors = {key: value.clone() for key, value in stored.items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(Unreadable, match=said):
            load(found_in(folder)[0])


def test_ddpm_of_before_the_attention_was_renamed(tmp_path: Path):
    network = one_of_each()["unet-adm"]
    config = {
        "_class_name": "UNet2DModel", "block_out_channels": [16, 32], "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "norm_eps": 1e-6,
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "downsample_padding": 0,
        "flip_sin_to_cos": False, "freq_shift": 1, "norm_num_groups": 8,
        "attention_head_dim": None, "sample_size": 32,
    }  # fmt: skip
    folder = folder_of(
        tmp_path / "unet", network, unet_adm.old_folder_rules(network.config), config
    )
    assert "mid_block.attentions.0.proj_attn.weight" in load_file(folder / "model.safetensors")
    (found,) = found_in(folder)
    assert (found.report.family, found.report.layout) == ("ddpm", "folder of before 2023")
    assert found.part.config == network.config and same(load(found), network)


@pytest.mark.parametrize("before", ["", "model."])
def test_gemma_alone_and_with_its_head(before: str, tmp_path: Path):
    network = one_of_each()["gemma"]
    state = {f"{before}{key}": value for key, value in network.state_dict().items()}
    if before:
        state["lm_head.weight"] = network.state_dict()["embed_tokens.weight"].clone()
    save_file(state, tmp_path / "model.safetensors")
    config = network.config
    said = {
        "model_type": "gemma2", "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 40, "attn_logit_softcapping": 5.0, "sliding_window": 3,
        "query_pre_attn_scalar": 12, "rope_theta": 10000.0, "hidden_act": "gelu_pytorch_tanh",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(said))
    (found,) = found_in(tmp_path)
    assert found.part.config == config and found.part.component == "text_encoder"
    assert found.report.ignored == (("lm_head.weight",) if before else ())
    assert same(load(found), network)


BROKEN = {
    "missing": ("lumina2", "layers.1.attention.qkv.weight", None, "qkv.weight' is missing"),
    "misshaped": (
        "pixart-sigma", "t_block.1.weight", (7, 3), r"1.weight' is \[7, 3\], not \[1152, 192\]"
    ),
    "shared": ("lumina-next", "layers.0.attention.wq.weight", None, "wq.weight' is missing"),
    "stray": ("dit", "blocks.0.attn.qkv.lora", (3,), "lora' has no place"),
    "no square": ("dit", "pos_embed", (1, 15, 128), "15 places"),
    "another": ("lumina2", "layers.0.adaLN_modulation.0.weight", (3,), "Z-Image.*not built"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_an_error_that_names_it(kind: str, files, tmp_path: Path):
    family, name, shape, said = BROKEN[kind]
    tensors: Tensors = load_file(files[family])
    tensors.pop(name, None)
    if shape is not None:
        tensors[name] = torch.ones(shape)
    save_file(tensors, tmp_path / "broken.safetensors")
    with pytest.raises(Unreadable, match=said):
        for one in found_in(tmp_path / "broken.safetensors"):
            one.report.check()


def test_what_no_file_says_is_told(files, tmp_path: Path):
    assert "same shapes" in found_in(files["pixart-sigma"])[0].report.assumed["family"]
    assert "family" not in found_in(files["pixart-alpha"])[0].report.assumed
    tensors = load_file(files["pixart-sigma"])
    del tensors["pos_embed"]
    save_file(tensors, tmp_path / "placeless.safetensors")
    (found,) = found_in(tmp_path / "placeless.safetensors")
    assert "1,024 pixels" in found.report.assumed["size"] and found.part.config.side == 128
    assert found_in(files["lumina2"])[0].report.assumed["axes of a head"] == "4, 2, 2"


FULL = {
    "dit": (DIT_XL_2, DiT, dit.original_rules, dit.places_of),
    "pixart-alpha": (PIXART_ALPHA, PixArt, pixart.original_rules, pixart.places_of),
    "pixart-sigma": (PIXART_SIGMA, PixArt, pixart.original_rules, pixart.places_of),
    "lumina-next": (LUMINA_NEXT, LuminaNext, lumina.next_rules, lambda config: {}),
    "lumina2": (LUMINA2, Lumina2, lumina.lumina2_rules, lambda config: {}),
}


def shapes_of(family: str) -> Shapes:
    config, kind, rules, made = FULL[family]
    with torch.device("meta"):
        state = kind(config).state_dict()
    plan = plan_of(rules(config), state)
    shapes = {take.theirs: shape_of(take, tuple(state[take.ours].shape)) for take in plan}
    return shapes | {key: tuple(value.shape) for key, value in made(config).items()}


@pytest.mark.parametrize("family", FULL)
def test_a_file_of_the_published_size(family: str, tmp_path: Path):
    (found,) = found_in(hollow(tmp_path / "whole.safetensors", shapes_of(family)))
    assert found.part.config == FULL[family][0] and found.report.family == family
    assert found.report.applied == found.report.total and not found.report.problems


@pytest.mark.parametrize(
    ("family", "last"),
    [("dit", "blocks.27."), ("pixart-sigma", "blocks.27."), ("lumina-next", "layers.23."),
     ("lumina2", "layers.25.")],
)  # fmt: skip
def test_a_file_without_its_last_layers_is_not_taken_for_a_smaller_one(
    family: str, last: str, tmp_path: Path
):
    cut = {name: shape for name, shape in shapes_of(family).items() if last not in name}
    (found,) = found_in(hollow(tmp_path / "cut.safetensors", cut))
    with pytest.raises(Unreadable, match=rf"{last}.*is missing"):
        found.report.check()


@pytest.mark.parametrize("config", [GEMMA_2B, GEMMA2_2B])
def test_gemma_of_the_published_size_is_known_by_its_header(config, tmp_path: Path):
    with torch.device("meta"):
        state = GemmaEncoder(config).state_dict()
    shapes = {f"model.{key}": tuple(value.shape) for key, value in state.items()}
    (found,) = found_in(hollow(tmp_path / "gemma.safetensors", shapes))
    assert found.part.config == config and not found.report.problems


# A family's config, what is said otherwise than it usually is, and what is then said of it.
REFUSED = {
    "norm of DiT": (dit.config_of_json, {"norm_type": "ada_norm"}, "norm_type = 'ada_norm'"),
    "unknown to DiT": (dit.config_of_json, {"window": 3}, "window = 3"),
    "width of PixArt": (pixart.config_of_json, {"cross_attention_dim": 7}, "dim = 7"),
    "scale of Lumina": (lumina.lumina2_of_json, {"scaling_factor": 2.0}, "factor = 2.0"),
    "norm of Lumina": (lumina.next_of_json, {"qk_norm": False}, "qk_norm = False"),
    "another encoder": (gemma.config_of_json, {"model_type": "gemma3"}, "'gemma3'"),
    "windows": (
        gemma.config_of_json,
        {"model_type": "gemma2", "layer_types": ["full_attention"] * 26}, "alternate",
    ),
    "positions": (
        gemma.config_of_json, {"rope_parameters": {"rope_type": "linear"}}, "scaled positions"
    ),
    "a level": (unet_adm.config_of_json, {"down_block_types": ["SkipDownBlock2D"],
                "up_block_types": ["SkipUpBlock2D"]}, "SkipDownBlock2D"),
    "unmirrored": (
        unet_adm.config_of_json,
        {"down_block_types": ["DownBlock2D"], "up_block_types": ["AttnUpBlock2D"]},
        "up_block_types",
    ),
    "two ways": (
        unet_adm.config_of_json,
        {"down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D"],
         "up_block_types": ["UpBlock2D", "ResnetUpsampleBlock2D"]},
        "two ways",
    ),
    "time": (unet_adm.config_of_json, {"time_embedding_type": "fourier"}, "'fourier'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_config_that_is_not_built_is_refused_by_name(kind: str):
    of_json, content, said = REFUSED[kind]
    with pytest.raises(Unreadable, match=said):
        of_json(content)


def test_configs_of_folders():
    """As the published ones have them; what is not said is as their libraries take it."""
    assert dit.config_of_json({"num_embeds_ada_norm": 1000, "out_channels": 8}) == DIT_XL_2
    usual = {"caption_channels": 4096, "cross_attention_dim": 1152, "out_channels": 8}
    assert pixart.config_of_json(usual | {"sample_size": 128}) == PIXART_ALPHA
    sigma = {"sample_size": 128, "use_additional_conditions": False, "interpolation_scale": 2}
    assert pixart.config_of_json(usual | sigma) == PIXART_SIGMA
    assert pixart.config_of_json(usual | {"sample_size": 64}).interpolation == 1
    said = {"num_layers": 24, "num_kv_heads": 8, "sample_size": 128, "learn_sigma": True}
    assert lumina.next_of_json(said) == LUMINA_NEXT
    assert lumina.lumina2_of_json({"cap_feat_dim": 2304}) == LUMINA2
    first = {"num_hidden_layers": 18, "hidden_size": 2048, "num_attention_heads": 8,
             "num_key_value_heads": 1, "intermediate_size": 16384,
             "hidden_act": "gelu"}  # fmt: skip
    assert gemma.config_of_json(first) == GEMMA_2B
    assert gemma.config_of_json({"model_type": "gemma2"}) == GEMMA2_2B
    cifar = {
        "block_out_channels": [128, 256, 256, 256], "norm_eps": 1e-6, "downsample_padding": 0,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "flip_sin_to_cos": False, "freq_shift": 1, "attention_head_dim": None,
    }  # fmt: skip
    assert unet_adm.config_of_json(cifar) == DDPM_CIFAR10
    adm = {
        "block_out_channels": [192, 384, 576, 768], "layers_per_block": 3,
        "down_block_types": ["ResnetDownsampleBlock2D", *["AttnDownBlock2D"] * 3],
        "up_block_types": [*["AttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
        "attention_head_dim": 64, "resnet_time_scale_shift": "scale_shift",
        "downsample_type": "resnet", "upsample_type": "resnet", "num_class_embeds": 1000,
        "attn_norm_num_groups": 32,
    }  # fmt: skip
    assert unet_adm.config_of_json(adm) == ADM_IMAGENET_64
