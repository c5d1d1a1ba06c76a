"""Adapters and learnt words in whole pictures: as merged, a row for itself, and kept in recipes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diptych.adapters.adapter import Adapter, Place
from diptych.adapters.merging import merge
from diptych.checkpoints.adapters.write import write_adapter
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.stable_diffusion import StableDiffusionNetworks
from tests.tiny_adapters import tiny_adapter
from tests.tiny_models import tiny_painter
from tests.tiny_stable_diffusion import tiny_control, tiny_file, tiny_networks

SIZE: dict[str, Any] = {"width": 16, "height": 24, "steps": 3}
FAMILIES = ["sd1", "sdxl"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def files(family: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp(family)
    networks = {name: n for name, n in tiny_networks(family).items() if name != "vae"}
    made = {"model": str(tiny_file(folder / "tiny.safetensors", family))}
    for seed, (name, kinds) in enumerate(
        {"soft": ("lora",), "mixed": ("lora", "loha", "dora", "full"), "more": ("lora",)}.items()
    ):
        adapter = tiny_adapter(networks, kinds, seed=seed, dtype=torch.float32)
        small = {place: change for place, change in adapter.changes.items() if "attn" in str(place)}
        path = folder / f"{name}.safetensors"
        made[name] = str(write_adapter(path, Adapter(name, small), networks))
    widths = {"sd1": {"emb_params": 64}, "sdxl": {"clip_l": 64, "clip_g": 128}}[family]
    rows = {name: torch.randn(3, width) * 0.5 for name, width in widths.items()}
    save_file(rows, folder / "badhandv4.safetensors")
    return made | {"word": str(folder / "badhandv4.safetensors"), "folder": str(folder)}


@pytest.fixture
def model(files: dict[str, str]) -> TextToImage:
    return TextToImage.load(files["model"])


def pixels(picture: object) -> np.ndarray:
    assert isinstance(picture, Image.Image)
    return np.asarray(picture).astype(int)


def apart(one: object, other: object) -> int:
    return int(np.abs(pixels(one) - pixels(other)).max())


@pytest.mark.parametrize("name", ["soft", "mixed"])
def test_a_picture_is_as_with_merged_weights(name: str, model: TextToImage, files: dict[str, str]):
    report = model.add(files[name], "it")
    assert report.applied == report.total > 20
    plain = model("a cat", **SIZE)
    adapted = model("a cat", loras=[("it", 0.8)], **SIZE)
    assert apart(plain, adapted) > 3
    networks = model.networks
    assert isinstance(networks, StableDiffusionNetworks)
    merged = merge(networks.components(), [(model.adapters.loras["it"].adapter, 0.8)])
    assert apart(model("a cat", **SIZE), adapted) <= 1
    merged.undo()
    assert apart(model("a cat", **SIZE), plain) == 0
    # The encoder of words is changed too.
    only = {
        p: c for p, c in model.adapters.loras["it"].adapter.changes.items() if p.component == "unet"
    }
    assert len(only) < len(model.adapters.loras["it"].adapter.changes)
    merged = merge(networks.components(), [(Adapter("unet", only), 0.8)])
    assert apart(model("a cat", **SIZE), adapted) > 1
    merged.undo()


def test_each_picture_has_its_own(model: TextToImage, files: dict[str, str]):
    """Beside others with long prompts, and each as alone."""
    each: list[Any] = [
        [(files["soft"], 1.0)], [], [(files["mixed"], 0.5), (files["soft"], -0.4)],
        [(Path(files["more"]), 1)], [(files["soft"], 1.0)],
    ]  # fmt: skip
    prompts = ["a cat", "a cat", "a dog " * 80, "a cat", "a cat"]
    together = model(prompts, seed=[1, 1, 2, 1, 3], loras=each, **SIZE)
    assert isinstance(together, list)
    for prompt, seed, loras, picture in zip(prompts, [1, 1, 2, 1, 3], each, together, strict=True):
        assert apart(model(prompt, seed=seed, loras=loras, **SIZE), picture) <= 1
    assert apart(together[0], together[1]) > 3 and apart(together[0], together[3]) > 3
    all_alike = model(["a cat", "a cat"], seed=[1, 1], loras=each[0], **SIZE)
    assert isinstance(all_alike, list) and apart(all_alike[0], all_alike[1]) == 0


def test_requests_in_threads_have_their_own(model: TextToImage, files: dict[str, str]):
    names = ["soft", "mixed", "more", ""]
    for name in names[:3]:
        model.add(files[name])
    asked = [[(name, 1.0)] if name else [] for name in names]
    wanted = [model("a cat", loras=loras, **SIZE) for loras in asked]
    found: dict[int, object] = {}

    def run(number: int) -> None:
        found[number] = model("a cat", loras=asked[number % 4], **SIZE)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(apart(picture, wanted[number % 4]) == 0 for number, picture in found.items())


def test_a_recipe_says_what_a_picture_was_made_with(model: TextToImage, files: dict[str, str]):
    model.add(files["soft"], "it")
    model.add(files["word"])
    pair = model(["a cat", "badhandv4"], loras=[[("it", 0.8)], []], **SIZE)
    assert isinstance(pair, list)
    one, other = (picture.info["recipe"] for picture in pair)
    (told,) = one.loras
    assert told.startswith("it x 0.8 ") and len(told.split()[-1]) == 10
    assert other.loras == () and one.words == ()
    assert other.words[0].startswith("badhandv4 ")
    negative = model("a cat", negative_prompt="BadHandv4", **SIZE)
    assert isinstance(negative, Image.Image) and negative.info["recipe"].words == other.words


def test_a_word_is_read_as_its_rows(model: TextToImage, files: dict[str, str]):
    plain = [model(text, **SIZE) for text in ("a cat", "a badhandv4 cat")]
    before = model.networks
    report = model.add(files["word"])
    assert report.applied == report.total and not report.problems
    assert apart(model("a cat", **SIZE), plain[0]) == 0
    assert apart(model("a badhandv4 cat", **SIZE), plain[1]) > 0
    assert isinstance(before, StableDiffusionNetworks)
    assert all(one.learnt is None for one in before.encoders.values())  # a value, not changed
    model.add(files["word"], "xyzzy2")
    assert apart(model("a xyzzy2 cat", **SIZE), model("a badhandv4 cat", **SIZE)) == 0
    with pytest.raises(InvalidValue, match="already"):
        model.add(files["word"])


def test_what_is_read_for_a_word_are_its_rows(model: TextToImage, files: dict[str, str]):
    """As if the table of words was longer; and the text is pooled where it ends."""
    model.add(files["word"])
    networks = model.networks
    assert isinstance(networks, StableDiffusionNetworks)
    tensors = load_file(files["word"])
    for encoder in networks.encoders.values():
        network, rows = encoder.network, encoder.learnt
        assert rows is not None and any(torch.equal(rows, one) for one in tensors.values())
        numbers = [t.number for t in encoder.tokenizer.encode("a badhandv4 cat")]
        end, count = encoder.tokenizer.end, network.config.vocabulary
        assert numbers[1:4] == [count, count + 1, count + 2]
        ids = torch.tensor([[encoder.tokenizer.start, *numbers, end, end]])
        with torch.no_grad():
            ours = network(ids, learnt=rows)
            table = network.embeddings.token_embedding
            original = table.weight
            table.weight = torch.nn.Parameter(torch.cat([original, rows]))
            table.num_embeddings += len(rows)
            wanted = network(ids)
            table.weight, table.num_embeddings = original, len(original)
        assert torch.equal(ours.last, wanted.last) and torch.equal(ours.pooled, wanted.pooled)
        assert torch.equal(ours.pooled, ours.last[:, 1 + len(numbers)])


def test_what_is_wrong_is_said(model: TextToImage, files: dict[str, str], tmp_path: Path):
    model.add(files["soft"], "soft")
    with pytest.raises(InvalidValue, match="'soft' already"):
        model.add(files["mixed"], "soft")
    with pytest.raises(NotFound, match=r"LoRA called 'sofd'.*'soft'"):
        model("a cat", loras=[("sofd", 1)], **SIZE)
    for wrong in ([("soft", "1")], [("soft", float("nan"))]):
        with pytest.raises(InvalidValue, match="no strength"):
            model("a cat", loras=wrong, **SIZE)  # type: ignore[arg-type]
    for wrong in (["soft"], [[("soft", 1)], [], []], "soft"):
        with pytest.raises(InvalidValue, match="loras="):
            model(["a cat", "a dog"], loras=wrong, **SIZE)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="no encoder"):
        model.add(files["mixed"], encoder=files["soft"])
    tensors = load_file(files["soft"])
    tensors["lora_unet_nobody.alpha"] = torch.ones(())
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(Unreadable, match=r"lora_unet_nobody\.alpha"):
        model.add(tmp_path / "x.safetensors")
    report = model.add(tmp_path / "x.safetensors", allow=["lora_unet_nobody.alpha"])
    assert report.allowed == ("lora_unet_nobody.alpha",)
    with pytest.raises(Unreadable, match="no whole safetensors"):
        (tmp_path / "y.safetensors").write_bytes(b"nothing at all, and long enough")
        model.add(tmp_path / "y.safetensors")


def test_a_file_of_another_family_is_refused(files: dict[str, str], family: str, tmp_path: Path):
    other = FAMILIES[1 - FAMILIES.index(family)]
    model = TextToImage.load(str(tiny_file(tmp_path / "other.safetensors", other)))
    for name in ("soft", "word"):
        with pytest.raises(Unreadable):
            model.add(files[name])
    assert not model.adapters.loras and not model.adapters.words


def test_models_that_take_none_say_so(files: dict[str, str], tmp_path: Path):
    model = TextToImage.load(str(tiny_painter(tmp_path / "ours")))
    for name in ("soft", "word"):
        with pytest.raises(InvalidValue, match="takes no adapters"):
            model.add(files[name])


def test_adapters_beside_a_control(tmp_path: Path):
    """Both change what the U-Net does, and neither the other."""
    networks = {name: n for name, n in tiny_networks("sd1").items() if name != "vae"}
    model = TextToImage.load(str(tiny_file(tmp_path / "tiny.safetensors")))
    lora = write_adapter(
        tmp_path / "soft.safetensors", tiny_adapter(networks, "lora", dtype=torch.float32), networks
    )
    model.add(lora)
    model.add(tiny_control(tmp_path / "canny.safetensors"))
    from diptych.pipelines.steering import Control

    picture = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    control = Control(network="canny", picture=picture)
    found = [
        model("a cat", loras=loras, controls=controls, **SIZE)
        for loras in ([], [("soft", 0.3)])
        for controls in ([], [control])
    ]
    assert all(apart(a, b) > 0 for i, a in enumerate(found) for b in found[:i])
    assert model.adapters.loras["soft"].adapter.changes[Place("unet", "conv_in")].rank == 3
