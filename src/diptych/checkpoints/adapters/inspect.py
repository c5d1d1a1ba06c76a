"""What an adapter's file is, told without reading a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.adapters.endings import is_adapter
from diptych.checkpoints.adapters.inversion import found_inversion, is_inversion
from diptych.checkpoints.adapters.names import PREFIXES
from diptych.checkpoints.adapters.read import found_adapter
from diptych.checkpoints.adapters.said import weights_of
from diptych.checkpoints.header import header_of
from diptych.checkpoints.load import Found
from diptych.foundation.errors import NotFound
from diptych.models.clip_text import CLIPText


def inspected(path: Path, base: Sequence[Found] | None = None) -> LoadReport | None:
    """The account of an adapter or a learnt word, against a model's components if there are any;
    None for what is neither. Raises NotFound, Unreadable."""
    try:
        header = header_of(weights_of(path))
    except NotFound:
        return None
    networks: dict[str, nn.Module] | None = None
    if base is not None:
        networks = {one.part.component: one.network for one in base}
        networks = {name: network for name, network in networks.items() if name in PREFIXES}
    if is_adapter(header):
        return found_adapter(path, networks).report
    if not is_inversion(header):
        return None
    widths: dict[str, int] = {}
    for name, network in (networks or {}).items():
        if isinstance(network, CLIPText):
            widths[name] = network.config.width
    return found_inversion(weights_of(path), widths if base is not None else None).report
