"""Captioners and answerers of before: from a folder to the words that transformers says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import Float32Angles, apart, exact_norms, widened
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.checkpoints.layouts import KINDS as LAYOUT_KINDS
from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.rules import stored_of
from diptych.decoding.choices import Decoding
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.models.blip import Blip, BlipConfig, caption_loss
from diptych.models.blip2 import Blip2, Blip2Config
from diptych.models.florence2 import FLORENCE2_BASE, Florence2
from diptych.models.git import GIT_BASE, Git
from diptych.models.vit_gpt2 import VitGpt2, VitGpt2Config
from diptych.nn.unfilled import without_memory
from diptych.pipelines.classic_networks import ClassicNetworks
from diptych.pipelines.reader_front import ImageToText
from tests.tiny_captioners import CONFIGS, folder, image_processor, published

SPEAKING = [name for name in CONFIGS if name != "blip-matcher"]
every_family = pytest.mark.parametrize("name", SPEAKING)
QUESTION = "how many stars are there?"
MOST = 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("captioners")
    for name in CONFIGS:
        folder(name, top / name)
    return top


def picture(width: int = 45, height: int = 60, seed: int = 0) -> Image.Image:
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels_of(name: str, one: Image.Image) -> Tensor:
    return image_processor(name)(one, return_tensors="pt")["pixel_values"]


def asked_of(networks: ClassicNetworks, task: str) -> Tensor:
    """What is asked, as their networks are given it: our tokens."""
    asked = networks.asked(task)
    around = networks.within or (networks.begins, ())
    return torch.tensor([[*around[0], *asked, *around[1]]])


def theirs_of(name: str, networks: ClassicNetworks, one: Image.Image, task: str, **how: Any) -> Any:
    network, given = published(name), {"pixel_values": pixels_of(name, one)}
    ids = asked_of(networks, task)
    if name == "blip-captioner":  # the last token is dropped there
        ids = torch.cat([ids, ids[:, :1]], dim=1)
    if networks.former is not None:
        asked = networks.former.encode(networks.tokenizer.decode(networks.asked(task)))
        given["qformer_input_ids"] = torch.tensor([asked])
    if name.startswith(("blip2", "instructblip")):  # they want a word for each of a picture's rows
        ids = torch.cat([torch.full((1, 4), 3), ids], dim=1)
    if name == "florence2":  # and the mean of all
        ids = torch.cat([torch.full((1, 17), 3), ids], dim=1)
    if name != "vit-gpt2":
        given["input_ids"] = ids
    out = network.generate(
        **given, max_new_tokens=MOST, do_sample=False, **how
    )[0].tolist()  # fmt: skip
    for before in (ids[0].tolist(), ids[0, :-1].tolist(), list(networks.begins)):
        if out[: len(before)] == before:
            out = out[len(before) :]
            break
    said = out
    end = next((i for i, token in enumerate(said) if token in networks.ends), len(said))
    return said[:end]


def opened(folders: Path, name: str) -> tuple[ImageToText, ClassicNetworks]:
    reader = ImageToText.load(str(folders / name))
    assert isinstance(reader.networks, ClassicNetworks)
    return reader, reader.networks


def tasks_of(networks: ClassicNetworks) -> list[str]:
    return ["caption", *([QUESTION] if networks.way.question else [])]


@every_family
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers(folders: Path, name: str, seed: int) -> None:
    reader, networks = opened(folders, name)
    one = picture(seed=seed)
    for task in tasks_of(networks):
        (answer,) = reader.respond([one], [task], Decoding(most=MOST))
        assert list(answer.tokens) == theirs_of(name, networks, one, task)


@every_family
def test_beams(folders: Path, name: str) -> None:
    reader, networks = opened(folders, name)
    one, task = picture(), tasks_of(networks)[-1]
    (answer,) = reader.respond([one], [task], Decoding(most=MOST, beams=3))
    said = theirs_of(name, networks, one, task, num_beams=3, early_stopping=False)
    assert list(answer.tokens) == said


@every_family
def test_answers_do_not_depend_on_their_company(folders: Path, name: str) -> None:
    reader, networks = opened(folders, name)
    pictures = [picture(seed=i) for i in range(5)]
    tasks = [tasks_of(networks)[-1]] * 5
    together = reader.respond(pictures, tasks, Decoding(most=MOST))
    for one, task, answer in zip(pictures, tasks, together, strict=True):
        (alone,) = ImageToText.load(str(folders / name)).respond([one], [task], Decoding(most=MOST))
        assert answer == alone
    shared = reader.respond(pictures, tasks, Decoding(most=MOST), exact=False)
    assert [answer.tokens for answer in shared] == [answer.tokens for answer in together]


@pytest.mark.parametrize("name", CONFIGS)
def test_folders_are_written_back(folders: Path, name: str) -> None:
    tensors = load_file(folders / name / "model.safetensors")
    (found,) = found_in(folders / name)
    found.report.check()
    back = stored_of(found.plan, load(found).state_dict())
    assert all(torch.equal(back[key], tensors[key]) for key in back)
    assert set(tensors) - set(back) == set(found.report.ignored)


def test_what_a_captioner_does_not_do_is_refused(folders: Path) -> None:
    reader, _ = opened(folders, "blip-captioner")
    with pytest.raises(InvalidValue, match="was not trained for"):
        reader.answer(picture(), QUESTION)
    with pytest.raises(Unreadable, match="says no words"):
        ImageToText.load(str(folders / "blip-matcher"))


def read(folders: Path, name: str) -> Any:
    (found,) = found_in(folders / name)
    return load(found, torch.float64)


def given(seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 3, 28, 28, generator=draw).double()
    return image, torch.randint(20, 90, (2, 7), generator=draw)


def both_apart(ours: Any, theirs: Any) -> None:
    """Values and gradients of the picture."""
    found = []
    for run in (ours, theirs):
        image = given()[0].requires_grad_(True)
        out = run(image)
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
        found.append((out, torch.autograd.grad((out * weights).sum(), [image])[0]))
    assert apart(found[0][0], found[1][0]) < 1e-9
    assert apart(found[0][1], found[1][1]) < 1e-9


def double(name: str) -> nn.Module:
    return published(name).double()


def test_blip_captions(folders: Path) -> None:
    ours, theirs, tokens = read(folders, "blip-captioner"), double("blip-captioner"), given()[1]
    both_apart(
        lambda image: ours(image, tokens),
        lambda image: theirs(pixel_values=image, input_ids=tokens).logits,
    )
    assert isinstance(ours, Blip)
    labels = tokens.clone()
    labels[0, -2:] = 0
    both_apart(
        lambda image: caption_loss(ours(image, tokens), labels),
        lambda image: (
            theirs(
                pixel_values=image, input_ids=tokens, labels=labels.masked_fill(labels == 0, -100)
            ).loss
        ),
    )


@pytest.mark.parametrize("name", [
    "git", "vit-gpt2", "blip2-opt", "blip2-t5", "instructblip-t5", "instructblip-vicuna",
])  # fmt: skip
def test_logits_and_gradients(folders: Path, name: str) -> None:
    ours, theirs, tokens = read(folders, name), double(name), given()[1]
    exact_norms(theirs)
    if name == "instructblip-vicuna":
        language = theirs.get_submodule("language_model.model")
        language.rotary_emb = Float32Angles(language.get_submodule("rotary_emb"))
    words = torch.cat([torch.full((2, 4), 3), tokens], dim=1)
    asked = tokens[:1, :3].expand(2, -1)
    before = torch.cat([words[:, :4], asked], dim=1)
    more = {"qformer_input_ids": asked} if name.startswith("instructblip") else {}

    def theirs_run(image: Tensor) -> Tensor:
        if name == "git":
            out = theirs(pixel_values=image, input_ids=tokens).logits
        elif name == "vit-gpt2":
            out = theirs(pixel_values=image, decoder_input_ids=tokens).logits
        elif name in ("blip2-opt", "instructblip-vicuna"):
            out = theirs(pixel_values=image, input_ids=words, **more).logits
        else:
            out = theirs(
                pixel_values=image, input_ids=before, decoder_input_ids=tokens, **more
            ).logits
        return out[:, -tokens.shape[1] :]

    question = (asked[0] if name.endswith("t5") else None,) if "blip" in name else ()
    question += (asked[0],) if more else ()
    with widened():
        both_apart(lambda image: ours(image, tokens, *question), theirs_run)


def test_florence2(folders: Path) -> None:
    """Sides of other lengths; windows that do not fill; a head with and without its own words."""
    ours, theirs, tokens = read(folders, "florence2"), double("florence2"), given()[1]
    image = torch.nn.functional.interpolate(given()[0], (40, 56))
    cells = ours.config.rows_at(56, 40)
    ids = torch.cat([torch.full((2, 1 + cells[0] * cells[1]), 3), tokens[:1, :3].expand(2, -1)], 1)

    def sized(image: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(image, (40, 56))

    assert image.shape[2] != image.shape[3]
    both_apart(
        lambda image: ours(sized(image), tokens, tokens[0, :3]),
        lambda image: (
            theirs(pixel_values=sized(image), input_ids=ids, decoder_input_ids=tokens).logits
        ),
    )


_MILLIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "BLIP-base": (lambda: Blip(BlipConfig()), 223.97),
    "BLIP-2 OPT-2.7B": (lambda: Blip2(Blip2Config()), 3744.68),
    "GIT-base": (lambda: Git(GIT_BASE), 176.62),
    "Florence-2-base": (lambda: Florence2(FLORENCE2_BASE), 231.41),
    "ViT-GPT2": (lambda: VitGpt2(VitGpt2Config()), 239.20),
}


@pytest.mark.parametrize("name", _MILLIONS)
def test_full_sizes(name: str) -> None:
    build, millions = _MILLIONS[name]
    with without_memory():
        network = build()
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert round(count, 2) == millions


def test_blip_answers(folders: Path) -> None:
    ours, theirs, tokens = read(folders, "blip-vqa"), double("blip-vqa"), given()[1]

    def theirs_run(image: Tensor) -> Tensor:
        seen = theirs.vision_model(pixel_values=image)[0]
        read = theirs.text_encoder(input_ids=tokens[:, :4], encoder_hidden_states=seen,
                                   is_decoder=False)[0]  # fmt: skip
        return theirs.text_decoder(input_ids=tokens, encoder_hidden_states=read).logits

    both_apart(lambda image: ours(image, tokens, tokens[:, :4]), theirs_run)


def test_blip_matches(folders: Path) -> None:
    ours, theirs, tokens = read(folders, "blip-matcher"), double("blip-matcher"), given()[1]
    filled = torch.ones_like(tokens, dtype=torch.bool)
    filled[1, 5:] = False
    both_apart(
        lambda image: ours.match(image, tokens, filled),
        lambda image: (
            theirs(
                input_ids=tokens,
                pixel_values=image,
                attention_mask=filled.long(),
                use_itm_head=True,
            ).itm_score
        ),
    )

    def cosines(image: Tensor) -> Tensor:
        pictures, texts = ours.vectors(image, tokens, filled)
        return pictures @ texts.T

    both_apart(
        cosines,
        lambda image: (
            theirs(
                input_ids=tokens,
                pixel_values=image,
                attention_mask=filled.long(),
                use_itm_head=False,
            ).itm_score
        ),
    )


def _as_blip_was(key: str) -> str:
    """BLIP's own names (github.com/salesforce/BLIP, models/vit.py and med.py)."""
    for theirs, its in (
        ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
        ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
        ("vision_model.embeddings.patch_embedding", "visual_encoder.patch_embed.proj"),
        ("vision_model.post_layernorm", "visual_encoder.norm"),
        ("vision_model.encoder.layers", "visual_encoder.blocks"),
        ("self_attn.projection", "attn.proj"), ("self_attn.qkv", "attn.qkv"),
        ("layer_norm", "norm"),
    ):  # fmt: skip
        key = key.replace(theirs, its)
    return key


def _as_florence_was(key: str) -> str:
    """The names of microsoft/Florence-2's own code."""
    key = key.removeprefix("model.").replace("multi_modal_projector.", "")
    key = key.replace("language_model.", "language_model.model.")
    key = key.replace("image_position_embed", "image_pos_embed")
    key = re.sub(r"(convs\.\d+)\.conv\.", r"\1.proj.", key)
    key = key.replace("image_projection.weight", "image_projection")
    for half, look in (("spatial", "window_attn"), ("channel", "channel_attn")):
        at = f"{half}_block."
        key = re.sub(rf"{at}(conv\d)\.", rf"{at}\1.fn.dw.", key)
        key = key.replace(f"{at}norm1.", f"{at}{look}.norm.")
        key = key.replace(f"{at}{look}.qkv", f"{at}{look}.fn.qkv")
        key = key.replace(f"{at}{look}.proj", f"{at}{look}.fn.proj")
        key = key.replace(f"{at}ffn.fc", f"{at}ffn.fn.net.fc")
        key = key.replace(f"{at}norm2.", f"{at}ffn.norm.")
    return key


_BEFORE = {
    "blip-captioner": _as_blip_was, "blip-vqa": _as_blip_was, "blip-matcher": _as_blip_was,
    "florence2": _as_florence_was,
}  # fmt: skip


@pytest.mark.parametrize("name", _BEFORE)
def test_original_names_are_read(folders: Path, tmp_path: Path, name: str) -> None:
    tensors = {
        _BEFORE[name](key): tensor.T.contiguous() if key.endswith("image_projection.weight")
        else tensor
        for key, tensor in load_file(folders / name / "model.safetensors").items()
    }  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folders / name / "config.json").read_text())
    (found,) = found_in(tmp_path)
    assert "original" in found.report.layout
    network, plain = load(found, torch.float64).state_dict(), read(folders, name).state_dict()
    assert all(torch.equal(network[key], tensor) for key, tensor in plain.items())
    back = stored_of(found.plan, load(found).state_dict())
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in back.items())


@pytest.mark.parametrize(
    ("kind", "told", "millions"),
    [
        ("Blip", {"text_config": {"num_attention_heads": 12}}, None),
        ("Git", {}, 176.62),
        ("Blip2", {"text_config": {"model_type": "opt", "hidden_size": 2560, "ffn_dim": 10_240,
                                   "num_hidden_layers": 32, "num_attention_heads": 32,
                                   "word_embed_proj_dim": 2560}}, 3744.68),
        ("InstructBlip", {"text_config": {"model_type": "llama"}}, None),
        ("Florence2", {}, None),
    ],
)  # fmt: skip
def test_configs_of_their_classes_are_read(kind: str, told: Any, millions: float | None) -> None:
    """All that their config says is known, and its sizes are ours."""
    import transformers as hub

    content = getattr(hub, f"{kind}Config")(**told).to_dict()
    kinds = {"Blip": "blip", "Git": "git", "Florence2": "florence2"}
    row = LAYOUT_KINDS[kinds.get(kind, "blip2")]
    with without_memory():
        network = row.build(row.of_json(content))
    if millions is not None:
        count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert round(count, 2) == millions
