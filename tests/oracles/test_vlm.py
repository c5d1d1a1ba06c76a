"""Image-to-text models as transformers wrote them: read from every layout, the same logits and
gradients, written back to the bit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from networks import apart
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.rules import stored_of
from diptych.foundation.errors import Unreadable
from diptych.models.vlm import VLM
from diptych.nn.unfilled import without_memory
from tests.tiny_vlm import PICTURE, published

# Rows that a picture takes, and how many pixels a side it has.
FAMILIES = {
    "llava": (4, 28), "idefics3": (4, 56), "smolvlm": (4, 56), "internvl": (4, 56),
    "paligemma": (4, 28),
}  # fmt: skip
every_family = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("published")
    for name in (*FAMILIES, "llava_next", "llava_onevision"):
        published(name).save_pretrained(top / name)
    return top


def read(folder: Path) -> VLM:
    (found,) = found_in(folder)
    network = load(found)
    assert isinstance(network, VLM)
    return network


def given(name: str) -> tuple[Tensor, Tensor]:
    count, side = FAMILIES[name]
    draw = torch.Generator().manual_seed(1)
    tiles = torch.randn(2, 3, side, side, generator=draw)
    words = torch.randint(20, 90, (2, 7), generator=draw)
    rows = torch.full((2, count), PICTURE)
    return tiles, torch.cat([words[:, :2], rows, words[:, 2:]], dim=1)


def theirs_of(name: str, network: nn.Module, tiles: Tensor, tokens: Tensor) -> Tensor:
    more = {}
    if name in ("idefics3", "smolvlm"):
        tiles = tiles[:, None]
    if name == "paligemma":
        more["token_type_ids"] = torch.zeros_like(tokens)
    return network(input_ids=tokens, pixel_values=tiles, **more).logits


def ours_of(name: str, network: VLM, tiles: Tensor, tokens: Tensor) -> Tensor:
    """PaliGemma's rows, picture and question, see one another."""
    if not network.config.sees_all:
        return network(tiles, tokens)
    rows = network.language.embed(tokens)
    seen = (tokens == PICTURE)[..., None]
    rows = rows.masked_scatter(seen, network.look(tiles))
    everything = torch.ones(1, 1, tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    return network.language.logits(network.language(rows, mask=everything))


@every_family
def test_logits(folders: Path, name: str) -> None:
    theirs, ours = published(name), read(folders / name)
    tiles, tokens = given(name)
    with torch.no_grad():
        wanted = theirs_of(name, theirs, tiles, tokens)
        assert apart(ours_of(name, ours, tiles, tokens), wanted) < 3e-6
        wide = theirs_of(name, theirs.double(), tiles.double(), tokens)
        # Norms and angles of theirs stay float32.
        assert apart(ours_of(name, ours.double(), tiles.double(), tokens), wide) < 3e-7


@every_family
def test_gradients(folders: Path, name: str) -> None:
    theirs, ours = published(name), read(folders / name).requires_grad_(True)
    tiles, tokens = given(name)
    found = []
    for network, run in ((theirs, theirs_of), (ours, ours_of)):
        pixels = tiles.clone().requires_grad_(True)
        out = run(name, network, pixels, tokens)
        weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        found.append(torch.autograd.grad((out * weights).sum(), [pixels])[0])
    assert apart(found[1], found[0]) < 1e-5


_LAYOUTS = {
    "hub": lambda key: re.sub(r"^vision_tower\.", "vision_tower.vision_model.", key),
    "fresh": lambda key: key,
    "nested": lambda key: _nested(key),
    "nested with vision_model": lambda key: re.sub(
        r"^model\.vision_tower\.", "model.vision_tower.vision_model.", _nested(key)
    ),
}


def _nested(key: str) -> str:
    if key == "language_model.lm_head.weight":
        return "lm_head.weight"
    return "model." + key.replace("language_model.model.", "language_model.")


@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize(
    "name", ["llava", "llava_next", "llava_onevision", "internvl", "paligemma"]
)
def test_every_layout_is_read_and_written_back(
    folders: Path, tmp_path: Path, name: str, layout: str
) -> None:
    tensors = load_file(folders / name / "model.safetensors")
    moved = {_LAYOUTS[layout](key): tensor for key, tensor in tensors.items()}
    save_file(moved, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folders / name / "config.json").read_text())
    (found,) = found_in(tmp_path)
    assert found.report.layout.endswith(layout)
    network, plain = load(found), read(folders / name)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[key]), key
    back = stored_of(found.plan, network.state_dict())
    for key, tensor in back.items():
        assert torch.equal(tensor, moved[key]), key
    left = set(moved) - set(back)
    assert left == set(found.report.ignored)


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_the_nested_layout_is_written_back(folders: Path, name: str) -> None:
    tensors = load_file(folders / name / "model.safetensors")
    (found,) = found_in(folders / name)
    back = stored_of(found.plan, load(found).state_dict())
    assert set(back) == set(tensors)
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())


def test_a_tensor_that_is_missing_or_strange_is_named(folders: Path, tmp_path: Path) -> None:
    tensors = load_file(folders / "llava" / "model.safetensors")
    lost = tensors.pop("language_model.model.layers.1.mlp.up_proj.weight")
    tensors["language_model.model.layers.1.mlp.upproj.weight"] = lost
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folders / "llava" / "config.json").read_text())
    (found,) = found_in(tmp_path)
    with pytest.raises(Unreadable, match=r"up_proj.weight' is missing, nearest: .*upproj"):
        found.report.check()


def test_full_sizes() -> None:
    """As the table of published sizes has them, in millions."""
    from diptych.checkpoints.families.vlm import config_of_json

    vicuna = {
        "model_type": "llama", "vocab_size": 32_064, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    }  # fmt: skip
    clip = {
        "model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336,
        "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
        "patch_size": 14, "projection_dim": 768, "vocab_size": 32_000,
    }  # fmt: skip
    smollm = {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
        "num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 30,
        "vocab_size": 49_280, "rope_theta": 100_000, "tie_word_embeddings": False,
    }  # fmt: skip
    siglip = {"hidden_size": 768, "image_size": 512, "patch_size": 16, "num_hidden_layers": 12,
              "num_attention_heads": 12, "intermediate_size": 3072}  # fmt: skip
    wanted = {
        7063.43: {
            "model_type": "llava", "text_config": vicuna, "vision_config": clip,
        },
        256.48: {
            "model_type": "smolvlm", "text_config": smollm, "scale_factor": 4,
            "vision_config": {"model_type": "smolvlm_vision", **siglip},
        },
    }  # fmt: skip
    for millions, content in wanted.items():
        with without_memory():
            network = VLM(config_of_json(content))
        count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert count == pytest.approx(millions, abs=0.02), content["model_type"]
