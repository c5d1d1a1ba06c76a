"""What is answered, as models: the document is made of them, and the tests hold answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["queued", "running", "complete", "failed", "canceled"]


class Shape(BaseModel):
    """No member but these."""

    model_config = ConfigDict(extra="forbid")


class ProblemShape(BaseModel):
    """RFC 9457; some kinds have further members."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    field: str | None = None


class AcceptedShape(Shape):
    job_id: str
    status: Status
    eta_seconds: float
    eta_p80_seconds: float
    engine_seconds: float
    seed: int | None = None
    warnings: list[str] | None = None  # of what was done to what was sent


class BatchShape(Shape):
    batch_id: str
    jobs: list[AcceptedShape]


class ErrorShape(Shape):
    code: str
    detail: str


class JobShape(Shape):
    """A job; times in Unix seconds. `generation_time`: seconds of the engine."""

    job_id: str
    kind: str
    status: Status
    model: str
    batch_id: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    step: int
    steps: int
    held: bool
    cancel_asked: bool
    starred: bool
    rating: int
    request: dict[str, Any]
    eta_seconds: float | None
    eta_p80_seconds: float | None
    image_url: str | None
    generation_time: float | None
    result: dict[str, Any] | None
    error: ErrorShape | None


class JobsShape(Shape):
    jobs: list[JobShape]
    next: str | None


class QueueShape(Shape):
    jobs: list[JobShape]
    paused: bool


class RatingShape(Shape):
    job_id: str
    value: Literal[-1, 1]
    rated_at: float
    model: str
    model_hash: str
    fingerprint: str
    request: dict[str, Any]
    sha256: str
    image_url: str


class PairShape(Shape):
    """Identifiers of two jobs of one prompt."""

    chosen: str
    rejected: str


class RatingsShape(Shape):
    ratings: list[RatingShape]
    pairs: list[PairShape]


class DeletedShape(Shape):
    job_id: str
    undo_until: float


class CaptionShape(Shape):
    caption: str
    confidence: float | None
    score: float | None
    processing_time: float | None
    job_id: str
    warnings: list[str]


class VerifyShape(Shape):
    ours: bool
    recipe: Literal["diptych", "automatic1111", "comfyui", "none"]
    watermark: Literal["found", "none", "too-small"]
    strength: float | None
    chance: float | None
    same_recipe: bool | None
    credentials: Literal["valid", "local", "altered", "broken", "none", "unread"]
    signer: str
    generator: str
    machine: bool


class SessionShape(Shape):
    owner: str
    role: Literal["user", "admin"]
    keys: bool


class HealthShape(BaseModel):
    status: str


class AnyShape(BaseModel):
    """As OpenAI's interface has it."""
