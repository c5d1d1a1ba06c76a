"""The OpenAPI document, made of the same rows as the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from diptych.foundation.version import __version__
from diptych.service.api.asking import Row
from diptych.service.api.shapes import ProblemShape
from diptych.service.guards.problem import CONTENT_TYPE

# What every request may be answered with; those that change something also the second row.
_ALL = (400, 401, 403, 404, 405, 406, 421, 422, 500)
_CHANGING = (408, 413, 415, 429, 503, 507)
_PART = re.compile(r"\{([a-z0-9_]+)(?::[a-z]+)?\}")


def document(rows: Iterable[Row]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    rows = list(rows)
    given = {m for row in rows for m in (row.takes, row.gives, row.query) if m}
    models = sorted(given | {ProblemShape}, key=lambda model: model.__name__)
    names, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        at = paths.setdefault(_PART.sub(r"{\1}", row.path), {})
        at[row.method.lower()] = _operation(
            row, {model: names[model, "validation"] for model in models}
        )
    scheme = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Diptych", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas.get("$defs", {}), "securitySchemes": {"key": scheme}},
    }


def _operation(row: Row, refs: dict[type[BaseModel], Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"summary": row.says, "parameters": _parameters(row)}
    said["operationId"] = f"{row.method.lower()}_{re.sub('[^a-z0-9]+', '_', row.path).strip('_')}"
    if row.takes is not None:
        kinds = ["application/json", *(["multipart/form-data"] if row.form else [])]
        content = {kind: {"schema": refs[row.takes]} for kind in kinds}
        said["requestBody"] = {"required": True, "content": content}
    if row.access != "open":
        said["security"] = [{"key": []}, {}]
    said["responses"] = _responses(row, refs)
    return said


def _parameters(row: Row) -> list[dict[str, Any]]:
    text = {"type": "string"}
    path = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in _PART.findall(row.path)
    ]
    query = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in row.query.model_json_schema().get("properties", {}).items()
    ]
    headers = [
        {"name": name, "in": "header", "required": False, "schema": text} for name in row.headers
    ]
    return path + query + headers


def _responses(row: Row, refs: dict[type[BaseModel], Any]) -> dict[str, Any]:
    good: dict[str, Any] = {kind: {} for kind in row.kinds}
    if row.gives is not None:
        good["application/json"] = {"schema": refs[row.gives]}
    problem = {CONTENT_TYPE: {"schema": refs[ProblemShape]}}
    statuses = {row.status, *row.statuses, *_ALL}
    statuses |= set(_CHANGING) if row.method != "GET" else {503}
    told: dict[str, Any] = {}
    for status in sorted(statuses):
        told[str(status)] = {"description": HTTPStatus(status).phrase}
        if status >= 400:
            told[str(status)]["content"] = problem
        elif status != 204:
            told[str(status)]["content"] = good
    return told
