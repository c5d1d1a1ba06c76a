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
from diffusers.loaders import single_file_utils
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_single_file
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Begin, Request
from diptych.pipelines.tiles import Tiling
from tests.oracles.test_stable_diffusion import drawn, tokenizer
from tests.oracles.test_stable_diffusion_2_and_xl import padded_with_0, words
from tests.tiny_t5 import pieces, spiece_folder

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
        **asked, generator=torch.Generator().manual_seed(5), output_type="np",
        num_inference_steps=STEPS, width=width, height=height,
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


@pytest.mark.parametrize("family", ["sd3.5-medium", "flux-dev", "flux-schnell"])
def test_a_single_file_paints_what_its_folder_paints(published, tmp_path: Path, family: str):
    _, folder = published(family)
    model = loaded(folder, family)
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(tmp_path / "whole.safetensors", networks)
    third = "tokenizer_3" if family.startswith("sd3") else "tokenizer_2"
    with pytest.raises(NotFound, match=third) as refusal:
        TextToImage.load(str(path))
    assert "spiece.model" in str(refusal.value)
    spiece_folder(tmp_path / third)
    single = TextToImage.load(str(path))
    assert single.sampling == model.sampling and single.size == (256, 256)
    asked = {"prompt": "a (red:1.3) cat", "seed": 5, "steps": 4, "width": 24, "height": 16}
    assert single(**asked).tobytes() == model(**asked).tobytes()


def test_a_transformer_alone_is_no_model(published, tmp_path: Path):
    _, folder = published("flux-dev")
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(tmp_path / "f.safetensors", {"transformer": networks["transformer"]})
    with pytest.raises(Unreadable, match="holds transformer and no vae"):
        TextToImage.load(str(path))


@pytest.mark.parametrize("family", ["sd3", "sd3.5-medium"])
def test_their_converters_read_our_single_file_of_sd3(published, tmp_path: Path, family: str):
    made, folder = published(family)
    networks = {one.part.component: load(one) for one in found_in(folder)}
    stored = load_file(write_single_file(tmp_path / "whole.safetensors", networks))
    start = "model.diffusion_model."
    parts = {
        "transformer": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers(
            {key.removeprefix(start): t for key, t in stored.items() if key.startswith(start)}
        ),
        "vae": single_file_utils.convert_ldm_vae_checkpoint(dict(stored), dict(made.vae.config)),
        "text_encoder_3": single_file_utils.convert_sd3_t5_checkpoint_to_diffusers(dict(stored)),
        "text_encoder_2": single_file_utils.convert_ldm_clip_checkpoint(
            dict(stored), "text_encoders.clip_g.transformer."
        ),
    }
    for part, found in parts.items():
        wanted = dict(getattr(made, part).state_dict())
        wanted.pop("encoder.embed_tokens.weight", None)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.slow
def test_their_converter_reads_our_single_file_of_flux(tmp_path: Path):
    """It takes every width for 3,072."""
    made = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, num_attention_heads=24, joint_attention_dim=16,
        pooled_projection_dim=16, guidance_embeds=True,
    ).half()  # fmt: skip
    folder = tmp_path / "transformer"
    made.save_pretrained(folder)
    (one,) = found_in(folder)
    stored = load_file(write_single_file(tmp_path / "flux.safetensors", {"transformer": load(one)}))
    found = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers(stored)
    wanted = made.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_what_does_not_go_with_a_family_is_refused(published):
    dev, schnell, sd3 = (
        TextToImage.load(str(published(family)[1]))
        for family in ("flux-dev", "flux-schnell", "sd3.5-medium")
    )
    refused: list[tuple[TextToImage, dict[str, Any], str]] = [
        (dev, {"negative_prompt": "dark"}, "no negative prompt"),
        (dev, {"width": 18}, "multiples of 4"),
        (schnell, {"guidance": 3.0}, "takes no guidance"),
        (sd3, {"width": 100}, "up to 96"),
        (sd3, {"spacing": "karras", "shift": 2.0}, "has no shift"),
        (dev, {"prompt": "a cat and a dog " * 100}, "longer than T5 reads"),
    ]
    for model, asked, said in refused:
        with pytest.raises(InvalidValue, match=said):
            model(**({"prompt": "a cat", "steps": 1} | asked))


def test_rows_and_lengths_do_not_mix(published):
    """Prompts of one and of three chunks in one batch: each as alone."""
    model = TextToImage.load(str(published("sd3.5-medium")[1]))
    prompts = ["a (red:1.3) cat", "a dog " * 80]
    together = model(prompts, seed=[3, 4], steps=3)
    assert isinstance(together, list)
    for prompt, seed, picture in zip(prompts, [3, 4], together, strict=True):
        alone = np.asarray(model(prompt, seed=seed, steps=3)).astype(int)
        assert np.abs(alone - np.asarray(picture)).max() <= 1


def test_begun_from_a_picture_and_by_another_solver(published):
    model = TextToImage.load(str(published("flux-dev")[1]))
    size = {"width": 16, "height": 16}
    one, other = (model("a cat", seed=seed, steps=2, **size) for seed in (1, 2))
    pair = [model("a dog", seed=1, steps=4, init=init, strength=0.25) for init in (one, other)]
    assert pair[0].tobytes() != pair[1].tobytes()
    whole = [model("a dog", seed=1, steps=4, init=init, strength=1.0) for init in (one, other)]
    new = model("a dog", seed=1, steps=4, **size)
    assert whole[0].tobytes() == whole[1].tobytes() == new.tobytes()
    mask = Image.fromarray(np.eye(16, dtype=np.uint8) * 255)
    kept = np.asarray(model("a dog", seed=1, steps=4, init=one, mask=mask))
    outside = np.asarray(mask) == 0
    assert np.array_equal(kept[outside], np.asarray(one)[outside])
    assert model("a cat", seed=1, steps=4, solver="heun", **size).size == (16, 16)


def test_windows_are_of_whole_tokens(published):
    """One window over all is the picture; the shown picture is cut with the window."""
    model = TextToImage.load(str(published("flux-control")[1]))
    edges = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8))
    whole = model("a cat", seed=1, steps=2, init=edges)
    one = model("a cat", seed=1, steps=2, init=edges, tiling=Tiling(20, 4))
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(one)).max() <= 1
    many = model("a cat", seed=1, steps=2, init=edges, tiling=Tiling(8, 3))
    assert isinstance(many, Image.Image) and many.size == (40, 24)
    begin = Begin(picture=np.asarray(edges))
    request = Request(prompts=["a cat"], seeds=[1], sampling=model.sampling, begin=begin)
    (told,) = model.networks.tell(request)
    part = model.networks.part(told, 2, 7, 4, 8)
    assert torch.equal(part.beside, told.beside[:, :, 2:6, 7:15]) and part.words is told.words
    with pytest.raises(InvalidValue, match="part a token"):
        model("a cat", seed=1, steps=2, init=edges, tiling=Tiling(9, 4))


SAID = {
    "sigmas": ({"use_karras_sigmas": True}, "use_karras_sigmas = True"),
    "kind": ({"time_shift_type": "linear"}, "time_shift_type = 'linear'"),
    "class": ({"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
}


@pytest.mark.parametrize("kind", SAID)
def test_a_scheduler_that_is_not_built_is_refused_by_name(published, tmp_path: Path, kind: str):
    _, folder = published("flux-dev")
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / "scheduler" / "scheduler_config.json"
    change, said = SAID[kind]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Unreadable, match=said):
        TextToImage.load(str(tmp_path / "other"))


def test_a_scheduler_says_its_shift(published, tmp_path: Path):
    _, folder = published("flux-dev")
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / "scheduler" / "scheduler_config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"use_dynamic_shifting": False, "shift": 2.5}))
    assert TextToImage.load(str(tmp_path / "other")).sampling.shift == 2.5
    path.write_text(json.dumps(said | {"base_shift": 1.0, "max_shift": 2.0}))
    preset = TextToImage.load(str(tmp_path / "other")).networks.preset  # pyright: ignore
    assert np.log([preset.shift(n, 4) for n in (256, 4096)]) == pytest.approx([1.0, 2.0])
