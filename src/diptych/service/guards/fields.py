"""From parsed JSON to a request: strict fields, and pydantic's refusals said as ours.

FastAPI's own way reads the body before any gate and puts the input into its answer; a route takes
`validated(Model, parsed(body))` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diptych.service.guards.json_gate import pointer
from diptych.service.guards.problem import Problem

LARGEST_SEED = 2**63 - 1  # a database's integers end there
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class Strict(BaseModel):
    """No field but those named, no "512" or 512.0 for 512, no NaN; nothing changes later."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], value: Any) -> Model:
    """The request. Raises Problem 422 bad-field for the first field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Out of the except: the error holds the input.
        found = error.errors(include_url=False, include_context=False, include_input=False)
    more = len(found) - 1
    raise Problem(
        "bad-field",
        detail=_said(found[0]["type"], found[0]["msg"]),
        field=pointer(*found[0]["loc"]),
        extra={"further_errors": more} if more else {},
    )


def one_source(sources: Mapping[str, object | None]) -> str:
    """The name of the one that is given, of `image`, `image_url` and whatever a route offers.

    Raises Problem 422 bad-source for none and for two.
    """
    given = [name for name, value in sources.items() if value is not None]
    if len(given) == 1:
        return given[0]
    detail = f"Send exactly one of {', '.join(sources)}."
    raise Problem("bad-source", detail=detail, field=pointer(given[1]) if given else "")


def _said(kind: str, message: str) -> str:
    """pydantic's sentence, where it speaks of the field alone; one of ours where a validator's own
    words might hold what was sent."""
    if kind in ("value_error", "assertion_error", "custom_error"):
        return "Send a value that the documentation of this field allows."
    return f"{message}."
