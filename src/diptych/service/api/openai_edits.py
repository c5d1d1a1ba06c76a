"""/v1/images/edits and variations: OpenAI's interface to pictures that begin from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from starlette.responses import Response

from diptych.service.api.admitting import admitted_one
from diptych.service.api.asking import KEYED, Ask, Row
from diptych.service.api.beginning import Beginning, Sources, beginning
from diptych.service.api.caption import reading
from diptych.service.api.events import STREAM
from diptych.service.api.generate import check_size
from diptych.service.api.models import model_of
from diptych.service.api.openai_images import Images, painted, size_of
from diptych.service.api.shapes import AnyShape
from diptych.service.api.sources import kept
from diptych.service.api.waiting import ended
from diptych.service.guards.fields import Strict, validated
from diptych.service.guards.pictures import from_base64
from diptych.service.guards.problem import Problem

# Of a form all is text; what is a number or yes and no in JSON.
_READ: Mapping[str, Callable[[str], Any]] = {
    "n": int, "partial_images": int, "num_inference_steps": int, "seed": int,
    "guidance_scale": float, "strength": float,
    "stream": {"true": True, "false": False}.__getitem__,
}  # fmt: skip
_FILES = {"image": "image", "image[]": "image", "mask": "mask"}
_WRONG = object()  # of no kind that a field has: it is refused by its name
Asked = TypeVar("Asked", bound=Strict)


class Edits(Images):
    """In a form `image` and `mask` are files, in JSON base64. What is transparent in the mask is
    painted anew; without a mask the whole picture is, as far as `strength` says."""

    image: str | None = None
    mask: str | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    input_fidelity: Literal["low", "high"] | None = None


class Variations(Strict):
    """As `Edits`, without words."""

    image: str | None = None
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None


async def edits(ask: Ask) -> Response:
    """Words change a picture, or a part of it."""
    asked, files = await _asked(ask, Edits)
    image, mask = files.get("image"), files.get("mask")
    begin = await _begin(ask, asked, image, mask)
    return await painted(ask, asked, begin, "image_edit")


async def variations(ask: Ask) -> Response:
    """Pictures like one: a reader says what is on it, and that is painted from it."""
    asked, files = await _asked(ask, Variations)
    image = files.get("image")
    if image is None:
        raise Problem("bad-source", detail="Send a picture.", field="/image")
    if not any(info.does == "read" for info in ask.state.engine.models.values()):
        detail = "It takes a model that reads; the operator adds one."
        raise Problem("not-offered", detail=detail)
    read = await admitted_one(ask, reading(ask, await kept(ask, image, "/image")), None)
    said = asked.model_dump(include={"model", "n", "size", "response_format"})
    text = (await ended(ask, read.job_id)).result["text"]
    words = validated(Edits, {**said, "prompt": text, "strength": asked.strength})
    return await painted(ask, words, await _begin(ask, words, image, None), "image_edit")


async def _begin(ask: Ask, asked: Edits, image: bytes | None, mask: bytes | None) -> Beginning:
    info = model_of(ask, asked.model, "paint")
    if image is None:
        raise Problem("bad-source", detail="Send a picture.", field="/image")
    width, height = size_of(asked)
    if width is not None and height is not None:
        check_size(info, width, height, "")
    sources = Sources(
        images={"image": image}, mask=mask, strength=asked.strength, size=(width, height),
        erased="clear",
    )  # fmt: skip
    return await beginning(ask, info, sources)


async def _asked(ask: Ask, model: type[Asked]) -> tuple[Asked, dict[str, bytes]]:
    """What is asked, and its files. Raises Problem."""
    if not ask.is_form:
        asked = await ask.body(model)
        given = {name: getattr(asked, name, None) for name in ("image", "mask")}
        return asked, {name: from_base64(t, f"/{name}") for name, t in given.items() if t}
    form = await ask.form()
    files: dict[str, bytes] = {}
    for name, content in form.files.items():
        if name not in _FILES or _FILES[name] in files:
            raise Problem("bad-field", detail="Send one image, and at most one mask.")
        files[_FILES[name]] = content
    values = {name: _value(name, text) for name, text in form.texts.items()}
    if values.keys() & {"image", "mask"}:
        raise Problem("bad-field", detail="In a form, image and mask are files.", field="/image")
    return validated(model, values), files


def _value(name: str, text: str) -> Any:
    try:
        return _READ.get(name, str)(text)
    except (ValueError, KeyError):
        return _WRONG


ROUTES = tuple(
    Row(
        method="POST", path=f"/v1/images/{verb}", handler=handler, says=says, takes=takes,
        headers=KEYED, gives=AnyShape, kinds=(STREAM,), form=True,
        statuses=(404, 409, 410, 504),
    )
    for verb, handler, says, takes in (
        ("edits", edits, "Change a picture, by OpenAI's interface", Edits),
        ("variations", variations, "Vary a picture, by OpenAI's interface", Variations),
    )
)  # fmt: skip
