"""Adapters of SD3 and FLUX: every layer under every name that people write has its place, and the
weights are changed by what a formula says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.adapters.merging import merge
from diptych.adapters.rows import applied, planned
from diptych.checkpoints.adapters.read import found_adapter, load_adapter
from diptych.checkpoints.adapters.write import DIALECTS, write_adapter
from diptych.checkpoints.families import flux, sd3
from diptych.checkpoints.rules import ours_of, plan_of, stored_of
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.models.flux import Flux
from diptych.models.table import MODELS
from tests.tiny_adapters import tiny_adapter
from tests.tiny_flow import FLOWS

Tensors = dict[str, Tensor]
Network = dict[str, nn.Module]
RULES: dict[str, Callable] = {"flux-dev": flux.original_rules, "sd3.5-medium": sd3.original_rules}


@pytest.fixture(params=list(RULES))
def family(request) -> str:
    return request.param


@pytest.fixture
def network(family: str) -> Network:
    torch.manual_seed(0)
    made = FLOWS[family]()["transformer"].double().eval().requires_grad_(False)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return {"transformer": made}


def factors(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor, float]:
    """Up, down and alpha of rank 2 for a weight, and of rank 3 for another."""
    draw, rank = torch.Generator().manual_seed(seed), 2 + seed % 2
    width = torch.Size(shape[1:]).numel()
    up = torch.randn(shape[0], rank, generator=draw, dtype=torch.float64)
    down = torch.randn(rank, width, generator=draw, dtype=torch.float64)
    return up, down, 0.5 + seed % 3


def original(family: str, network: Network, prefix: str, flat: bool) -> tuple[Tensors, Tensors]:
    """A LoRA of every matrix of the original layout, and what each of ours becomes."""
    transformer = network["transformer"]
    state = transformer.state_dict()
    plan = plan_of(RULES[family](transformer.config), state)
    stored = stored_of(plan, state)
    tensors: Tensors = {}
    deltas: Tensors = {}
    matrices = [name for name in stored if name.endswith(".weight") and stored[name].ndim == 2]
    for seed, name in enumerate(matrices):
        layer = name.removesuffix(".weight")
        up, down, alpha = factors(tuple(stored[name].shape), seed)
        key = prefix + (layer.replace(".", "_") if flat else layer)
        ends = ("lora_up", "lora_down") if flat else ("lora_B", "lora_A")
        tensors[f"{key}.{ends[0]}.weight"], tensors[f"{key}.{ends[1]}.weight"] = up, down
        scale = 1.0
        if flat:
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
            scale = alpha / down.shape[0]
        deltas[name] = scale * up @ down
    wanted = {
        take.ours: state[take.ours] + ours_of(take, deltas[take.theirs])
        for take in plan
        if take.theirs in deltas
    }
    return tensors, wanted


def changed(path: Path, network: Network, tensors: Tensors) -> Tensors:
    save_file(tensors, path)
    found = found_adapter(path, network)
    assert found.report.applied == found.report.total and not found.report.problems
    merged = merge(network, [(load_adapter(found), 1.0)])
    state = {name: t.clone() for name, t in network["transformer"].state_dict().items()}
    merged.undo()
    return state


@pytest.mark.parametrize(
    ("prefix", "flat"),
    [("lora_unet_", True), ("diffusion_model.", False)],
    ids=["kohya", "ComfyUI"],
)
def test_every_matrix_of_the_original_layout(
    prefix: str, flat: bool, family: str, network: Network, tmp_path: Path
):
    """Of FLUX also img_in, txt_in, time_in, vector_in, guidance_in and the last layer, which
    diffusers loses in silence."""
    tensors, wanted = original(family, network, prefix, flat)
    if family == "flux-dev":
        names = " ".join(tensors)
        for part in ("img_in", "txt_in", "time_in", "vector_in", "guidance_in", "final_layer"):
            assert part in names
    before = {name: t.clone() for name, t in network["transformer"].state_dict().items()}
    found = changed(tmp_path / "x.safetensors", network, tensors)
    assert len(wanted) > 20
    for name, tensor in found.items():
        expected = wanted.get(name, before[name])
        assert (tensor - expected).abs().max() <= 1e-6 * (1 + expected.abs().max()), name


def test_pefts_names(family: str, network: Network, tmp_path: Path):
    transformer, tensors, wanted = network["transformer"], Tensors(), Tensors()
    linears = [n for n, m in transformer.named_modules() if isinstance(m, nn.Linear)]
    for seed, layer in enumerate(linears):
        weight = transformer.get_parameter(f"{layer}.weight")
        up, down, _ = factors(tuple(weight.shape), seed)
        tensors[f"transformer.{layer}.lora_B.weight"] = up
        tensors[f"transformer.{layer}.lora_A.weight"] = down
        wanted[f"{layer}.weight"] = weight + up @ down
    found = changed(tmp_path / "x.safetensors", network, tensors)
    for name, expected in wanted.items():
        assert (found[name] - expected).abs().max() <= 1e-6 * (1 + expected.abs().max()), name


def test_xlabs_names(tmp_path: Path):
    torch.manual_seed(0)
    transformer = FLOWS["flux-dev"]()["transformer"].double().requires_grad_(False)
    assert isinstance(transformer, Flux)
    width = transformer.get_parameter("transformer_blocks.0.attn.to_q.weight").shape[0]
    tensors, wanted = Tensors(), Tensors()
    for number, names in ((1, "to_{}"), (2, "add_{}_proj")):
        up, down, _ = factors((3 * width, width), number)
        key = f"double_blocks.0.processor.qkv_lora{number}"
        tensors[f"{key}.up.weight"], tensors[f"{key}.down.weight"] = up, down
        for part, name in zip((up @ down).chunk(3), "qkv", strict=True):
            path = f"transformer_blocks.0.attn.{names.format(name)}.weight"
            wanted[path] = transformer.get_parameter(path) + part
    for number, path in ((1, "attn.to_out.0"), (2, "attn.to_add_out")):
        up, down, _ = factors((width, width), 5 + number)
        key = f"double_blocks.0.processor.proj_lora{number}"
        tensors[f"{key}.up.weight"], tensors[f"{key}.down.weight"] = up, down
        place = f"transformer_blocks.0.{path}.weight"
        wanted[place] = transformer.get_parameter(place) + up @ down
    found = changed(tmp_path / "x.safetensors", {"transformer": transformer}, tensors)
    for name, expected in wanted.items():
        assert (found[name] - expected).abs().max() <= 1e-6 * (1 + expected.abs().max()), name


def test_rows_have_their_own(family: str, network: Network, tmp_path: Path):
    """A row with an adapter is as if it was merged, its neighbour as if there was none."""
    tensors, _ = original(family, network, "lora_unet_", flat=True)
    small = {name: t * (0.1 if "lora_up" in name else 1) for name, t in tensors.items()}
    save_file(small, tmp_path / "x.safetensors")
    adapter = load_adapter(found_adapter(tmp_path / "x.safetensors", network))
    transformer = network["transformer"]
    entry = MODELS["flux" if isinstance(transformer, Flux) else "sd3"]
    given = entry.example(transformer.config, 2, 3)
    given = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
    with torch.no_grad():
        plain = transformer(**given)
        with applied([planned(network, [(adapter, 1.0)]), None]):
            rows = transformer(**given)
        merged = merge(network, [(adapter, 1.0)])
        whole = transformer(**given)
        merged.undo()
        assert torch.equal(transformer(**given), plain)
    size = whole.abs().max()
    assert (rows[0] - whole[0]).abs().max() <= 1e-6 * size
    assert (rows[1] - plain[1]).abs().max() <= 1e-12 * size
    assert (rows[0] - plain[0]).abs().max() > 1e-2 * size


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(next(k for k in t if k.endswith("lora_down.weight"))), "lora_down"),
        (lambda t: t.update({"lora_unet_double_blocks_9_img_attn_qkv.lora_up.weight":
                             torch.ones(4, 2), "lora_unet_double_blocks_9_img_attn_qkv.lora_down."
                             "weight": torch.ones(2, 4)}), "double_blocks_9"),
        (lambda t: t.update({next(k for k in t if k.endswith("lora_up.weight")):
                             torch.ones(7, 2)}), "7"),
    ],
    ids=["half is missing", "no such layer", "another shape"],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, said: str, tmp_path: Path):
    network = {"transformer": FLOWS["flux-dev"]()["transformer"].double()}
    tensors, _ = original("flux-dev", network, "lora_unet_", flat=True)
    change(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(Unreadable, match=said):
        found = found_adapter(tmp_path / "x.safetensors", network)
        found.report.check()
        load_adapter(found)


def control(transformer: Flux, width: int) -> Tensors:
    """A control LoRA in Black Forest Labs' names: factors, differences of biases, scales of norms,
    and as many columns of img_in."""
    plan = plan_of(flux.original_rules(transformer.config), transformer.state_dict())
    stored = stored_of(plan, transformer.state_dict())
    draw, tensors = torch.Generator().manual_seed(9), Tensors()
    for number, (name, tensor) in enumerate(stored.items()):
        layer, _, leaf = name.rpartition(".")
        if leaf == "weight" and tensor.ndim == 2:
            shape = (len(tensor), width if layer == "img_in" else tensor.shape[1])
            tensors[f"{layer}.lora_B.weight"], tensors[f"{layer}.lora_A.weight"], _ = factors(
                shape, number
            )
            if f"{layer}.bias" in stored:
                tensors[f"{layer}.lora_B.bias"] = torch.randn(
                    len(tensor), generator=draw, dtype=torch.float64
                )
        elif leaf == "scale":
            tensors[name] = torch.rand(tensor.shape, generator=draw, dtype=torch.float64)
    return tensors


@pytest.fixture
def dev() -> Flux:
    torch.manual_seed(0)
    made = FLOWS["flux-dev"]()["transformer"].double().eval().requires_grad_(False)
    assert isinstance(made, Flux)
    return made


def test_a_control_lora_is_for_merging(dev: Flux, tmp_path: Path):
    network, name = {"transformer": dev}, "x_embedder.weight"
    before = {key: tensor.clone() for key, tensor in dev.state_dict().items()}
    rows, columns = before[name].shape
    tensors = control(dev, 2 * columns)
    save_file(tensors, tmp_path / "x.safetensors")
    found = found_adapter(tmp_path / "x.safetensors", network)
    assert found.report.applied == found.report.total and not found.report.problems
    adapter = load_adapter(found)
    with pytest.raises(InvalidValue, match=r"x_embedder.*\n?.*Merge"):
        planned(network, [(adapter, 1.0)])
    merged = merge(network, [(adapter, 1.0)])
    after = {key: tensor.clone() for key, tensor in dev.state_dict().items()}
    merged.undo()
    assert all(torch.equal(tensor, before[key]) for key, tensor in dev.state_dict().items())
    wide = torch.cat([before[name], torch.zeros(rows, columns, dtype=torch.float64)], dim=1)
    change = tensors["img_in.lora_B.weight"] @ tensors["img_in.lora_A.weight"]
    assert torch.allclose(after[name], wide + change, rtol=1e-12, atol=1e-12)
    bias = before["x_embedder.bias"] + tensors["img_in.lora_B.bias"]
    assert torch.allclose(after["x_embedder.bias"], bias, rtol=1e-12)
    norms = tensors["double_blocks.0.img_attn.norm.query_norm.scale"]
    assert torch.equal(after["transformer_blocks.0.attn.norm_q.weight"], norms)


@pytest.mark.parametrize("width", ["one more", "three times", "one less"])
def test_a_control_lora_of_another_width_is_refused(width: str, dev: Flux, tmp_path: Path):
    columns = dev.get_parameter("x_embedder.weight").shape[1]
    wide = {"one more": columns + 1, "three times": 3 * columns, "one less": columns - 1}[width]
    save_file(control(dev, wide), tmp_path / "x.safetensors")
    with pytest.raises(Unreadable, match="img_in"):
        load_adapter(found_adapter(tmp_path / "x.safetensors", {"transformer": dev}))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("which", ["flux-dev", "sd3.5-medium"])
def test_what_is_written_is_read_again(which: str, dialect: str, tmp_path: Path):
    """T5 too, which is FLUX's second encoder and SD3's third, and kohya's third in both."""
    networks = {name: one for name, one in FLOWS[which]().items() if name != "vae"}
    adapter = tiny_adapter(networks, ("lora",), seed=1, dtype=torch.float32)
    path = write_adapter(tmp_path / "x.safetensors", adapter, networks, dialect)
    if dialect.startswith("kohya"):
        assert any(name.startswith("lora_te3_") for name in load_file(path))
    found = found_adapter(path, networks)
    assert found.report.applied == found.report.total and not found.report.problems
    again = load_adapter(found)
    assert again.changes.keys() == adapter.changes.keys()
    for place, change in adapter.changes.items():
        shape = tuple(networks[place.component].get_submodule(place.module).weight.shape)
        wanted = change.delta(shape)
        assert (again.changes[place].delta(shape) - wanted).abs().max() <= 1e-5, place
