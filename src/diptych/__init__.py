"""Diptych: words become pictures, pictures become words."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from diptych.foundation.memory import uncollected
from diptych.foundation.version import __version__

if TYPE_CHECKING:
    from diptych.pipelines.dual_front import DualEncoder
    from diptych.pipelines.painter_front import TextToImage
    from diptych.pipelines.reader_front import ImageToText

__all__ = ["DualEncoder", "ImageToText", "TextToImage", "__version__"]

# Loaded at first use: `import diptych` must not load torch.
_LATER = {
    "DualEncoder": "diptych.pipelines.dual_front",
    "ImageToText": "diptych.pipelines.reader_front",
    "TextToImage": "diptych.pipelines.painter_front",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'diptych' has no attribute {name!r}")
    with uncollected():
        return getattr(import_module(_LATER[name]), name)
