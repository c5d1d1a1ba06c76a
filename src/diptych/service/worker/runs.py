"""A job in the engine: begun from what it says, watched, and made into files and words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from PIL import Image

from diptych.decoding.choices import Decoding
from diptych.engine.batching import out_of_memory
from diptych.engine.engine import Engine, Turn
from diptych.engine.painting import Job
from diptych.foundation.errors import DiptychError, InvalidValue, Unreadable
from diptych.imaging.recipe import PictureRecipe, png_bytes
from diptych.pipelines.conditioning import Reading
from diptych.pipelines.dual_front import DualEncoder
from diptych.pipelines.ordering import order
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.previews import LinearPreview, fitted
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.resuming import finite, read_state, resumable, write_state
from diptych.pipelines.text_to_image import PaintState
from diptych.pipelines.texts import Text
from diptych.pipelines.vlm_networks import VLMNetworks
from diptych.service.artifacts import read as read_artifact
from diptych.service.guards.output_gate import OutputGate
from diptych.service.traces import Open
from diptych.service.worker.models import Loaded
from diptych.service.worker.pool import Pool
from diptych.text import chat

PNG = "image/png"
CHUNKS = 1 << 20  # of encoders that read any number


@dataclass(frozen=True)
class Made:
    """What a job has come to: its result, and a file of it where there is one."""

    result: dict[str, Any]
    file: bytes = b""
    media: str = PNG


class Moderated(Exception):
    """The operator's gate refuses the picture."""


class NotFinite(Exception):
    """The network gave something that is no number."""


@dataclass
class Room:
    """What runs share: the models with their engine, the folder of the data, how words that come
    are told, whether pictures get the invisible mark, and which of them are refused."""

    pool: Pool
    data: Path
    say: Callable[[str, str], None]
    marks: bool = True
    gate: OutputGate | None = None
    previews: dict[str, LinearPreview] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        return self.pool.engine

    def model(self, name: str, does: str) -> Loaded:
        """Raises InvalidValue for a model that is not loaded for this."""
        self.pool.used(name)
        found = self.pool.loaded.get(name)
        if found is None or found.does != does:
            raise InvalidValue(f"The model {name!r} is not loaded.", do="Ask for another one.")
        return found

    def picture(self, sha256: str) -> Image.Image:
        """An input that came with the job. Raises Unreadable."""
        content = read_artifact(self.data / "artifacts", sha256)
        if content is None:
            raise Unreadable("The picture that came with it is gone.", do="Send it again.")
        return Image.open(BytesIO(content), formats=("PNG",)).convert("RGB")


class Run(ABC):
    """One job under way."""

    def __init__(self, room: Room, row: Mapping[str, Any]):
        self.room, self.id, self.fence = room, str(row["id"]), int(row["fence"])
        self.spec: Mapping[str, Any] = row["spec"]
        self.uses = str(self.spec["model"])
        self.solo = bool(row["solo"])
        kind, model = str(self.spec.get("kind")), str(self.spec.get("model"))
        self.trace = Open("job", str(row.get("parent", "")), job=self.id, kind=kind, model=model)
        self.began, self.seconds, self.cancel_told = monotonic(), 0.0, False
        self.step = self.steps = 0

    def share(self, turn: Turn) -> float:
        """Its seconds of a turn of the engine."""
        return 0.0

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the engine has done with it."""

    @abstractmethod
    def cancel(self) -> None:
        """Give it up at the next step."""

    @abstractmethod
    def made(self) -> Made:
        """What it came to; may take a while, and needs no thread of its own. Raises what the job
        failed of."""

    def preview(self) -> bytes:
        """A small picture of what is to come, as PNG; empty for none."""
        return b""

    def spool(self) -> dict[str, Any] | None:
        """Write down where it is; None for what begins again instead."""
        return None


class PaintRun(Run):
    """A picture."""

    def __init__(self, room: Room, row: Mapping[str, Any]):
        super().__init__(room, row)
        spec = self.spec
        self.model = room.model(spec["model"], "paint")
        front = self.model.front
        assert isinstance(front, TextToImage)
        self.front = front
        init, mask = (
            None if spec.get(name) is None else room.picture(spec[name])
            for name in ("init", "mask")
        )
        self.request, self.recipe = order(
            front, spec["prompt"], negative_prompt=spec["negative_prompt"], seed=spec["seed"],
            steps=spec["steps"], guidance=spec["guidance"], solver=spec.get("solver"),
            init=init, mask=mask, strength=spec.get("strength"),
            width=spec["width"], height=spec["height"],
        )  # fmt: skip
        if spec.get("cut"):  # the web half has said so
            extras = replace(self.request.extras, reading=Reading(most=CHUNKS))
            self.request = replace(self.request, extras=extras)
        self.state: PaintState | None = None
        begun = self._resumed(row.get("checkpoint"))
        self.resumed_at = 0 if begun is None else begun.step
        self.job: Job = room.engine.paint(self.model.name, self.request, self._watch, begun)
        self.spooled = self.resumed_at

    def _resumed(self, checkpoint: Mapping[str, Any] | None) -> PaintState | None:
        """Where a worker before us was, if its bytes would be ours."""
        if not checkpoint or checkpoint.get("fingerprint") != self.model.fingerprint:
            return None
        try:
            path = self.room.data / "spool" / Path(str(checkpoint["file"])).name
            return read_state(path, self.front.networks, self.request)
        except Unreadable:
            return None

    def _watch(self, state: PaintState) -> None:
        self.state, self.step, self.steps = state, state.step, len(state.table)
        if not finite(state):
            self.job.error = NotFinite()

    def share(self, turn: Turn) -> float:
        return turn.seconds / len(turn.jobs) if self.job in turn.jobs else 0.0

    @property
    def done(self) -> bool:
        return self.job.done

    def cancel(self) -> None:
        self.job.cancel()

    def made(self) -> Made:
        pixels = self.job.result()[0]
        recipe: PictureRecipe = self.recipe
        result = {
            "generation_time": round(monotonic() - self.began, 4),
            "engine_seconds": round(self.seconds, 4),
            "fingerprint": self.model.fingerprint,
            "model_hash": recipe.model_hash,
            "width": recipe.width, "height": recipe.height,
            "resumed_at": self.resumed_at,
        }  # fmt: skip
        picture = Image.fromarray(pixels)
        if self.room.gate is not None and self.room.gate(picture):
            raise Moderated
        return Made(result, png_bytes(picture, recipe, marks=self.room.marks))

    def preview(self) -> bytes:
        if self.state is None or self.done:
            return b""
        name = self.model.name
        if name not in self.room.previews:
            self.room.previews[name] = fitted(self.front.networks)
        small = self.room.previews[name](self.state.solving.x)[0]
        content = BytesIO()
        Image.fromarray(small).save(content, format="png", compress_level=1)
        return content.getvalue()

    def spool(self) -> dict[str, Any] | None:
        state = self.state
        if state is None or self.done or not resumable(state) or state.step == self.spooled:
            return None
        name = f"{self.id}.{self.fence}.safetensors"
        write_state(self.room.data / "spool" / name, state)
        self.spooled = state.step
        return {"file": name, "fingerprint": self.model.fingerprint, "step": state.step}


class ReadRun(Run):
    """A picture becomes words: a task or question, or the next turn of a conversation."""

    def __init__(self, room: Room, row: Mapping[str, Any]):
        super().__init__(room, row)
        spec = self.spec
        self.model = room.model(spec["model"], "read")
        front = self.model.front
        assert isinstance(front, ImageToText)
        self.front = front
        self.text: Text = room.engine.read(self.model.name, self._ask(), self._watch)

    def _ask(self) -> Any:
        spec, networks = self.spec, self.front.networks
        most = int(spec.get("most") or 256)
        temperature = float(spec.get("temperature") or 0.0)
        sampled = {"temperature": temperature, "seed": int(spec.get("seed") or 0)}
        how = Decoding(most=most, **(sampled if temperature else {}))
        if spec["kind"] == "read":
            task = spec.get("task") or _asked(spec.get("question"))
            return networks.request(self.room.picture(spec["picture"]), task, how)
        turns = spec["turns"]
        pictures = [self.room.picture(sha) for turn in turns for sha in turn["pictures"]]
        if isinstance(networks, VLMNetworks):
            said = [chat.Turn(one["role"], one["text"], len(one["pictures"])) for one in turns]
            return networks.ask(pictures, said, how)
        if not pictures:
            raise InvalidValue("This model answers about pictures.", do="Send one with the words.")
        return networks.request(pictures[-1], _asked(turns[-1]["text"]), how)

    def _watch(self, piece: str) -> None:
        self.step += 1
        self.room.say(self.id, piece)

    def share(self, turn: Turn) -> float:
        return turn.seconds / max(turn.texts, 1) if turn.reader == self.model.name else 0.0

    @property
    def done(self) -> bool:
        return self.text.done

    def cancel(self) -> None:
        self.text.cancel()

    def made(self) -> Made:
        answer = self.front.networks.calibrated(self.text.answer())
        return Made({
            "text": answer.text, "confidence": answer.confidence, "score": answer.score,
            "finish": answer.finish, "tokens": len(answer.tokens),
            "processing_time": round(monotonic() - self.began, 4),
            "engine_seconds": round(self.seconds, 4), "fingerprint": self.model.fingerprint,
        })  # fmt: skip


class EmbedRun(Run):
    """Texts and pictures become vectors, in one turn."""

    def __init__(self, room: Room, row: Mapping[str, Any]):
        super().__init__(room, row)
        self.model = room.model(self.spec["model"], "embed")
        front = self.model.front
        assert isinstance(front, DualEncoder)
        texts, pictures = self.spec.get("texts") or [], self.spec.get("pictures") or []
        rows: list[np.ndarray] = []
        if texts:
            rows += list(front.networks.embed_texts(texts))
        if pictures:
            rows += list(front.networks.embed_pictures([room.picture(sha) for sha in pictures]))
        self.vectors = [[float(number) for number in row] for row in rows]
        self.seconds = monotonic() - self.began

    @property
    def done(self) -> bool:
        return True

    def cancel(self) -> None:
        """Nothing is left to give up."""

    def made(self) -> Made:
        return Made({
            "vectors": self.vectors, "processing_time": round(self.seconds, 4),
            "engine_seconds": round(self.seconds, 4), "fingerprint": self.model.fingerprint,
        })  # fmt: skip


RUNS: dict[str, type[Run]] = {
    "paint": PaintRun,
    "read": ReadRun,
    "chat": ReadRun,
    "embed": EmbedRun,
}


def begun(room: Room, row: Mapping[str, Any]) -> Run:
    """A claimed job in the engine. Raises DiptychError for what cannot be done."""
    kind = row["spec"].get("kind")
    if kind not in RUNS:
        raise InvalidValue(f"There is no work called {kind!r}.")
    return RUNS[kind](room, row)


def why(error: BaseException) -> tuple[str, str]:
    """The code of a failure and what people are told of it: never a path or a stack."""
    if isinstance(error, NotFinite) or "not finite" in str(error):
        return "not-finite", "The model gave something that is no picture."
    if isinstance(error, Moderated):
        return "moderated", "The picture is refused by the rules of this server."
    if out_of_memory(error):
        return "out-of-memory", "There is not enough memory for it. Ask for something smaller."
    if isinstance(error, DiptychError):
        return "refused", str(error)
    return "engine-error", "The engine failed at it."


def _asked(question: str | None) -> str:
    said = (question or "").strip()
    if not said:
        raise InvalidValue("The question is empty.", do='Ask, as "how many stars?".')
    return said if said.endswith(("?", ".", "!")) else f"{said}?"
