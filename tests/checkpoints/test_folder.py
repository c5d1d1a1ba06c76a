"""A folder holds exactly its network, or is refused by name."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.checkpoints.folder import load_network, write_network
from diptych.foundation.errors import NotFound, Unreadable
from diptych.models.mlp_flow import MLPFlow, MLPFlowConfig
from diptych.models.text_encoder import TextEncoder, TextEncoderConfig


@pytest.fixture
def written(tmp_path):
    network = TextEncoder(TextEncoderConfig.tiny())
    write_network(tmp_path, network)
    return tmp_path, network


def test_a_network_comes_back_to_the_bit(written):
    folder, network = written
    again = load_network(folder, TextEncoder)
    assert again.config == network.config and not again.training
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_half_precision_costs_at_most_its_rounding(tmp_path):
    network = TextEncoder(TextEncoderConfig.tiny())
    write_network(tmp_path, network, half=True)
    for key, value in load_network(tmp_path, TextEncoder).state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, network.state_dict()[key], rtol=1e-3, atol=1e-6)


def _change(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_every_tensor_is_accounted_for(written):
    folder, _ = written

    def change(tensors):
        tensors["stray"] = torch.zeros(1)
        del tensors["norm.weight"]
        tensors["token_embedding.weight"] = torch.zeros(2, 2)

    _change(folder, change)
    with pytest.raises(Unreadable) as error:
        load_network(folder, TextEncoder)
    for said in ("unused stray", "missing norm.weight", "[2, 2], not [20, 32]"):
        assert said in str(error.value)


def test_wrong_folders_are_refused_by_name(written, tmp_path):
    folder, _ = written
    with pytest.raises(NotFound, match="nowhere"):
        load_network(tmp_path / "nowhere", TextEncoder)
    with pytest.raises(Unreadable, match="text-encoder"):
        load_network(folder, MLPFlow)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | {"model": "text-encodr"}))
    with pytest.raises(NotFound, match="text-encoder"):
        load_network(folder, TextEncoder)
    (folder / "config.json").write_text("no json")
    with pytest.raises(Unreadable, match=r"config\.json"):
        load_network(folder, TextEncoder)


def test_a_cut_file_is_refused(written):
    folder, _ = written
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Unreadable, match=r"model\.safetensors"):
        load_network(folder, TextEncoder)


def test_a_network_of_no_table_is_our_mistake(tmp_path):
    class Other(MLPFlow):
        pass

    with pytest.raises(KeyError):
        write_network(tmp_path, Other(MLPFlowConfig.tiny()))
