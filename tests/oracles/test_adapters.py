"""Adapters beside diffusers and PEFT: the same file, the same network, the same output."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from networks import ExactTimes, apart, drawn, randomized, twin
from peft import (
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    PeftConfig,
    get_peft_model,
    inject_adapter_in_model,
)
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from diptych.adapters.merging import merge
from diptych.adapters.rows import applied, planned
from diptych.checkpoints.adapters.read import AdapterReport, found_adapter, load_adapter
from diptych.checkpoints.families import clip_text, sd_unet
from diptych.models.clip_text import CLIPText
from diptych.models.unet import UNet

pytestmark = pytest.mark.filterwarnings("ignore")
Tensors = dict[str, Tensor]
Named = Callable[[str], str]


def unet_of(**asked: Any) -> UNet2DConditionModel:
    said: dict[str, Any] = {
        "sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 48, "attention_head_dim": 4, "norm_num_groups": 8,
    }  # fmt: skip
    unet = randomized(UNet2DConditionModel(**said | asked))
    unet.time_proj = ExactTimes(unet.config.block_out_channels[0])
    if hasattr(unet, "add_time_proj"):
        unet.add_time_proj = ExactTimes(8)
    return unet


FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "sd1": (StableDiffusionPipeline, {}),
    "sdxl": (
        StableDiffusionXLPipeline,
        {
            "block_out_channels": (16, 32, 64), "attention_head_dim": (2, 2, 4),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 1, 2), "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "layers_per_block": 2,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(family: str) -> UNet2DConditionModel:
    return unet_of(**FAMILIES[family][1])


@pytest.fixture
def theirs(whole: UNet2DConditionModel) -> UNet2DConditionModel:
    return copy.deepcopy(whole)


@pytest.fixture
def ours(whole: UNet2DConditionModel) -> UNet:
    config = json.loads(json.dumps(dict(whole.config)))
    return twin(UNet(sd_unet.config_of_json(config)), whole).requires_grad_(False)


def asked(unet: nn.Module) -> Tensor:
    """The output of either network, for two pictures."""
    x, words, times = drawn(2, 4, 10, 6), drawn(2, 7, 48, seed=1), torch.tensor([3.0, 801.0])
    own: Any = unet
    pooled, sizes = drawn(2, 20, seed=2), torch.arange(12.0).view(2, 6).double()
    if isinstance(unet, UNet):
        from diptych.nn.positions import number_features

        vector = None
        if unet.config.vector_width:
            vector = torch.cat([pooled, number_features(sizes, 8, torch.float64)], dim=-1)
        return unet(x, times.double(), words, vector)
    more = {"text_embeds": pooled, "time_ids": sizes} if hasattr(own, "add_embedding") else None
    return own(x, times.double(), words, added_cond_kwargs=more).sample


def layers(network: nn.Module, *ends: str) -> Iterator[tuple[str, nn.Module]]:
    for path, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and path.endswith(ends):
            yield path, module


def factors(module: nn.Module, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """up and down, of a size that matters."""
    rows, columns, *kernel = module.weight.shape  # type: ignore[union-attr]
    ones = [1] * len(kernel)
    up, down = drawn(rows, rank, *ones, seed=seed), drawn(rank, columns, *kernel, seed=seed + 1)
    return up * 0.3, down * 0.3


ATTENTIONS = ("to_q", "to_k", "to_v", "to_out.0")
ALL = (*ATTENTIONS, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
RESNETS = ("conv1", "conv2", "time_emb_proj", "conv_shortcut", "downsamplers.0.conv")


def kohya(unet: nn.Module, named: Named, *ends: str, alphas: int = 1) -> Tensors:
    """Ranks differ from layer to layer, and alphas if there are several."""
    file: Tensors = {}
    for number, (path, module) in enumerate(layers(unet, *ends)):
        rank, name = 2 + number % 3, f"lora_unet_{named(path).replace('.', '_')}"
        up, down = factors(module, rank, 10 * number)
        alpha = torch.tensor(3.0 + number % alphas)
        file |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
        file |= {f"{name}.alpha": alpha}
    return file


def dotted(unet: nn.Module, up: str, down: str, *ends: str, name: Named = str) -> Tensors:
    file: Tensors = {}
    for number, (path, module) in enumerate(layers(unet, *ends)):
        a, b = factors(module, 2 + number % 2, 10 * number)
        file |= {f"unet.{name(path)}{up}": a, f"unet.{name(path)}{down}": b}
    return file


def processor(path: str) -> str:
    start, _, layer = path.rpartition(".to_")
    return f"{start}.processor.to_{layer.removesuffix('.0')}_lora"


def read_by_them(pipeline: Any, path: Path, unet: UNet2DConditionModel) -> nn.Module:
    state, alphas, metadata = pipeline.lora_state_dict(
        str(path.parent), weight_name=path.name, unet_config=unet.config, return_lora_metadata=True
    )
    pipeline.load_lora_into_unet(state, alphas, unet, metadata=metadata)
    return unet.double().eval()


def read_by_us(path: Path, ours: UNet) -> tuple[Tensor, AdapterReport]:
    """As rows of a batch, which must equal what merging gives."""
    found = found_adapter(path, {"unet": ours})
    assert found.report.applied == found.report.total > 20 and not found.report.problems
    adapter = load_adapter(found)
    before = asked(ours)
    plan = planned({"unet": ours}, [(adapter, 1.0)])
    with applied([plan, plan]):
        out = asked(ours)
    merged = merge({"unet": ours}, [(adapter, 1.0)])
    assert apart(asked(ours), out) < 1e-12
    merged.undo()
    assert torch.equal(asked(ours), before) and apart(out, before) > 1e-2
    return out, found.report


FILES: dict[str, Callable[[nn.Module], Tensors]] = {
    "kohya": lambda unet: kohya(unet, str, *ALL),
    "kohya with convolutions": lambda unet: kohya(unet, str, *ALL, *RESNETS),
    "diffusers, PEFT": lambda unet: dotted(
        unet, ".lora_B.weight", ".lora_A.weight", *ALL, *RESNETS
    ),
    "diffusers of 2023": lambda unet: dotted(
        unet, ".up.weight", ".down.weight", *ATTENTIONS, name=processor
    ),
    "diffusers": lambda unet: dotted(unet, ".lora.up.weight", ".lora.down.weight", *ALL),
}


@pytest.mark.parametrize("dialect", FILES)
def test_a_dialect(family: str, dialect: str, theirs, ours: UNet, tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_file(FILES[dialect](theirs), path)
    wanted = asked(read_by_them(FAMILIES[family][0], path, theirs))
    found, report = read_by_us(path, ours)
    assert apart(found, wanted) < 1e-9
    assert report.kinds == {"LoRA": report.targets["unet"]} and report.family == family
    assert report.layout.split()[0] == dialect.split(",")[0].split()[0]


def test_numbers_of_the_original_layout(ours: UNet, theirs, family: str, tmp_path: Path):
    """As kohya names SDXL: `lora_unet_input_blocks_4_1_...`; for SD 1 diffusers cannot, and the
    same factors under the folder's names stand for it."""
    rules = sd_unet.original_rules(ours.config)

    def original(path: str) -> str:
        rule = max(
            (rule for rule in rules if f"{path}.".startswith(rule.ours)),
            key=lambda rule: len(rule.ours),
        )
        return (rule.theirs + f"{path}.".removeprefix(rule.ours)).removesuffix(".")

    one, other = tmp_path / "original.safetensors", tmp_path / "folder.safetensors"
    file = kohya(theirs, original, *ALL, *RESNETS)
    save_file(file, one)
    save_file(kohya(theirs, str, *ALL, *RESNETS), other)
    assert any("input_blocks_4_1_" in name for name in file) or family == "sd1"
    found, _ = read_by_us(one, ours)
    wanted = asked(read_by_them(FAMILIES[family][0], other, theirs))
    assert apart(found, wanted) < 1e-9


def test_alphas_that_differ(family: str, theirs, ours: UNet, tmp_path: Path):
    """diffusers 0.42 files them under names that PEFT does not know, and takes the commonest for
    all in silence; with the right ones set by hand it is the same network."""
    path = tmp_path / "x.safetensors"
    file = kohya(theirs, str, "to_q", "conv1", alphas=4)
    save_file(file, path)
    found, _ = read_by_us(path, ours)
    unet = read_by_them(FAMILIES[family][0], path, theirs)
    assert apart(found, asked(unet)) > 1e-3
    for name, module in unet.named_modules():
        if hasattr(module, "scaling"):
            stored = f"lora_unet_{name.replace('.', '_')}"
            rank = len(file[f"{stored}.lora_down.weight"])
            right = float(file[f"{stored}.alpha"]) / rank
            module.scaling = dict.fromkeys(module.scaling, right)
    assert apart(found, asked(unet)) < 1e-9


PEFTS: dict[str, PeftConfig] = {
    "LoRA": LoraConfig(r=4, lora_alpha=6, target_modules=list(ATTENTIONS)),
    "rank-stabilized": LoraConfig(
        r=4, lora_alpha=6, use_rslora=True, target_modules=["to_q", "conv1"]
    ),
    "patterns": LoraConfig(
        r=4, lora_alpha=6, target_modules=["to_q", "to_k"], rank_pattern={"attn1.to_q": 2},
        alpha_pattern={"attn2.to_k": 3.0},
    ),
    "DoRA": LoraConfig(r=4, use_dora=True, target_modules=[*ATTENTIONS, "conv1", "conv_shortcut"]),
    "with biases": LoraConfig(r=4, lora_alpha=8, lora_bias=True, target_modules=["to_out.0"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", PEFTS)
def test_what_diffusers_writes_with_its_config(kind: str, family: str, theirs, ours, tmp_path):
    """The alpha, and that it is divided by the root of the rank, stand in the metadata alone."""
    theirs.add_adapter(PEFTS[kind])
    for number, (name, parameter) in enumerate(theirs.named_parameters()):
        if "lora_" in name:
            noise = drawn(*parameter.shape, seed=number) * 0.3
            parameter.data = parameter.data + noise.abs() if "magnitude" in name else noise
    theirs.double().save_lora_adapter(
        tmp_path, upcast_before_saving=False, weight_name="x.safetensors"
    )
    found, report = read_by_us(tmp_path / "x.safetensors", ours)
    assert apart(found, asked(theirs.eval())) < 1e-9
    assert set(report.kinds) == {"DoRA" if kind == "DoRA" else "LoRA"}


OF_PEFT: dict[str, PeftConfig] = {
    "LoHa": LoHaConfig(r=4, alpha=2, target_modules=["to_q", "to_v"]),
    "LoHa of convolutions": LoHaConfig(
        r=4, alpha=2, target_modules=["conv1"], use_effective_conv2d=True
    ),
    "LoKr": LoKrConfig(r=2, alpha=1, target_modules=["to_q", "to_v"]),
    "LoKr of convolutions": LoKrConfig(
        r=2, alpha=1, target_modules=["conv1"], use_effective_conv2d=True, decompose_both=True
    ),
    "LoRA of a folder": LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "conv2"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", OF_PEFT)
def test_a_folder_of_peft(kind: str, family: str, theirs, ours: UNet, tmp_path: Path):
    model = get_peft_model(theirs, copy.deepcopy(OF_PEFT[kind])).double().eval()
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            parameter.data = drawn(*parameter.shape, seed=number) * 0.3
    wanted = asked(model.base_model.model)
    model.save_pretrained(tmp_path)
    found, report = read_by_us(tmp_path, ours)
    assert apart(found, wanted) < 1e-9
    assert report.layout == "PEFT" and set(report.kinds) == {kind.split()[0]}


WORDS = CLIPTextConfig(
    hidden_size=48, intermediate_size=96, num_attention_heads=2, num_hidden_layers=3,
    vocab_size=300, max_position_embeddings=20, hidden_act="gelu", projection_dim=20,
    bos_token_id=298, eos_token_id=299,
)  # fmt: skip
OF_WORDS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_OLD = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def _old_words(path: str) -> str:
    start, _, layer = path.rpartition(".")
    return f"{start}.{_OLD[layer]}_lora"


# name of the layer -> name in the file, the ends of up and down, layers that have a name there
WORD_FILES: dict[str, tuple[Named, str, str, tuple[str, ...]]] = {
    "kohya": (
        lambda path: f"lora_te_text_model_{path.replace('.', '_')}",
        ".lora_up.weight", ".lora_down.weight", OF_WORDS,
    ),
    "diffusers": (
        lambda path: f"text_encoder.{path}", ".lora_B.weight", ".lora_A.weight", OF_WORDS
    ),
    "diffusers, text_model": (
        lambda path: f"text_encoder.text_model.{path}",
        ".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight", OF_WORDS,
    ),
    "diffusers of 2023": (
        lambda path: f"text_encoder.text_model.{_old_words(path)}",
        ".up.weight", ".down.weight", tuple(_OLD),
    ),
    "ComfyUI": (
        lambda path: f"clip_l.transformer.text_model.{path}", ".lora_up.weight",
        ".lora_down.weight", OF_WORDS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", WORD_FILES)
def test_words_in_a_dialect(dialect: str, tmp_path: Path):
    named, up, down, ends = WORD_FILES[dialect]
    theirs = randomized(CLIPTextModel(WORDS))
    config = clip_text.config_of_json(WORDS.to_diff_dict(), 299)
    ours = twin(CLIPText(config), theirs).requires_grad_(False)
    file = dict[str, Tensor]()
    for number, (path, module) in enumerate(layers(theirs, *ends)):
        a, b = factors(module, 3, 10 * number)
        file |= {named(path) + up: a, named(path) + down: b}
    save_file(file, tmp_path / "x.safetensors")
    model = inject_adapter_in_model(
        LoraConfig(r=3, lora_alpha=3, target_modules=list(ends)), theirs
    )
    model.double()
    state = dict(model.named_parameters())
    for path, _ in [*layers(ours, *ends)]:
        state[f"{path}.lora_B.default.weight"].data = file[named(path) + up]
        state[f"{path}.lora_A.default.weight"].data = file[named(path) + down]
    ids = torch.randint(0, 298, (2, 9))
    ids[:, -1] = 299
    wanted = model(ids, output_hidden_states=True)
    networks = {"text_encoder": ours}
    found = found_adapter(tmp_path / "x.safetensors", networks)
    assert found.report.applied == found.report.total == len(file)
    plan = planned(networks, [(load_adapter(found), 1.0)])
    with applied([plan, plan]):
        states = ours(ids)
    assert apart(states.last, wanted.last_hidden_state) < 1e-9
    assert apart(states.layers[-2], wanted.hidden_states[-2]) < 1e-9
    assert apart(states.last, ours(ids).last) > 1e-2


def test_two_encoders_know_their_own(tmp_path: Path):
    """`lora_te1_` and `lora_te2_` of SDXL; a bare name belongs to none of two."""
    ours = {}
    for name, kind in (
        ("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)
    ):  # fmt: skip
        said = WORDS.to_diff_dict() | {"architectures": [kind.__name__]}
        ours[name] = CLIPText(clip_text.config_of_json(said, 299))
    file = dict[str, Tensor]()
    for number, prefix in ((0, "lora_te1_"), (1, "lora_te2_")):
        for path, module in layers(ours["text_encoder"], "q_proj"):
            up, down = factors(module, 2, number)
            name = f"{prefix}text_model_{path.replace('.', '_')}"
            file |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
    save_file(file, tmp_path / "x.safetensors")
    adapter = load_adapter(found_adapter(tmp_path / "x.safetensors", ours))
    assert [place.component for place in adapter.changes] == [
        *["text_encoder"] * 3, *["text_encoder_2"] * 3
    ]  # fmt: skip
    bare = {"text_model.encoder.layers.0.self_attn.q_proj" + end: tensor for end, tensor in (
        (".lora_up.weight", up), (".lora_down.weight", down)
    )}  # fmt: skip
    save_file(bare, tmp_path / "bare.safetensors")
    problems = found_adapter(tmp_path / "bare.safetensors", ours).report.problems
    assert "is a layer of text_encoder and text_encoder_2" in problems[0].said


def test_the_state_that_peft_keeps(tmp_path: Path):
    """`base_model.model.` before everything, and the adapter's name inside."""
    theirs = unet_of()
    config = sd_unet.config_of_json(json.loads(json.dumps(dict(theirs.config))))
    model = get_peft_model(theirs, LoraConfig(r=2, target_modules=["to_q"]))
    state = {name: p.data.clone() for name, p in model.named_parameters() if ".default." in name}
    assert all(name.startswith("base_model.model.") for name in state)
    save_file(state, tmp_path / "x.safetensors")
    report = found_adapter(tmp_path / "x.safetensors", {"unet": UNet(config)}).report
    assert (
        report.applied
        == report.total
        == len(state)
        == 2 * len(get_peft_model_state_dict(model)) // 2
    )
