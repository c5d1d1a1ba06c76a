"""Pictures that are followed and pictures that are read like words, beside diffusers: ControlNets,
T2I-Adapters and IP-Adapters, whole ways of 20 steps, from the files that they write."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    DDIMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    T2IAdapter,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.imaging.clip_pictures import clip_image
from diptych.models.ip_adapter import IPAdapter, IPAdapterConfig
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.steering import Control, ImagePrompt
from tests.oracles.test_editing_pipelines import (
    ASKED,
    STEPS,
    assert_near,
    certain,
    picture,
    seeded,
    unet,
)
from tests.oracles.test_stable_diffusion import drawn, tokenizer
from tests.oracles.test_stable_diffusion_2_and_xl import DDIM, made_xl, saved, words

pytestmark = pytest.mark.filterwarnings("ignore")
OURS = {"seed": 5, "steps": 20, "guidance": 7.5, "width": 40, "height": 24}
SIZE = {"width": 40, "height": 24}


def followed(seed: int) -> Image.Image:
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (24, 40, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def parts():
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    return {
        "vae": certain(0.18215), "text_encoder": drawn(CLIPTextModel(words())),
        "tokenizer": tokenizer(), "unet": unet(4), "scheduler": DDIMScheduler(**DDIM),
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def plain(parts, tmp_path_factory: pytest.TempPathFactory):
    return saved(StableDiffusionPipeline(**parts), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def controls(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[ControlNetModel, Path]]:
    made = []
    for number in range(2):
        torch.manual_seed(10 + number)
        network = drawn(
            ControlNetModel(
                block_out_channels=(32, 64), layers_per_block=1,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=64,
                attention_head_dim=8, conditioning_embedding_out_channels=(8, 16),
            )
        )  # fmt: skip
        path = tmp_path_factory.mktemp("control") / f"control-{number}"
        network.save_pretrained(path)
        made.append((network, path))
    return made


@pytest.mark.parametrize(("count", "guess"), [(1, False), (1, True), (2, False)])
def test_controlnets(parts, plain, controls, count: int, guess: bool):
    nets, paths = zip(*controls[:count], strict=True)
    kept = {k: v for k, v in parts.items() if k != "controlnet"}
    theirs = StableDiffusionControlNetPipeline(**kept, controlnet=list(nets))
    theirs.set_progress_bar_config(disable=True)
    strengths, starts, ends = [0.8, 1.3][:count], [0.0, 0.3][:count], [1.0, 0.7][:count]
    pictures = [followed(number) for number in range(count)]
    wanted = theirs(
        **ASKED, **STEPS, **SIZE, image=pictures, controlnet_conditioning_scale=strengths,
        control_guidance_start=starts, control_guidance_end=ends, guess_mode=guess,
        generator=seeded(),
    ).images[0]  # fmt: skip
    model = TextToImage.load(str(plain[1]))
    for number, path in enumerate(paths):
        report = model.add(path, f"c{number}")
        assert report.applied == report.total and report.family == "sd1"
    given = [
        Control(
            network=f"c{i}", picture=pictures[i], strength=strengths[i], start=starts[i],
            end=ends[i], guess=guess,
        )
        for i in range(count)
    ]  # fmt: skip
    assert_near(model(**ASKED, **OURS, solver="ddim", controls=given), wanted)
    assert np.abs(np.asarray(model(**ASKED, **OURS, solver="ddim")) / 255 - wanted).max() > 0.01


def test_a_control_of_another_size_family_or_name_is_refused(plain, controls, tmp_path: Path):
    model = TextToImage.load(str(plain[1]))
    model.add(controls[0][1], "canny")
    with pytest.raises(InvalidValue, match="The picture to follow is 40 x 24, the painted one 16"):
        model(
            **ASKED, width=16, height=16, controls=[Control(network="canny", picture=followed(0))]
        )
    with pytest.raises(InvalidValue, match="kind=2 is for a union"):
        model(**ASKED, **SIZE, controls=[Control(network="canny", picture=followed(0), kind=2)])
    with pytest.raises(InvalidValue, match="edit by words"):
        model(**ASKED, **SIZE, image_guidance=1.5)
    with pytest.raises(NotFound, match="Did you mean 'canny'"):
        model(**ASKED, controls=[Control(network="cany", picture=followed(0))])
    with pytest.raises(InvalidValue, match="'canny' follows a picture"):
        model(**ASKED, image_prompts=[ImagePrompt(network="canny", picture=followed(0))])
    with pytest.raises(InvalidValue, match="is 'canny' already"):
        model.add(controls[0][1], "canny")
    with pytest.raises(Unreadable, match="nothing that is added"):
        model.add(plain[1] / "unet")
    other = ControlNetModel(
        block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=8,
        conditioning_embedding_out_channels=(8, 16),
    )  # fmt: skip
    other.save_pretrained(tmp_path / "other")
    model.add(tmp_path / "other")
    with pytest.raises(InvalidValue, match="does not steer this model"):
        model(**ASKED, **SIZE, controls=[Control(network="other", picture=followed(0))])


def test_a_saved_pipeline_says_that_its_control_is_not_used_by_itself(
    parts, controls, tmp_path: Path
):
    pipeline = StableDiffusionControlNetPipeline(**parts, controlnet=controls[0][0])
    pipeline.save_pretrained(tmp_path)
    model = TextToImage.load(str(tmp_path))
    uses = {one.component: one.assumed.get("use", "") for one in model.reports}
    assert "TextToImage.add" in uses["controlnet"] and not uses["unet"]
    model.add(tmp_path / "controlnet", "canny")
    assert model.attached["canny"].report.applied == model.attached["canny"].report.total


def test_sdxl_with_a_controlnet(tmp_path: Path):
    torch.manual_seed(0)
    base = made_xl()
    # Its hint is halved once, as the picture is by this autoencoder.
    network = drawn(
        ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(8, 16))
    )
    network.save_pretrained(tmp_path / "control")
    _, folder = saved(base, tmp_path / "xl")
    kept = {k: v for k, v in base.components.items() if v is not None}
    theirs = StableDiffusionXLControlNetPipeline(**kept, controlnet=network, add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    wanted = theirs(**ASKED, **STEPS, **SIZE, image=followed(3), generator=seeded()).images[0]
    model = TextToImage.load(str(folder))
    assert model.add(tmp_path / "control", "c").family == "sdxl"
    assert_near(
        model(**ASKED, **OURS, controls=[Control(network="c", picture=followed(3))]), wanted
    )


def test_t2i_adapter(parts, plain, tmp_path: Path):
    torch.manual_seed(4)
    network = drawn(T2IAdapter(channels=[32, 64], num_res_blocks=1, downscale_factor=8))
    network.adapter.unshuffle = torch.nn.PixelUnshuffle(2)
    network.adapter.conv_in = drawn(torch.nn.Conv2d(12, 32, 3, padding=1))
    network.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace('"downscale_factor": 8', '"downscale_factor": 2')
    )
    theirs = StableDiffusionAdapterPipeline(**parts, adapter=network)
    theirs.set_progress_bar_config(disable=True)
    wanted = theirs(
        **ASKED, **STEPS, **SIZE, image=followed(6), adapter_conditioning_scale=0.8,
        generator=seeded(),
    ).images[0]  # fmt: skip
    model = TextToImage.load(str(plain[1]))
    model.add(tmp_path, "sketch")
    given = [Control(network="sketch", picture=followed(6), strength=0.8)]
    assert_near(model(**ASKED, **OURS, solver="ddim", controls=given), wanted)


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_ip_adapter(parts, plain, tmp_path: Path, kind: str):
    torch.manual_seed(5)
    sees = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
            image_size=32, patch_size=8, projection_dim=24, hidden_act="gelu",
        )
    )  # fmt: skip
    sees = drawn(sees)
    sees.save_pretrained(tmp_path / "encoder")
    config = IPAdapterConfig(
        kind=kind, input_width=24 if kind == "plain" else 32, context_width=64, tokens=4,
        widths=(32, 32, 32, 64), hidden=128, depth=4, heads=2,
    )  # fmt: skip
    network = drawn(IPAdapter(config))
    save_file(network.state_dict(), tmp_path / "ip.safetensors")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    theirs = StableDiffusionPipeline(
        **{**parts, "feature_extractor": processor}, image_encoder=sees
    )
    theirs.set_progress_bar_config(disable=True)
    shown = picture(50, 70)
    theirs.load_ip_adapter(str(tmp_path), subfolder="", weight_name="ip.safetensors",
                           image_encoder_folder=None)  # fmt: skip
    theirs.set_ip_adapter_scale(0.7)
    pixels = clip_image(np.asarray(shown), 32)[None]
    encoded = sees(pixels, output_hidden_states=True)
    none = sees(torch.zeros_like(pixels), output_hidden_states=True)
    pair = (
        [torch.zeros_like(encoded.image_embeds), encoded.image_embeds]
        if kind == "plain"
        else [none.hidden_states[-2], encoded.hidden_states[-2]]
    )
    wanted = theirs(
        **ASKED, **STEPS, **SIZE, generator=seeded(),
        ip_adapter_image_embeds=[torch.stack(pair)],
    ).images[0]  # fmt: skip
    theirs.unload_ip_adapter()
    model = TextToImage.load(str(plain[1]))
    report = model.add(tmp_path / "ip.safetensors", "ip", encoder=tmp_path / "encoder")
    assert report.applied == report.total
    given = [ImagePrompt(network="ip", picture=shown, strength=0.7)]
    assert_near(model(**ASKED, **OURS, solver="ddim", image_prompts=given), wanted)
    with pytest.raises(InvalidValue, match="reads pictures like words"):
        model(**ASKED, controls=[Control(network="ip", picture=shown)])


@pytest.fixture(scope="module")
def face(parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As those for faces were published: an adapter, and in its file a LoRA of every attention."""
    torch.manual_seed(6)
    config = IPAdapterConfig(
        kind="face", input_width=24, context_width=64, tokens=4, widths=(32, 32, 32, 64), hidden=48
    )
    state = drawn(IPAdapter(config)).state_dict()
    draw = torch.Generator().manual_seed(7)
    for number, name in enumerate(parts["unet"].attn_processors):
        attention = parts["unet"].get_submodule(name.removesuffix(".processor"))
        for part, layer in (
            ("q", attention.to_q), ("k", attention.to_k), ("v", attention.to_v),
            ("out", attention.to_out[0]),
        ):  # fmt: skip
            rows, columns = layer.weight.shape
            for end, shape in (("up", (rows, 3)), ("down", (3, columns))):
                value = 0.2 * torch.randn(shape, generator=draw)
                state[f"ip_adapter.{number}.to_{part}_lora.{end}.weight"] = value
    path = tmp_path_factory.mktemp("face") / "face.safetensors"
    save_file(state, path)
    return path


def test_a_face_is_read_with_its_lora(parts, plain, face: Path):
    theirs = StableDiffusionPipeline(**{**parts, "unet": copy.deepcopy(parts["unet"])})
    theirs.set_progress_bar_config(disable=True)
    theirs.load_ip_adapter(str(face.parent), subfolder="", weight_name=face.name,
                           image_encoder_folder=None)  # fmt: skip
    theirs.set_ip_adapter_scale(0.7)
    vector = np.random.default_rng(0).normal(size=24).astype(np.float32)
    pair = torch.stack([torch.zeros(1, 24), torch.from_numpy(vector)[None]])
    wanted = theirs(
        **ASKED, **STEPS, **SIZE, generator=seeded(), ip_adapter_image_embeds=[pair]
    ).images[0]  # fmt: skip
    model = TextToImage.load(str(plain[1]))
    before = np.asarray(model(**ASKED, **OURS, solver="ddim"))
    report = model.add(face, "face")
    assert report.applied == report.total and not report.ignored
    assert report.assumed["LoRA"] == "32 layers, rank 3, wherever it is read"
    given = [ImagePrompt(network="face", embedding=vector, strength=0.7)]
    assert_near(model(**ASKED, **OURS, solver="ddim", image_prompts=given), wanted)
    # Without the face the model is what it was.
    assert np.array_equal(np.asarray(model(**ASKED, **OURS, solver="ddim")), before)


def test_a_face_of_another_family_is_refused(face: Path, tmp_path: Path):
    _, folder = saved(made_xl(), tmp_path)
    with pytest.raises(InvalidValue, match="another family"):
        TextToImage.load(str(folder)).add(face, "face")


@pytest.mark.parametrize("kind", [0, 3])
def test_a_union_of_controlnets(kind: int, tmp_path: Path):
    torch.manual_seed(0)
    base = made_xl()
    made = dict(ControlNetUnionModel.from_unet(base.unet).config)
    config = {key: value for key, value in made.items() if not key.startswith("_")} | {
        "conditioning_embedding_out_channels": (8, 16), "num_trans_channel": 64,
        "num_trans_head": 4, "num_proj_channel": 64,
    }  # fmt: skip
    network = drawn(ControlNetUnionModel(**config))
    network.save_pretrained(tmp_path / "union")
    _, folder = saved(base, tmp_path / "xl")
    kept = {k: v for k, v in base.components.items() if v is not None}
    theirs = StableDiffusionXLControlNetUnionPipeline(
        **kept, controlnet=network, add_watermarker=False
    )
    theirs.set_progress_bar_config(disable=True)
    wanted = theirs(
        **ASKED, **STEPS, **SIZE, control_image=[followed(3)], control_mode=[kind],
        controlnet_conditioning_scale=0.8, generator=seeded(),
    ).images[0]  # fmt: skip
    model = TextToImage.load(str(folder))
    report = model.add(tmp_path / "union", "u")
    assert report.family == "sdxl" and report.applied == report.total
    given = [Control(network="u", picture=followed(3), kind=kind, strength=0.8)]
    assert_near(model(**ASKED, **OURS, controls=given), wanted)
    with pytest.raises(InvalidValue, match="no kind"):
        model(**ASKED, **OURS, controls=[Control(network="u", picture=followed(3), kind=6)])
