"""What a finished run leaves to load: `model.safetensors` and `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from diptych.foundation.files import write_whole, write_with


def write_model(folder: Path, model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write the weights and the config of a model, the config last. Raises NotWritten.

    Of tensors that share memory one name is written, as `safetensors.torch.save_model` does.
    """
    from safetensors.torch import save_model

    write_with(folder / "model.safetensors", lambda path: save_model(model, str(path)))
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
