"""What stands beside the tensors of a LoRA: PEFT's config, in a file of its own or in the
metadata that diffusers writes, and what a trainer noted of the model it was made for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.checkpoints.adapters.kinds import Said
from diptych.checkpoints.folder import read_json
from diptych.foundation.errors import NotFound, Unreadable

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
METADATA = "lora_adapter_metadata"  # of diffusers
# Where trainers write which model it was: kohya, and a standard of model cards.
_MADE_FOR = ("ss_base_model_version", "modelspec.architecture", "base_model_name_or_path")
# How PEFT may begin that leaves other weights in the model than the published ones.
_MOVED_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True)
class Beside:
    """`configs`: PEFT's by component, "" for all. `made_for`: as a trainer noted it."""

    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    made_for: str = ""

    def of(self, component: str, layer: str) -> Said:
        """What a config says of a layer, by our name for it."""
        config = self.configs.get(component, self.configs.get("", {}))
        alpha = _patterned(config.get("alpha_pattern"), layer, _alpha(config))
        rank = _patterned(config.get("rank_pattern"), layer, config.get("r"))
        return Said(alpha, bool(config.get("use_rslora")), int(rank or 0))


def weights_of(path: Path) -> Path:
    """The file of weights of what PEFT or diffusers write as a folder, or the only one that a
    folder holds; else the path itself. Raises NotFound."""
    if not path.is_dir():
        return path
    found = [path / _WEIGHTS, path / "pytorch_lora_weights.safetensors"]
    single = sorted(path.glob("*.safetensors"))
    for one in found + (single if len(single) == 1 else []):
        if one.is_file():
            return one
    raise NotFound(f"There is no {_WEIGHTS} in {str(path)!r}.", do="Name the adapter's file.")


def beside(path: Path, metadata: Mapping[str, str]) -> Beside:
    """Of a weight file. Raises Unreadable for a config that is not built."""
    made_for = next((metadata[key] for key in _MADE_FOR if metadata.get(key)), "")
    configs: dict[str, dict[str, Any]] = {}
    if path.name == _WEIGHTS and path.with_name(_CONFIG).is_file():
        configs[""] = read_json(path.with_name(_CONFIG))
        made_for = made_for or str(configs[""].get("base_model_name_or_path") or "")
    elif METADATA in metadata:
        for key, value in _object(metadata[METADATA]).items():
            # Of a whole model each key begins with its component, of a network alone with nothing.
            component, _, name = key.rpartition(".")
            configs.setdefault(component, {})[name] = value
    for config in configs.values():
        _check(config)
    return Beside(configs, made_for)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Unreadable(f"The metadata {METADATA!r} is no JSON.") from error
    return found if isinstance(found, dict) else {}


def _check(config: Mapping[str, Any]) -> None:
    start = str(config.get("init_lora_weights") or "").lower()
    if start.startswith(_MOVED_BASE):
        raise Unreadable(
            f"A LoRA that began as {start!r} belongs to other weights than the published ones.",
            do="Convert it to a plain one with the tool that made it.",
        )
    for key in ("fan_in_fan_out", "use_qalora", "alora_invocation_tokens", "arrow_config"):
        if config.get(key):
            raise Unreadable(f"An adapter with {key} = {config[key]!r} is not built here.")


def _alpha(config: Mapping[str, Any]) -> Any:
    """LoHa and LoKr have another name for it."""
    return config.get("lora_alpha", config.get("alpha"))


def _patterned(patterns: Any, layer: str, default: Any) -> float | None:
    """PEFT's rule: the first pattern that is the end of the name, else what holds for all."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", layer):
            return float(value)
    return None if default is None else float(default)
