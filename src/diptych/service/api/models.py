"""GET /v1/models: what is served; and which model a request means."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from starlette.responses import Response

from diptych.service.api.asking import Ask, Row, said
from diptych.service.api.shapes import AnyShape
from diptych.service.api.state import Does, ModelInfo
from diptych.service.guards.problem import Problem


def model_of(ask: Ask, name: str | None, does: Does, field: str = "/model") -> ModelInfo:
    """The model of this name, or the first that does it. Raises Problem: 404 unknown-name,
    503 busy before the engine has told what there is."""
    fit = {known: info for known, info in ask.state.engine.models.items() if info.does == does}
    if name is None and fit:
        return next(iter(fit.values()))
    if name is not None and name in fit:
        return fit[name]
    if not fit and ask.state.engine.state == "starting":
        detail = "The models are being loaded. Ask again in a few seconds."
        raise Problem("busy", detail=detail, headers={"Retry-After": "5"})
    if not fit:
        detail = "No model of this server does that; the operator adds one."
        raise Problem("unknown-name", detail=detail, field=field)
    near = get_close_matches(name or "", fit, n=1, cutoff=0.4)
    detail = f"The nearest is {near[0]}." if near else f"There are {', '.join(sorted(fit))}."
    raise Problem("unknown-name", detail=detail, field=field)


async def models(ask: Ask) -> Response:
    """All models."""
    found = [_told(info) for info in ask.state.engine.models.values()]
    return said({"object": "list", "data": found})


async def model(ask: Ask) -> Response:
    """One model."""
    info = ask.state.engine.models.get(ask.request.path_params["name"])
    if info is None:
        raise Problem("unknown-name", detail="GET /v1/models lists them.")
    return said(_told(info))


def _told(info: ModelInfo) -> dict[str, Any]:
    """OpenAI's members, and ours."""
    told: dict[str, Any] = {"id": info.name, "object": "model", "created": 0, "owned_by": "local"}
    told |= {"does": info.does, "chats": info.chats, "model_hash": info.model_hash}
    if info.does == "paint":
        told |= {
            "width": info.size[0], "height": info.size[1], "multiple": info.multiple,
            "most_side": info.most_side, "steps": info.steps, "most_steps": info.most_steps,
            "guidance_scale": info.guidance, "solvers": list(info.solvers),
            "window": info.window, "words": list(info.words), "examples": list(info.examples),
            "fingerprint": info.fingerprint, "begins_from_pictures": info.begins is not None,
        }  # fmt: skip
    return told


ROUTES = (
    Row(method="GET", path="/v1/models", handler=models, says="List the models", gives=AnyShape),
    Row(
        method="GET", path="/v1/models/{name:path}", handler=model, says="One model",
        gives=AnyShape, statuses=(404,),
    ),
)  # fmt: skip
