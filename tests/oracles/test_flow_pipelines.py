"""SD3 and FLUX beside diffusers: the same folder, words and seed are the same picture; and the
original layout is read by their converters as it is by us."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_single_file
from diptych.cli.main import entry
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.pipelines.ordering import order
from diptych.pipelines.painter_front import TextToImage
from tests.oracles.test_stable_diffusion import drawn, tokenizer
from tests.oracles.test_stable_diffusion_2_and_xl import padded_with_0, words
from tests.tiny_t5 import pieces

pytestmark = pytest.mark.filterwarnings("ignore")
SHIFTED = FlowMatchEulerDiscreteScheduler(shift=3.0)
DYNAMIC = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
PLAIN = FlowMatchEulerDiscreteScheduler(shift=1.0)
STEPS = 20
SIZES = pytest.mark.parametrize("size", [(16, 16), (24, 40)])
WORDS = {"prompt": "a photo of a red cat", "negative_prompt": "blurry, dark"}


def vae(scale: float, shift: float) -> AutoencoderKL:
    made = AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=16, sample_size=16,
        scaling_factor=scale, shift_factor=shift, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    drawn(made)
    with torch.no_grad():
        # They draw from what is encoded; then there is one thing to draw.
        made.encoder.conv_out.weight[16:] = 0
        made.encoder.conv_out.bias[16:] = -30
    return made


def t5() -> tuple[T5EncoderModel, T5TokenizerFast]:
    extra = [(f"<extra_id_{i}>", 0.0) for i in reversed(range(100))]
    made = T5TokenizerFast(vocab=[*pieces(), *extra], model_max_length=512)
    config = T5Config(
        vocab_size=len(made), d_model=256, d_kv=24, d_ff=64, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return drawn(T5EncoderModel(config)), made


def made_sd3(*, normed: bool) -> StableDiffusion3Pipeline:
    network = SD3Transformer2DModel(
        sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=64,
        joint_attention_dim=256, caption_projection_dim=128, pooled_projection_dim=64 + 48,
        pos_embed_max_size=24, **({"qk_norm": "rms_norm", "dual_attention_layers": (0,)}
                                  if normed else {}),
    )  # fmt: skip
    second = words(hidden_size=128, num_attention_heads=2, projection_dim=48, num_hidden_layers=4)
    encoder, made = t5()
    return StableDiffusion3Pipeline(
        transformer=drawn(network), scheduler=SHIFTED, vae=vae(1.5305, 0.0609),
        text_encoder=drawn(CLIPTextModelWithProjection(words(projection_dim=64))),
        tokenizer=tokenizer(), text_encoder_2=drawn(CLIPTextModelWithProjection(second)),
        tokenizer_2=padded_with_0(), text_encoder_3=encoder, tokenizer_3=made,
    )  # fmt: skip


def made_flux(kind: Any, scheduler: Any, **changes: Any) -> Any:
    network = FluxTransformer2DModel(
        **{
            "num_layers": 1, "num_single_layers": 2, "num_attention_heads": 1,
            "attention_head_dim": 128, "joint_attention_dim": 256, "pooled_projection_dim": 64,
            "guidance_embeds": True, **changes,
        }
    )  # fmt: skip
    encoder, made = t5()
    return kind(
        transformer=drawn(network), scheduler=scheduler, vae=vae(0.3611, 0.1159),
        text_encoder=drawn(CLIPTextModel(words())), tokenizer=tokenizer(),
        text_encoder_2=encoder, tokenizer_2=made,
    )  # fmt: skip


MADE = {
    "sd3": lambda: made_sd3(normed=False),
    "sd3.5-medium": lambda: made_sd3(normed=True),
    "flux-dev": lambda: made_flux(FluxPipeline, DYNAMIC),
    "flux-schnell": lambda: made_flux(FluxPipeline, PLAIN, guidance_embeds=False),
    "flux-fill": lambda: made_flux(FluxFillPipeline, DYNAMIC, in_channels=144, out_channels=64),
    "flux-control": lambda: made_flux(FluxControlPipeline, DYNAMIC, in_channels=128,
                                      out_channels=64),
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Theirs and its folder, by family, made when it is asked for."""
    known: dict[str, tuple[Any, Path]] = {}

    def of(family: str) -> tuple[Any, Path]:
        if family not in known:
            torch.manual_seed(0)
            made, folder = MADE[family](), tmp_path_factory.mktemp(family)
            made.set_progress_bar_config(disable=True)
            made.save_pretrained(folder)
            known[family] = made, folder
        return known[family]

    return of


def theirs(made: Any, size: tuple[int, int], **asked: Any) -> np.ndarray:
    width, height = size
    return made(
        **{"num_inference_steps": STEPS, **asked}, output_type="np", width=width, height=height,
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip


def noise(size: tuple[int, int]) -> torch.Tensor:
    """As they would draw it first; they draw for the picture that is encoded before it."""
    width, height = (side // 2 for side in size)
    drawn = torch.randn(1, 16, height, width, generator=torch.Generator().manual_seed(5))
    return FluxPipeline._pack_latents(drawn, *drawn.shape)


def same(found: Any, wanted: np.ndarray, size: tuple[int, int]) -> None:
    # Ours is rounded to bytes: half of one, and 1e-4 of the range.
    assert found.size == size and np.abs(np.asarray(found) / 255 - wanted).max() < 0.5 / 255 + 1e-4
    assert np.asarray(found).std() > 20  # a picture, and no even color


def loaded(folder: Path, family: str) -> TextToImage:
    model = TextToImage.load(str(folder))
    reports = {report.component: report for report in model.reports}
    assert reports["transformer"].family == family
    assert all(report.applied == report.total and not report.problems for report in model.reports)
    return model


@SIZES
@pytest.mark.parametrize("family", ["sd3", "sd3.5-medium"])
def test_sd3_paints_the_same_picture(published, family: str, size: tuple[int, int]):
    made, folder = published(family)
    # Their own list of times shifts its last one twice; this is the list of the publisher.
    even = np.linspace(1, 1 / STEPS, STEPS)
    model = loaded(folder, family)
    wanted = theirs(made, size, **WORDS, guidance_scale=5.0, sigmas=even)
    width, height = size
    asked = {"seed": 5, "steps": STEPS, "guidance": 5.0, "width": width, "height": height}
    same(model(**WORDS, **asked), wanted, size)
    assert model.size == (16, 16) and model.sampling.shift == 3


def test_sd3_without_t5_paints_the_same_picture(published, tmp_path: Path):
    _, folder = published("sd3")
    shutil.copytree(folder, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "text_encoder_3")
    shutil.rmtree(tmp_path / "less" / "tokenizer_3")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (tmp_path / "less" / "model_index.json").write_text(json.dumps(index))
    made = StableDiffusion3Pipeline.from_pretrained(
        tmp_path / "less", text_encoder_3=None, tokenizer_3=None, image_encoder=None,
        feature_extractor=None,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    model = loaded(tmp_path / "less", "sd3")
    told = {report.component: report.assumed for report in model.reports}
    assert "zeros" in told["transformer"]["T5"]
    wanted = theirs(made, (24, 16), **WORDS, guidance_scale=5.0,
                    sigmas=np.linspace(1, 1 / STEPS, STEPS))  # fmt: skip
    asked = {"seed": 5, "steps": STEPS, "guidance": 5.0, "width": 24, "height": 16}
    found = model(**WORDS, **asked)
    same(found, wanted, (24, 16))
    # In one file, too; then no vocabulary is needed beside it.
    networks = {one.part.component: load(one) for one in found_in(tmp_path / "less")}
    single = TextToImage.load(str(write_single_file(tmp_path / "x.safetensors", networks)))
    assert single(**WORDS, **asked).tobytes() == found.tobytes()


@SIZES
@pytest.mark.parametrize(("family", "length"), [("flux-dev", 512), ("flux-schnell", 256)])
def test_flux_paints_the_same_picture(published, family: str, length: int, size: tuple[int, int]):
    made, folder = published(family)
    told = {"guidance_scale": 3.5} if family == "flux-dev" else {"guidance_scale": 0.0}
    wanted = theirs(made, size, prompt="a red cat", max_sequence_length=length, **told)
    width, height = size
    model = loaded(folder, family)
    more = {"guidance": 3.5} if family == "flux-dev" else {}
    picture = model("a red cat", seed=5, steps=STEPS, width=width, height=height, **more)
    same(picture, wanted, size)
    assert model.size == (256, 256)  # 128 cells of the two-level autoencoder
    assert (model.sampling.shift is None) == (family == "flux-dev")


@pytest.mark.parametrize("family", ["flux-dev", "flux-schnell"])
def test_a_negative_prompt_is_kept_away_from_as_by_them(published, family: str):
    made, folder = published(family)
    dev = family == "flux-dev"
    own = {"guidance_scale": 3.5} if dev else {}
    length = 512 if dev else 256
    model = loaded(folder, family)
    more = {"guidance": 3.5} if dev else {}
    asked = {"seed": 5, "steps": 6, "width": 24, "height": 40, "true_guidance": 4.0, **more}
    for negative in (WORDS["negative_prompt"], ""):
        wanted = theirs(
            made, (24, 40), prompt="a red cat", negative_prompt=negative, true_cfg_scale=4.0,
            max_sequence_length=length, num_inference_steps=6, **own,
        )  # fmt: skip
        picture = model("a red cat", negative_prompt=negative, **asked)
        same(picture, wanted, (24, 40))
        assert picture.info["recipe"].true_guidance == 4
    with pytest.raises(InvalidValue, match="true guidance"):
        model("a red cat", negative_prompt="dark")


def test_models_with_a_guidance_of_their_own_take_no_true_one(published):
    model = loaded(published("sd3")[1], "sd3")
    with pytest.raises(InvalidValue, match="as FLUX"):
        model("a red cat", true_guidance=4.0)


def test_fill_paints_the_same_picture(published):
    made, folder = published("flux-fill")
    numbers = np.random.default_rng(0)
    picture = Image.fromarray(numbers.integers(0, 256, (24, 40, 3), np.uint8))
    mask = np.zeros((24, 40), np.uint8)
    mask[5:17, 9:30] = 255
    where = Image.fromarray(mask)
    wanted = theirs(made, (40, 24), prompt="a red cat", image=picture, mask_image=where,
                    guidance_scale=30.0, latents=noise((40, 24)))  # fmt: skip
    model = loaded(folder, "flux-fill")
    found = model("a red cat", seed=5, steps=STEPS, init=picture, mask=where)
    inside = mask.astype(bool)
    assert model.sampling.guidance == 30
    error = np.abs(np.asarray(found) / 255 - wanted)
    assert error[inside].max() < 0.5 / 255 + 1e-4
    assert np.array_equal(np.asarray(found)[~inside], np.asarray(picture)[~inside])
    with pytest.raises(InvalidValue, match="picture to begin from"):
        model("a red cat")


def control_lora(made: Any, path: Path) -> Path:
    """Drawn changes of every layer in their names, the first twice as wide, and other norms, as
    those of Black Forest Labs."""
    draw, tensors = torch.Generator().manual_seed(3), {}
    for name, module in made.transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            rows, columns = module.weight.shape
            columns *= 1 + (name == "x_embedder")
            up, down = (torch.randn(shape, generator=draw) for shape in ((rows, 2), (2, columns)))
            tensors[f"transformer.{name}.lora_B.weight"] = 0.2 * up
            tensors[f"transformer.{name}.lora_A.weight"] = down / columns**0.5
            tensors[f"transformer.{name}.lora_B.bias"] = 0.1 * torch.randn(rows, generator=draw)
        elif name.rpartition(".")[2] in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            value = 0.5 + torch.rand(module.weight.shape, generator=draw)
            tensors[f"transformer.{name}.weight"] = value
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("strength", [1.0, 0.85])
def test_a_map_is_followed_by_a_lora_as_by_them(strength: float, published, tmp_path: Path):
    _, folder = published("flux-dev")
    made = FluxControlPipeline.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    file = control_lora(made, tmp_path / "canny.safetensors")
    numbers = np.random.default_rng(0)
    edges = Image.fromarray(numbers.integers(0, 256, (24, 40, 3), np.uint8))
    made.load_lora_weights(str(file), adapter_name="canny")
    made.set_adapters(["canny"], [strength])
    wanted = theirs(made, (40, 24), prompt="a red cat", control_image=edges, guidance_scale=10.0,
                    latents=noise((40, 24)), num_inference_steps=6)  # fmt: skip
    model = loaded(folder, "flux-dev")
    asked = {"seed": 5, "steps": 6, "init": edges}
    with pytest.raises(InvalidValue, match="follow pictures"):
        model("a red cat", **asked, loras=[(file, strength)])
    report = model.add(file, strength=strength)
    assert report.applied == report.total
    picture = model("a red cat", **asked)
    same(picture, wanted, (40, 24))
    assert picture.info["recipe"].guidance == 10
    assert picture.info["recipe"].loras[0].startswith(f"canny x {strength:g} ")
    with pytest.raises(InvalidValue, match="picture to begin from"):
        model("a red cat")
    # As the engine orders it, too.
    _, recipe = order(model, "a red cat", **asked)
    assert recipe == picture.info["recipe"]
    edges.save(tmp_path / "edges.png")
    said = ["a red cat", "--model", folder, "--lora", f"{file}:{strength}", "--steps", "6"]
    said += ["--init", tmp_path / "edges.png", "--seed", "5", "-o", tmp_path / "x.png"]
    assert entry(["generate", *map(str, said)]) == 0
    with Image.open(tmp_path / "x.png") as typed:
        assert np.array_equal(np.asarray(typed), np.asarray(picture))


def test_a_lora_to_be_followed_is_for_flux_alone(published, tmp_path: Path):
    file = control_lora(published("flux-dev")[0], tmp_path / "canny.safetensors")
    model = loaded(published("sd3")[1], "sd3")
    with pytest.raises(Unreadable, match="does not fit"):
        model.add(file)
    with pytest.raises(InvalidValue, match="in the call"):
        model.add(file, strength=0.5)


def test_a_map_is_followed_as_by_them(published):
    made, folder = published("flux-control")
    numbers = np.random.default_rng(0)
    edges = Image.fromarray(numbers.integers(0, 256, (24, 40, 3), np.uint8))
    wanted = theirs(made, (40, 24), prompt="a red cat", control_image=edges, guidance_scale=10.0,
                    latents=noise((40, 24)))  # fmt: skip
    model = loaded(folder, "flux-control")
    same(model("a red cat", seed=5, steps=STEPS, init=edges), wanted, (40, 24))
    with pytest.raises(InvalidValue, match="mask"):
        model("a red cat", init=edges, mask=edges)
