"""POST /v1/caption: a picture is read, by a job that is waited for."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from starlette.responses import Response

from diptych.service.api.admitting import admitted_one, prompt_of
from diptych.service.api.asking import KEYED, Ask, Row, said
from diptych.service.api.models import model_of
from diptych.service.api.shapes import CaptionShape
from diptych.service.api.sources import Given, given
from diptych.service.api.waiting import ended
from diptych.service.guards.fields import Strict, validated
from diptych.service.guards.problem import Problem
from diptych.service.jobs import accepting
from diptych.service.jobs.accepting import Wanted

# What a model is asked to do, and how many tokens it may write.
TASKS = MappingProxyType(
    {"caption": ("caption", 64), "detailed_caption": ("describe", 256), "ocr": ("read", 256),
     "vqa": (None, 64)}
)  # fmt: skip


class Caption(Strict):
    """One picture from `image_url`, `image` or `base64` (both base64); in a form, `image` is the
    file. `question` belongs to the task vqa."""

    image_url: str | None = None
    image: str | None = None
    base64: str | None = None
    task: Literal["caption", "detailed_caption", "vqa", "ocr"] = "caption"
    question: str | None = None
    model: str | None = None


async def caption(ask: Ask) -> Response:
    """What is seen, asked or written in a picture."""
    asked, upload = await _asked(ask)
    model_of(ask, asked.model, "read")  # before a picture is decoded for nothing
    question = _question(ask, asked)
    sources: dict[str, str | bytes | None] = {
        "image_url": asked.image_url,
        "image": asked.image,
        "base64": asked.base64,
    }
    if upload is not None:
        if asked.image is not None:
            raise Problem("bad-source", detail="Send one picture.", field="/image")
        sources["image"] = upload
    picture = await given(ask, sources)
    wanted = reading(ask, picture, asked.task, question, asked.model)
    ticket = await admitted_one(ask, wanted, wanted.spec)
    result = (await ended(ask, ticket.job_id)).result
    told = {name: result.get(name) for name in ("confidence", "score", "processing_time")}
    told |= {"caption": result["text"], "job_id": ticket.job_id}
    return said({**told, "warnings": list(picture.warnings)})


def reading(
    ask: Ask, picture: Given, task: str = "caption", question: str | None = None,
    model: str | None = None,
) -> Wanted:  # fmt: skip
    """The job that reads a picture. Raises Problem."""
    info, (name, most) = model_of(ask, model, "read"), TASKS[task]
    spec = {
        "kind": "read", "model": info.name, "picture": picture.stored.sha256, "task": name,
        "question": question, "most": most,
    }  # fmt: skip
    return Wanted(
        kind="read", spec=spec, cost=ask.state.engine.price(spec), rank=accepting.INTERACTIVE,
        inputs=(picture.stored,), equal=info.fingerprint,
    )  # fmt: skip


async def _asked(ask: Ask) -> tuple[Caption, bytes | None]:
    if not ask.is_form:
        return await ask.body(Caption), None
    form = await ask.form()
    if form.files.keys() - {"image"}:
        raise Problem("bad-field", detail="Send the file as 'image'.")
    return validated(Caption, dict(form.texts)), form.files.get("image")


def _question(ask: Ask, asked: Caption) -> str | None:
    if (asked.task == "vqa") != (asked.question is not None):
        detail = "A question belongs to the task vqa, and only to it."
        raise Problem("bad-field", detail=detail, field="/question")
    if asked.question == "":
        raise Problem("empty-text", detail="Write a question.", field="/question")
    return asked.question and prompt_of(ask, asked.question, "/question")


ROUTES = (
    Row(
        method="POST", path="/v1/caption", handler=caption, says="Read a picture", takes=Caption,
        headers=KEYED, gives=CaptionShape, form=True, statuses=(404, 409, 410, 502, 504),
    ),
)  # fmt: skip
