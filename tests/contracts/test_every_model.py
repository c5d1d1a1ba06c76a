"""What every network of the table must do, whatever it is for.

All parameters are drawn anew first: a gate that starts at zero would hide what is behind it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diptych.checkpoints.folder import load_network, write_network
from diptych.foundation.config import from_json, to_json
from diptych.foundation.errors import Unreadable
from diptych.models.table import MODELS

every_model = pytest.mark.parametrize("name", MODELS)


def drawn(name: str) -> tuple[nn.Module, Any]:
    """A tiny network with normal parameters (0.1), and its config."""
    config = MODELS[name].config.tiny()
    network = MODELS[name].build(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1, generator=generator)
    return network, config


def outputs(network: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """The tensors that a network gives back, in order."""
    return _flat(network(**inputs))


def _flat(out: Any) -> list[Tensor]:
    if isinstance(out, tuple | list):
        return [part for inner in out for part in _flat(inner)]
    return [] if out is None else [out]


@every_model
def test_outputs_are_finite_and_depend_on_the_input(name: str):
    network, config = drawn(name)
    with torch.no_grad():
        one = outputs(network, MODELS[name].example(config, 2, 0))
        other = outputs(network, MODELS[name].example(config, 2, 1))
    assert one and all(part.isfinite().all() for part in one)
    assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@every_model
def test_every_parameter_gets_a_gradient(name: str):
    network, config = drawn(name)
    generator = torch.Generator().manual_seed(2)
    parts = outputs(network, MODELS[name].example(config, 2, 0))
    sum((part * torch.randn(part.shape, generator=generator)).sum() for part in parts).backward()
    idle = {
        key
        for key, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    known = [re.compile(pattern) for pattern in MODELS[name].idle]
    assert all(any(pattern.fullmatch(key) for pattern in known) for key in idle)
    assert all(any(pattern.fullmatch(key) for key in idle) for pattern in known)
    gradients = [p.grad for key, p in network.named_parameters() if key not in idle]
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)


@every_model
def test_the_config_goes_through_json(name: str):
    kind = MODELS[name].config
    for config in (kind(), kind.tiny()):
        assert from_json(kind, json.loads(json.dumps(to_json(config)))) == config
    assert drawn(name)[0].config == kind.tiny()


@every_model
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path):
    network, config = drawn(name)
    inputs = MODELS[name].example(config, 2, 0)
    write_network(tmp_path, network)
    again = load_network(tmp_path, type(network))
    # Loaded weights ask for no gradient, and torch multiplies those on another path.
    network.requires_grad_(False)
    with torch.no_grad():
        pairs = zip(outputs(network, inputs), outputs(again, inputs), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@every_model
def test_a_file_that_lacks_or_has_too_much_is_refused(name: str, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    network, _ = drawn(name)
    write_network(tmp_path, network)
    whole = load_file(tmp_path / "model.safetensors")
    some = next(iter(whole))
    less = {key: value for key, value in whole.items() if key != some}
    for tensors in (less, {**whole, "stray": torch.zeros(1)}):
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(Unreadable, match="stray" if "stray" in tensors else some):
            load_network(tmp_path, type(network))


@every_model
def test_a_batch_of_three_equals_three_alone(name: str):
    network, config = drawn(name)
    inputs = MODELS[name].example(config, 3, 0)
    with torch.no_grad():
        together = outputs(network, inputs)
        for row in range(3):
            alone = outputs(network, {key: value[row : row + 1] for key, value in inputs.items()})
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[row : row + 1], b, rtol=1e-4, atol=1e-5)
