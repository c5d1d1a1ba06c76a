"""Which painted pictures the operator refuses.

Diptych ships no classifier: out of the box every picture is let through. An operator names a
function of their own. It runs in the engine's process, on the picture before it gets any mark; a
picture that it refuses is not stored, and its job fails as `moderated`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from PIL import Image

from diptych.foundation.errors import InvalidValue, NotFound

OutputGate = Callable[[Image.Image], bool]


def gate_of(name: str) -> OutputGate:
    """`module:function`, as a function from an RGB picture to whether it is refused. Raises
    InvalidValue for another form, NotFound for what is not there."""
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), function]):
        raise InvalidValue(f"{name!r} names no gate.", do="Say --gate MODULE:FUNCTION.")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise NotFound(f"There is no gate {name!r}: {error}.") from error
    if not callable(found):
        raise InvalidValue(f"{name!r} is no function.", do="It gets a picture, and gives a bool.")
    return lambda picture: bool(found(picture))
