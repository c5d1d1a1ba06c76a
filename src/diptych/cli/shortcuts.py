"""What `generate` is told of approximations: faster, and other pictures, which say so."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.pipelines.painter_front import TextToImage


def add_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("approximations, which paint other pictures")
    group.add_argument(
        "--approximate", action="append", default=[], metavar="NAME[:NUMBER]",
        help="int8, deepcache[:EVERY] (U-Nets) or first-block[:THRESHOLD] (transformers)",
    )  # fmt: skip


def shortcuts_of(args: Namespace, model: TextToImage) -> dict[str, Any]:
    """What is said of these, as arguments of a call; the model is changed to int8 if that is
    said. Raises NotFound, InvalidValue."""
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.reusing import INT8, approximation_named

    asked = [text for text in args.approximate if text != INT8]
    named = [approximation_named(text) for text in asked]
    if len(named) > 1:
        raise InvalidValue(f"{asked[0]} and {asked[1]} do not go together.", do="Choose one.")
    if len(asked) < len(args.approximate):
        model.to_int8()
    return {"approximation": named[0]} if named else {}
