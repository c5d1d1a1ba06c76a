"""Our own layout: a folder with `config.json` (the network's name and config) and
`model.safetensors`. Every tensor is used, every parameter filled, or the folder is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from diptych.foundation.config import from_json, to_json
from diptych.foundation.errors import NotFound, Unreadable, unknown
from diptych.foundation.files import write_whole, write_with
from diptych.models.table import MODELS
from diptych.nn.unfilled import without_memory

M = TypeVar("M", bound=nn.Module)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises NotFound or Unreadable."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no {path.name} in {str(path.parent)!r}.",
            do="Name a model folder, a shipped model, or finish the training first.",
        ) from error
    except (OSError, ValueError) as error:
        raise Unreadable(f"{str(path)!r} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise Unreadable(f"{str(path)!r} holds no JSON object.")
    return content


def load_network(folder: Path, kind: type[M]) -> M:
    """The network in a folder, in evaluation mode, float32, on the CPU.

    Raises NotFound, or Unreadable naming the keys that are missing, unused or misshaped.
    """
    described = read_json(folder / "config.json")
    name = described.get("model", "")
    if name not in MODELS:
        raise unknown("network", str(name), MODELS)
    entry = MODELS[name]
    if entry.build is not kind:
        raise Unreadable(f"{str(folder)!r} holds a {name}, not a {kind.__name__}.")
    with without_memory():
        network = kind(from_json(entry.config, described.get("config", {}), at=name))
    _fill(network, folder / "model.safetensors")
    return network.eval()


def _fill(network: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise NotFound(f"There is no {path.name} in {str(path.parent)!r}.")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise Unreadable(f"{str(path)!r} cannot be read: {error}.") from error
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    wrong = [f"missing {key}" for key in wanted if key not in found]
    wrong += [f"unused {key}" for key in found if key not in wanted]
    wrong += [
        f"{key} is {list(found[key].shape)}, not {list(shape)}"
        for key, shape in wanted.items()
        if key in found and found[key].shape != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise Unreadable(f"{str(path)!r} does not fit: {'; '.join(wrong[:5])}{more}.")
    # Copied: where a tensor begins in the file decides its alignment, and with it the kernel and
    # the last bits of every product.
    whole = {key: value.to(torch.float32, copy=True) for key, value in found.items()}
    network.load_state_dict(whole, assign=True)
    network.requires_grad_(False)


def write_network(folder: Path, network: nn.Module, *, half: bool = False) -> None:
    """Write a network of the table; `half` stores float16. Raises NotWritten.

    Raises KeyError for a network that is not in the table.
    """
    names = {entry.build: name for name, entry in MODELS.items()}
    kind = torch.float16 if half else torch.float32
    state = {
        key: tensor.detach().to(kind).contiguous() for key, tensor in network.state_dict().items()
    }
    save_tensors(folder / "model.safetensors", state)
    config = {"model": names[type(network)], "config": to_json(network.config)}
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> Path:
    """A safetensors file, written whole or not at all. Raises NotWritten."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def save(part: Path) -> None:
        try:
            save_file(dict(tensors), part, metadata)
        except SafetensorError as error:  # the library's word for a disk that refused
            raise OSError(str(error)) from error

    return write_with(path, save)
