"""POST /v1/generate and /v1/batches: words become jobs that paint."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from diptych.service.api import reads, windows
from diptych.service.api.admitting import Ticket, admitted, admitted_one, prompt_of
from diptych.service.api.asking import KEYED, Ask, Row, said
from diptych.service.api.beginning import Beginning, Sources, beginning, nearest
from diptych.service.api.models import model_of
from diptych.service.api.shapes import AcceptedShape, BatchShape
from diptych.service.api.state import ModelInfo
from diptych.service.guards.fields import LARGEST_SEED, Seed, Strict
from diptych.service.guards.problem import Problem
from diptych.service.jobs import accepting, queries
from diptych.service.jobs.accepting import Wanted

MOST_TOGETHER = 64
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_PLAIN = re.compile(r"[^\W\d_][\w'-]{0,31}")
_MOST_NAMED = 8

NOTHING = Beginning()

Whole = Annotated[int, Field(ge=1, le=1 << 20)]


class Generate(Strict):
    """What is left out is the model's own. A picture to begin from comes as base64 in `image` or
    by its address; of a `mask` (base64) the white part is painted anew; `strength` is the share of
    the steps made from it. `strict`: a prompt of more tokens than the model reads is refused; else
    it is cut, and the answer warns of it."""

    prompt: str
    negative_prompt: str = ""
    width: Whole | None = None
    height: Whole | None = None
    num_inference_steps: Whole | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    seed: Seed | None = None
    model: str | None = None
    solver: str | None = None
    image: str | None = None
    image_url: str | None = None
    mask: str | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    strict: bool = False


class Batch(Strict):
    requests: Annotated[list[Generate], Field(min_length=1, max_length=MOST_TOGETHER)]


class Dry(Strict):
    dry_run: Literal["true", "false"] = "false"


async def generate(ask: Ask) -> Response:
    """One picture."""
    asked = await ask.body(Generate)
    begin = await _begin(ask, asked)
    wanted = painting(ask, asked, begin)
    if ask.query(Dry).dry_run == "true":
        _, waits = ask.read(queries.load)
        eta = waits + wanted.cost
        told = {"engine_seconds": round(wanted.cost, 3), "eta_seconds": round(eta, 3)}
        told["eta_p80_seconds"] = round(eta * ask.state.engine.late, 3)
        return said({**told, "accepted": False})
    ticket = await admitted_one(ask, wanted, asked.model_dump())
    return said(_told(ask, ticket, wanted, begin), 202, _headers(ticket))


async def batches(ask: Ask) -> Response:
    """Up to 64 pictures, all or none."""
    asked = await ask.body(Batch)
    batch = accepting.new_id(time.time())
    wanted, begins = list[Wanted](), list[Beginning]()
    for i, one in enumerate(asked.requests):
        at = f"/requests/{i}"
        begin = await _begin(ask, one, at)
        wanted.append(painting(ask, one, begin, at=at, batch=batch, rank=accepting.LARGE))
        begins.append(begin)
    tickets = await admitted(ask, wanted, asked.model_dump())
    if tickets[0].again:
        batch = ask.read(lambda c: reads.batch_of(c, tickets[0].job_id))
    each = zip(tickets, wanted, begins, strict=True)
    told = {"batch_id": batch, "jobs": [_told(ask, *one) for one in each]}
    return said(told, 202, _headers(tickets[0]))


def _told(ask: Ask, ticket: Ticket, wanted: Wanted, begin: Beginning) -> dict[str, Any]:
    """A ticket with what was done to what was asked."""
    info = ask.state.engine.models[wanted.spec["model"]]
    cut = (windows.warning(info, name) for name in wanted.spec.get("cut", ()))
    warnings = [*begin.warnings, *cut]
    return {**ticket.body(), "warnings": warnings} if warnings else ticket.body()


async def _begin(ask: Ask, asked: Generate, at: str = "") -> Beginning:
    info = model_of(ask, asked.model, "paint", f"{at}/model")
    _check_prompt(ask, asked, info, at)  # before a picture is decoded for nothing
    sources = Sources(
        images={"image": asked.image, "image_url": asked.image_url}, mask=asked.mask,
        strength=asked.strength, size=(asked.width, asked.height),
    )  # fmt: skip
    if asked.width is not None or asked.height is not None:
        check_size(info, asked.width or info.size[0], asked.height or info.size[1], at)
    return await beginning(ask, info, sources, at)


def painting(
    ask: Ask,
    asked: Generate,
    begin: Beginning = NOTHING,
    *,
    at: str = "",
    batch: str = "",
    rank: int = accepting.USUAL,
) -> Wanted:
    """The job of a request; a seed that was not said is drawn here, so that a second attempt
    paints the same picture. `at`: the pointer to the request in its body. Raises Problem."""
    info = model_of(ask, asked.model, "paint", f"{at}/model")
    _check_prompt(ask, asked, info, at)
    own = begin.size or info.size
    width, height = asked.width or own[0], asked.height or own[1]
    check_size(info, width, height, at)
    steps = asked.num_inference_steps or info.steps
    if steps > info.most_steps:
        detail = f"This model takes up to {info.most_steps} steps."
        raise Problem("over-limit", detail=detail, field=f"{at}/num_inference_steps")
    if asked.solver is not None and asked.solver not in info.solvers:
        detail = f"Choose one of {', '.join(info.solvers)}." if info.solvers else "Leave it out."
        raise Problem("bad-field", detail=detail, field=f"{at}/solver")
    guidance = info.guidance if asked.guidance_scale is None else asked.guidance_scale
    spec = {
        "kind": "paint", "model": info.name, "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt, "width": width, "height": height,
        "steps": steps, "guidance": float(guidance), "solver": asked.solver,
        "seed": secrets.randbelow(LARGEST_SEED + 1) if asked.seed is None else asked.seed,
        **begin.spec,
    }  # fmt: skip
    cut = _cut(ask, asked, info, at)
    spec |= {"cut": cut} if cut else {}
    equal = info.fingerprint if asked.seed is not None else ""
    cost = ask.state.engine.price(spec)
    return Wanted(
        kind="paint", spec=spec, cost=cost, rank=rank, steps=steps, equal=equal, batch=batch,
        inputs=begin.inputs,
    )  # fmt: skip


def _check_prompt(ask: Ask, asked: Generate, info: ModelInfo, at: str) -> None:
    if not asked.prompt:
        raise Problem("empty-text", detail="Write what shall be painted.", field=f"{at}/prompt")
    texts: Mapping[str, str] = {"prompt": asked.prompt, "negative_prompt": asked.negative_prompt}
    for name, text in texts.items():
        prompt_of(ask, text, f"{at}/{name}")
        if info.words:
            _check_words(info, text, f"{at}/{name}")


def _cut(ask: Ask, asked: Generate, info: ModelInfo, at: str) -> list[str]:
    """The texts of which only the beginning is read. Raises Problem where that is not wanted, or
    not done."""
    texts = {"prompt": asked.prompt, "negative_prompt": asked.negative_prompt}
    data = ask.state.settings.data
    over = [name for name, text in texts.items() if windows.is_over(data, info, text)]
    if over and (asked.strict or not windows.KINDS[info.counts].cuts):
        detail = f"This model reads {info.window} tokens."
        raise Problem("too-long", detail=detail, field=f"{at}/{over[0]}")
    return over


def _check_words(info: ModelInfo, text: str, field: str) -> None:
    """A model of few words paints nothing it was not taught (ruling 25)."""
    known = {word.lower() for word in info.words}
    strange = dict.fromkeys(w for w in _WORD.findall(text.lower()) if w not in known)
    if not strange:
        return
    # Only what looks like a word is named; the rest is counted.
    named = [word for word in strange if _PLAIN.fullmatch(word)][:_MOST_NAMED]
    detail = "Use the words of this model; GET /v1/models lists them."
    extra: dict[str, Any] = {"unknown_words": named, "unknown_count": len(strange)}
    raise Problem("unknown-words", detail=detail, field=field, extra=extra)


def check_size(info: ModelInfo, width: int, height: int, at: str) -> None:
    """Never rounded in silence: the nearest pair that is painted is named."""
    near = {"width": nearest(info, width), "height": nearest(info, height)}
    for name, side in (("width", width), ("height", height)):
        if side > info.most_side:
            detail = f"Sides have up to {info.most_side} pixels."
            raise Problem(
                "over-limit", detail=detail, field=f"{at}/{name}", extra={"nearest": near}
            )
    for name, side in (("width", width), ("height", height)):
        if side != near[name]:
            detail = (
                f"Sides are multiples of {info.multiple}; "
                f"the nearest size is {near['width']} x {near['height']}."
            )
            raise Problem("bad-size", detail=detail, field=f"{at}/{name}", extra={"nearest": near})


def _headers(ticket: Ticket) -> dict[str, str]:
    headers = {"location": f"/v1/jobs/{ticket.job_id}"}
    return {**headers, "idempotent-replayed": "true"} if ticket.again else headers


ROUTES = (
    Row(
        method="POST", path="/v1/generate", handler=generate, says="Paint a picture",
        takes=Generate,
        headers=KEYED, gives=AcceptedShape, query=Dry, status=202, statuses=(200, 404, 410, 502),
        large=True,
    ),
    Row(
        method="POST", path="/v1/batches", handler=batches, says="Paint up to 64 pictures",
        takes=Batch, headers=KEYED, gives=BatchShape, status=202, statuses=(404, 410, 502),
        large=True,
    ),
)  # fmt: skip
