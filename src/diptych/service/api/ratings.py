"""GET /v1/ratings: thumbs with all that made the pictures, as a set of preferences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row as Found
from starlette.responses import Response

from diptych.service.api import reads
from diptych.service.api.answers import picture_url
from diptych.service.api.asking import Ask, Row, said
from diptych.service.api.shapes import RatingsShape

# What two requests must have in common to be compared: all but what each draws by itself.
_APART = ("seed", "solver", "steps", "guidance")


async def ratings(ask: Ask) -> Response:
    """Every rated picture of who asks, and pairs of a liked and a disliked one of one prompt, as
    they are trained on (Wallace and others, 2024, Diffusion-DPO)."""
    rows = ask.read(lambda c: reads.rated(c, ask.owner))
    made = ask.read(lambda c: reads.made_by(c, [row.id for row in rows]))
    pictures = {
        row.id: one.sha256 for row in rows for one in made.get(row.id, []) if one.role == "picture"
    }
    told = [_told(ask, row, pictures[row.id]) for row in rows if row.id in pictures]
    return said({"ratings": told, "pairs": _pairs([row for row in rows if row.id in pictures])})


def _told(ask: Ask, row: Found[Any], sha256: str) -> dict[str, Any]:
    result = row.result or {}
    return {
        "job_id": row.id, "value": row.value, "rated_at": row.at, "model": row.spec["model"],
        "model_hash": result.get("model_hash", ""), "fingerprint": result.get("fingerprint", ""),
        "request": {k: v for k, v in row.spec.items() if k not in ("kind", "model")},
        "sha256": sha256, "image_url": picture_url(ask, sha256),
    }  # fmt: skip


def _pairs(rows: Sequence[Found[Any]]) -> list[dict[str, str]]:
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for row in rows:
        same = str(sorted((k, v) for k, v in row.spec.items() if k not in _APART))
        liked, not_liked = groups.setdefault(same, ([], []))
        (liked if row.value > 0 else not_liked).append(row.id)
    return [
        {"chosen": good, "rejected": bad}
        for liked, not_liked in groups.values() for good in liked for bad in not_liked
    ]  # fmt: skip


ROUTES = (
    Row(
        method="GET", path="/v1/ratings", handler=ratings, says="Ratings, as a preference set",
        gives=RatingsShape,
    ),
)  # fmt: skip
