"""Files of adapters: each tensor has its place or is an error that names it, and what is written
comes back to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.adapters.adapter import Adapter, Place
from diptych.adapters.changes import Dora, Full, Value
from diptych.checkpoints.adapters.endings import is_adapter
from diptych.checkpoints.adapters.names import names_of
from diptych.checkpoints.adapters.read import AdapterReport, found_adapter, load_adapter
from diptych.checkpoints.adapters.write import DIALECTS, tensors_of, write_adapter
from diptych.checkpoints.families import sd_unet
from diptych.checkpoints.header import metadata_of
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from tests.tiny_adapters import KINDS, OF_KERNELS, drawing, tiny_adapter
from tests.tiny_stable_diffusion import tiny_networks

Tensors = dict[str, Tensor]
Networks = dict[str, nn.Module]


@pytest.fixture(scope="module")
def sd1() -> Networks:
    return without_vae("sd1")


@pytest.fixture(scope="module")
def sdxl() -> Networks:
    return without_vae("sdxl")


def without_vae(family: str) -> Networks:
    return {name: net for name, net in tiny_networks(family).items() if name != "vae"}


def read(path: Path, networks: Networks, tensors: Tensors, **asked: object) -> Adapter:
    save_file(tensors, path)
    return load_adapter(found_adapter(path, networks, **asked))  # type: ignore[arg-type]


def report(path: Path, networks: Networks | None, tensors: Tensors) -> AdapterReport:
    save_file(tensors, path)
    return found_adapter(path, networks).report


TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
FLAT = {name: f"lora_unet_{name.replace('.', '_')}" for name in (TO_Q, CONV)}


def weight(networks: Networks, path: str) -> Tensor:
    return networks["unet"].get_parameter(f"{path}.weight")


# Kinds of LyCORIS as its files have them -> the difference, by a formula with numpy.
def loha(t: Tensors) -> np.ndarray:
    a, b, c, d = (t[f"hada_{name}"].numpy() for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    return float(t["alpha"]) / b.shape[0] * (a @ b) * (c @ d)


def loha_tucker(t: Tensors) -> np.ndarray:
    n = {name: tensor.numpy() for name, tensor in t.items()}
    both = [
        np.einsum("ijkl,ip,jr->prkl", n[f"hada_t{k}"], n[f"hada_w{k}_a"], n[f"hada_w{k}_b"])
        for k in (1, 2)
    ]
    return float(t["alpha"]) / t["hada_w1_b"].shape[0] * both[0] * both[1]


def lokr(t: Tensors) -> np.ndarray:
    one = t["lokr_w1"].numpy() if "lokr_w1" in t else (t["lokr_w1_a"] @ t["lokr_w1_b"]).numpy()
    other = t["lokr_w2"].numpy() if "lokr_w2" in t else (t["lokr_w2_a"] @ t["lokr_w2_b"]).numpy()
    rank = next((len(t[n]) for n in ("lokr_w2_b", "lokr_w1_b") if n in t), None)
    return (float(t["alpha"]) / rank if rank else 1) * np.kron(one, other)


def locon_tucker(t: Tensors) -> np.ndarray:
    up, down = (t[f"lora_{name}.weight"].flatten(1).numpy() for name in ("up", "down"))
    mid = t["lora_mid.weight"].numpy()
    return float(t["alpha"]) / len(mid) * np.einsum("oa,abkl,bi->oikl", up, mid, down)


d = drawing(5)
LYCORIS: dict[str, tuple[str, Callable[[Tensors], np.ndarray], Tensors]] = {
    "LoHa": (TO_Q, loha, {
        "hada_w1_a": d(32, 4), "hada_w1_b": d(4, 32), "hada_w2_a": d(32, 4), "hada_w2_b": d(4, 32),
    }),
    "LoHa of a convolution": (CONV, loha, {
        "hada_w1_a": d(32, 4), "hada_w1_b": d(4, 288), "hada_w2_a": d(32, 4),
        "hada_w2_b": d(4, 288),
    }),
    "LoHa, Tucker": (CONV, loha_tucker, {
        "hada_w1_a": d(4, 32), "hada_w1_b": d(4, 32), "hada_w2_a": d(4, 32), "hada_w2_b": d(4, 32),
        "hada_t1": d(4, 4, 3, 3), "hada_t2": d(4, 4, 3, 3),
    }),
    "LoKr": (TO_Q, lokr, {"lokr_w1": d(4, 8), "lokr_w2": d(8, 4)}),
    "LoKr, right in factors": (TO_Q, lokr, {
        "lokr_w1": d(4, 4), "lokr_w2_a": d(8, 3), "lokr_w2_b": d(3, 8)
    }),
    "LoKr, left in factors": (TO_Q, lokr, {
        "lokr_w1_a": d(4, 2), "lokr_w1_b": d(2, 4), "lokr_w2": d(8, 8)
    }),
    "LoKr, both in factors": (TO_Q, lokr, {
        "lokr_w1_a": d(4, 2), "lokr_w1_b": d(2, 4), "lokr_w2_a": d(8, 3), "lokr_w2_b": d(3, 8),
    }),
    "LoCon, Tucker": (CONV, locon_tucker, {
        "lora_down.weight": d(4, 32, 1, 1), "lora_up.weight": d(32, 4, 1, 1),
        "lora_mid.weight": d(4, 4, 3, 3),
    }),
    "full": (CONV, lambda t: t["diff"].numpy(), {"diff": d(32, 32, 3, 3)}),
}  # fmt: skip


@pytest.mark.parametrize("kind", LYCORIS)
def test_lycoris(kind: str, sd1: Networks, tmp_path: Path):
    layer, formula, parts = LYCORIS[kind]
    if kind != "full":
        parts = {**parts, "alpha": torch.tensor(2.5)}
    tensors = {f"{FLAT[layer]}.{end}": tensor for end, tensor in parts.items()}
    adapter = read(tmp_path / "x.safetensors", sd1, tensors)
    base = weight(sd1, layer).double()
    added = adapter.changes[Place("unet", layer)].added(base)
    wanted = formula(parts).reshape(base.shape)
    assert float((added - torch.from_numpy(wanted)).abs().max()) < 1e-12
    found = found_adapter(tmp_path / "x.safetensors", sd1).report
    assert found.kinds == {kind.split()[0].strip(",").replace("LoCon", "LoRA"): 1}
    assert found.applied == found.total == len(tensors)


def test_differences_of_norms_and_biases(sd1: Networks, tmp_path: Path):
    norm = "lora_unet_down_blocks_0_attentions_0_norm"
    tensors = {
        f"{norm}.w_norm": torch.ones(32), f"{norm}.b_norm": torch.ones(32),
        f"{FLAT[CONV]}.diff": torch.ones(32, 32, 3, 3), f"{FLAT[CONV]}.diff_b": torch.ones(32),
        "lora_unet_conv_in.set_weight": torch.ones(32, 4, 3, 3),
        "lora_te_text_model_final_layer_norm.diff_b": torch.ones(64),
        # A parameter by its own name: another value in its place.
        "unet.conv_norm_out.weight": torch.ones(32),
    }  # fmt: skip
    adapter = read(tmp_path / "x.safetensors", sd1, tensors)
    assert {str(place): type(change) for place, change in adapter.changes.items()} == {
        "unet.down_blocks.0.attentions.0.norm.weight": Full,
        "unet.down_blocks.0.attentions.0.norm.bias": Full,
        f"unet.{CONV}.weight": Full, f"unet.{CONV}.bias": Full,
        "unet.conv_in.weight": Value, "unet.conv_norm_out.weight": Value,
        "text_encoder.final_layer_norm.bias": Full,
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(32, 1), (1, 32), (32,)])
def test_dora_is_of_the_axis_along_which_its_numbers_lie(shape: tuple[int, ...], sd1, tmp_path):
    parts = {"lora_up.weight": d(32, 2), "lora_down.weight": d(2, 32), "dora_scale": d(*shape)}
    tensors = {f"{FLAT[TO_Q]}.{end}": tensor for end, tensor in parts.items()}
    adapter = read(tmp_path / "x.safetensors", sd1, tensors)
    change = adapter.changes[Place("unet", TO_Q)]
    assert isinstance(change, Dora) and change.axis == (1 if shape[0] == 1 else 0)
    assert found_adapter(tmp_path / "x.safetensors", sd1).report.kinds == {"DoRA": 1}


def test_rank_and_alpha_are_each_layers_own(sd1: Networks, tmp_path: Path):
    tensors: Tensors = {}
    for name, rank, alpha in ((TO_Q, 4, 2.0), (TO_Q.replace("to_q", "to_k"), 3, None)):
        flat = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{flat}.lora_up.weight"] = d(32, rank)
        tensors[f"{flat}.lora_down.weight"] = d(rank, 32)
        if alpha:
            tensors[f"{flat}.alpha"] = torch.tensor(alpha)
    adapter = read(tmp_path / "x.safetensors", sd1, tensors)
    scales = {place.module: c.scale for place, c in adapter.changes.items()}  # type: ignore[union-attr]
    assert scales == {TO_Q: 0.5, TO_Q.replace("to_q", "to_k"): 1.0} and adapter.ranks == (3, 4)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl-refiner"])
def test_no_name_means_two_layers(family: str):
    """Flattened names could have met: none does, but those that two encoders share."""
    networks = without_vae(family)
    names = names_of(networks)
    for name, spot in {**names.layers, **names.parameters}.items():
        assert len({take.theirs for take in spot.takes}) == 1, name
    both = {"text_encoder", "text_encoder_2"}
    assert all(set(where) == both for where in names.twice.values())
    assert bool(names.twice) == (both <= networks.keys())
    # And every layer has its name.
    for path, module in networks["unet"].named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert f"lora_unet_{path.replace('.', '_')}" in names.layers


def good(sd1: Networks) -> Tensors:
    """A small whole file: the first attention, and words."""
    adapter = tiny_adapter(sd1, "lora", dtype=torch.float32)
    kept = {place: change for place, change in adapter.changes.items() if "attn1" in place.module or
            place.component == "text_encoder"}  # fmt: skip
    return tensors_of(Adapter("x", kept), sd1, "kohya")


def renamed(tensors: Tensors, start: str, other: str) -> Tensors:
    return {name.replace(start, other, 1): tensor for name, tensor in tensors.items()}


UP, DOWN = f"{FLAT[TO_Q]}.lora_up.weight", f"{FLAT[TO_Q]}.lora_down.weight"
BROKEN: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "a layer absent from the model": (
        lambda t: t.update({UP.replace("_0_attn1", "_1_attn1"): d(32, 2),
                            DOWN.replace("_0_attn1", "_1_attn1"): d(2, 32)}),
        rf"'{FLAT[TO_Q].replace('_0_attn1', '_1_attn1')}' has no place, nearest: '{FLAT[TO_Q]}'",
    ),
    "up missing": (lambda t: t.pop(UP), f"'{UP}' is missing"),
    "down missing": (lambda t: t.pop(DOWN), f"'{DOWN}' is missing"),
    "a stray DoRA scale": (
        lambda t: t.update({f"{FLAT[CONV]}.dora_scale": d(32, 1)}),
        f"'{FLAT[CONV]}.dora_scale' has nothing",
    ),
    "a stray alpha": (
        lambda t: t.update({f"{FLAT[CONV]}.alpha": d(1)}), f"'{FLAT[CONV]}.alpha' has nothing"
    ),
    "a name of nobody": (
        lambda t: t.update({"of.nobody": d(2)}), "'of.nobody' has no place"
    ),
    "another end": (
        lambda t: t.update({f"{UP}t": t.pop(UP)}), f"'{UP}t' has no place"
    ),
    "factors of other ranks": (
        lambda t: t.update({UP: d(32, 5)}), rf"'{FLAT[TO_Q]}' with .* does not fit \[32, 32\]"
    ),
    "of a wider layer": (
        lambda t: t.update({DOWN: d(3, 48)}), rf"'{FLAT[TO_Q]}' with .* does not fit \[32, 32\]"
    ),
    "an alpha of many numbers": (
        lambda t: t.update({f"{FLAT[TO_Q]}.alpha": d(3)}), f"'{FLAT[TO_Q]}' has an alpha of"
    ),
    "a bias that is not there": (
        lambda t: t.update({f"{FLAT[TO_Q]}.diff_b": d(32)}), r"changes a bias that .* not have"
    ),
    "the same layer twice": (
        lambda t: t.update({f"unet.{TO_Q}.lora_A.weight": d(2, 32),
                            f"unet.{TO_Q}.lora_B.weight": d(32, 2)}),
        f"in place already, as '{FLAT[TO_Q]}'|'unet.{TO_Q}'",
    ),
    "the same factor twice": (
        lambda t: t.update({f"{FLAT[TO_Q]}.lora_A.weight": d(2, 32)}), r"lora_(A|down).*no place"
    ),
    "not a number": (lambda t: t[UP].fill_(float("nan")), f"'{UP}' in .* not finite"),
    "infinite": (lambda t: t[UP].view(-1)[3:4].fill_(float("inf")), f"'{UP}' in .* not finite"),
    "LoHa without a factor": (
        lambda t: t.update({f"{FLAT[CONV]}.hada_{n}": d(4, 4) for n in ("w1_a", "w1_b", "w2_a")}),
        f"'{FLAT[CONV]}.hada_w2_b' is missing",
    ),
    "LoKr without a factor": (
        lambda t: t.update({f"{FLAT[CONV]}.lokr_w1": d(4, 4), f"{FLAT[CONV]}.lokr_w2_a": d(4, 4)}),
        f"'{FLAT[CONV]}.lokr_w2_b' is missing",
    ),
    "a core alone": (
        lambda t: t.update({f"{FLAT[CONV]}.lora_mid.weight": d(2, 2, 3, 3)}), "has nothing"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_an_error_that_names_it(what: str, sd1: Networks, tmp_path: Path):
    change, said = BROKEN[what]
    tensors = good(sd1)
    read(tmp_path / "good.safetensors", sd1, tensors)
    change(tensors)
    with pytest.raises(Unreadable, match=said):
        read(tmp_path / "broken.safetensors", sd1, tensors)


# Files of a family that is not at hand, or with names that are nobody's here.
FOREIGN: dict[str, tuple[Callable[[Networks], Tensors], str]] = {
    "prefix transformer. on a U-Net": (
        lambda sd1: renamed(unet_of(sd1, "PEFT"), "unet.", "transformer."),
        r"'transformer\.conv_in' has no place, nearest: 'unet\.conv_in'",
    ),
    "FLUX": (
        lambda sd1: {
            f"lora_unet_{name}.lora_{end}.weight": d(*shape)
            for name in ("img_in", "txt_in", "time_in_in_layer", "vector_in_in_layer",
                         "guidance_in_in_layer", "final_layer_linear",
                         "final_layer_adaLN_modulation_1", "double_blocks_0_img_attn_qkv")
            for end, shape in (("up", (32, 2)), ("down", (2, 32)))
        },
        r"'lora_unet_img_in' has no place.*and 3 more",
    ),
    "SD3": (
        lambda sd1: {
            f"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_{end}.weight": d(*shape)
            for end, shape in (("up", (96, 2)), ("down", (2, 32)))
        },
        "'lora_unet_joint_blocks_0_x_block_attn_qkv' has no place",
    ),
    "T5 in a file for CLIP": (
        lambda sd1: {
            f"lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_{end}.weight": d(*shape)
            for end, shape in (("up", (32, 2)), ("down", (2, 32)))
        },
        "'lora_te3_encoder_block_0_layer_0_SelfAttention_q' has no place",
    ),
}  # fmt: skip


def unet_of(networks: Networks, dialect: str) -> Tensors:
    unet = {"unet": networks["unet"]}
    return tensors_of(tiny_adapter(unet, "lora", dtype=torch.float32), unet, dialect)


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_file_is_refused_by_its_names(what: str, sd1: Networks, tmp_path: Path):
    made, said = FOREIGN[what]
    with pytest.raises(Unreadable, match=said):
        read(tmp_path / "x.safetensors", sd1, made(sd1))
    found = report(tmp_path / "x.safetensors", sd1, made(sd1))
    assert found.applied == 0 and len(found.problems) == found.total // 2


def test_a_file_of_sdxl_is_no_file_of_sd1(sd1: Networks, sdxl: Networks, tmp_path: Path):
    """Where names are alike, the shapes are not."""
    for one, other in ((sd1, sdxl), (sdxl, sd1)):
        with pytest.raises(Unreadable, match=r"does not fit|no place"):
            read(tmp_path / "x.safetensors", other, unet_of(one, "kohya, original"))


def test_names_of_two_layouts_in_one_file(sdxl: Networks, tmp_path: Path):
    """Numbers of the original layout beside names of the folder: both have their place."""
    whole, other = unet_of(sdxl, "kohya"), unet_of(sdxl, "kohya, original")
    half = dict(list(whole.items())[: len(whole) // 6 * 3])
    mixed = half | dict(list(other.items())[len(half) :])
    found = report(tmp_path / "x.safetensors", sdxl, mixed)
    assert found.applied == found.total == len(whole)


def test_what_only_looks_like_an_adapter():
    """`.diff` is the beginning of `.diffusion_model`, and many a layer is called `down`."""
    for names in (
        ["model.diffusion_model.out.0.weight"], ["painter.mlp.down.weight"],
        ["image_proj.proj.weight", "ip_adapter.0.to_q_lora.down.weight"], ["x.alpha"],
    ):  # fmt: skip
        assert not is_adapter(names)
    for name in (
        "a.processor.to_q_lora.up.weight",
        "b.qkv_lora1.down.weight",
        "c.diff",
        "d.b_norm",
    ):
        assert is_adapter([name, "e.weight"])


@pytest.mark.parametrize(
    "prefix", ["diffusion_model.", "base_model.model.", "", "model.diffusion_model."]
)
def test_prefixes_that_are_known_apply_all(prefix: str, sd1: Networks, tmp_path: Path):
    """`diffusion_model.` before the folder's names, which the reference leaves out whole."""
    tensors = renamed(unet_of(sd1, "PEFT"), "unet.", prefix)
    found = report(tmp_path / "x.safetensors", sd1, tensors)
    assert found.applied == found.total == len(tensors) > 40 and not found.problems


def test_what_a_user_accepts_is_left_out(sd1: Networks, tmp_path: Path):
    tensors = good(sd1)
    tensors["of.nobody"] = tensors.pop(UP)
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    found = found_adapter(path, sd1, allow=["of.nobody", UP])
    assert found.report.allowed == ("of.nobody", UP)
    assert found.report.applied == len(tensors) - 3  # down and alpha, and nobody's
    assert Place("unet", TO_Q) not in load_adapter(found).changes
    with pytest.raises(Unreadable, match="is missing"):
        load_adapter(found_adapter(path, sd1, allow=["of.nobody"]))
    with pytest.raises(InvalidValue, match=r"'of\.nobodys', and nothing is wrong.*of\.nobody'"):
        found_adapter(path, sd1, allow=["of.nobodys"])


def test_what_is_no_adapter_or_not_built(sd1: Networks, tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_file({"conv_in.weight": d(2, 2)}, path)
    with pytest.raises(Unreadable, match=r"no adapter: conv_in\.weight"):
        found_adapter(path, sd1)
    for end, kind in ((".oft_blocks", "OFT"), (".a1.weight", "GLoRA"), (".on_input", r"\(IA\)\^3")):
        save_file({f"{FLAT[TO_Q]}{end}": d(2, 2)}, path)
        with pytest.raises(Unreadable, match=rf"{kind}.*not built"):
            found_adapter(path, sd1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="adapter_model"):
        found_adapter(tmp_path / "empty", sd1)
    path.write_bytes(b"\x80\x02x")
    with pytest.raises(Unreadable, match="pickle"):
        found_adapter(path, sd1)


@pytest.mark.parametrize(
    ("said", "why"),
    [({"init_lora_weights": "pissa_niter_4"}, "pissa"), ({"fan_in_fan_out": True}, "fan_in")],
)
def test_configs_that_mean_other_weights(said: dict, why: str, sd1: Networks, tmp_path: Path):
    tensors = renamed(unet_of(sd1, "PEFT"), "unet.", "base_model.model.")
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 4, **said}))
    with pytest.raises(Unreadable, match=why):
        found_adapter(tmp_path, sd1)


def test_without_a_model_it_is_told_what_can_be(sd1: Networks, tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_file(good(sd1), path, {"ss_base_model_version": "sd_v1"})
    found = found_adapter(path).report
    assert found.layout == "kohya" and found.ranks == (3,) and not found.problems
    assert found.kinds == {"LoRA": len(good(sd1)) // 3} and found.applied == 0
    assert found.assumed == {"made for": "sd_v1"}
    assert report(path, None, unet_of(sd1, "PEFT")).layout == "diffusers"


ALL = (*KINDS, *OF_KERNELS)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("dialect", ["kohya", "kohya, original"])
def test_what_is_written_comes_back_to_the_bit(family: str, dialect: str, tmp_path: Path, request):
    networks = request.getfixturevalue(family)
    adapter = tiny_adapter(networks, ALL, dtype=torch.float32, biases=True)
    path = write_adapter(tmp_path / "x.safetensors", adapter, networks, dialect)
    found = found_adapter(path, networks)
    assert found.report.applied == found.report.total and not found.report.problems
    again = load_adapter(found)
    assert again.changes.keys() == adapter.changes.keys()
    for place, change in again.changes.items():
        base = networks[place.component].get_parameter(f"{place.module}.{place.leaf}").double()
        assert torch.equal(change.added(base), adapter.changes[place].added(base)), place
    second = write_adapter(tmp_path / "y.safetensors", again, networks, dialect)
    assert second.read_bytes() == path.read_bytes()
    other = "kohya" if dialect != "kohya" else "kohya, original"
    if any(
        path != name
        for path, name in zip(load_file(path), tensors_of(again, networks, other), strict=True)
    ):
        third = write_adapter(tmp_path / "z.safetensors", again, networks, other)
        assert load_adapter(found_adapter(third, networks)).changes.keys() == again.changes.keys()


@pytest.mark.parametrize("kinds", [("lora",), ("dora",), ("lora", "dora")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peft_comes_back_to_the_bit(kinds: tuple[str, ...], dtype, sd1: Networks, tmp_path: Path):
    """Alphas stand in the metadata, where they are not the rank."""
    adapter = tiny_adapter(sd1, kinds, dtype=dtype)
    path = write_adapter(tmp_path / "x.safetensors", adapter, sd1, "PEFT")
    assert "lora_adapter_metadata" in metadata_of(path)
    again = load_adapter(found_adapter(path, sd1))
    for place, change in adapter.changes.items():
        base = sd1[place.component].get_parameter(f"{place.module}.weight")
        assert torch.equal(again.changes[place].added(base), change.added(base))
    second = write_adapter(tmp_path / "y.safetensors", again, sd1, "PEFT")
    one, other = load_file(path), load_file(second)
    assert metadata_of(path) == metadata_of(second) and one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_has_no_form_is_not_written(sd1: Networks, tmp_path: Path):
    path = tmp_path / "x.safetensors"
    for kind in ("loha", "lokr", "full", "dora of columns"):
        with pytest.raises(InvalidValue, match="PEFT has no name for"):
            write_adapter(path, tiny_adapter(sd1, kind), sd1, "PEFT")
    with pytest.raises(InvalidValue, match="no layer"):
        adapter = Adapter("x", {Place("unet", "nobody"): Full(d(2))})
        write_adapter(path, adapter, sd1)
    with pytest.raises(NotFound, match="dialect"):
        write_adapter(path, tiny_adapter(sd1), sd1, "kohia")
    assert not path.exists() and len(DIALECTS) == 3


def test_the_original_names_are_those_of_the_rules(sdxl: Networks):
    unet = {"unet": sdxl["unet"]}
    names = tensors_of(tiny_adapter(unet, "lora"), unet, "kohya, original")
    wanted = {
        "lora_unet_" + rule.theirs.removesuffix(".").replace(".", "_")
        for rule in sd_unet.original_rules(sdxl["unet"].config)  # type: ignore[arg-type]
    }
    found = {name.partition(".")[0] for name in names}
    assert len(found & wanted) > 10
    # Below the attentions rules are prefixes: all begin with numbered blocks or ends.
    starts = (
        "input_blocks_",
        "middle_block_",
        "output_blocks_",
        "time_embed_",
        "label_emb_",
        "out_",
    )
    assert all(name.removeprefix("lora_unet_").startswith(starts) for name in found)
