"""Image-to-text models of before conversations: a picture, perhaps a question, and words.

What tells them apart is a row of `WAYS`: where the picture's rows stand, what is written around a
question, and which words begin and end an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, Protocol
from uuid import uuid4

import torch
from PIL import Image
from torch import Tensor

from diptych.decoding.choices import Decoding
from diptych.decoding.constraints import Constraint
from diptych.decoding.slots import KVView
from diptych.foundation.errors import InvalidValue
from diptych.imaging.pixels import tiles_of
from diptych.imaging.plan import TokenPlan
from diptych.models.classic_decoder import ClassicDecoder
from diptych.models.decoder import Decoder
from diptych.models.inputs import PictureInputs, plan_of
from diptych.pipelines.calibration import Calibration, with_confidence
from diptych.pipelines.decoder_reading import DecoderReading
from diptych.pipelines.reading import Answer, Ask, Prompt, Rows
from diptych.text.hub_tokenizer import HubTokenizer

# Where what the network makes of a picture stands: what words look at besides; states before them,
# that all see one another and have no place; rows before them, each seeing those before it.
Standing = Literal["memory", "states", "rows"]
# Those that a folder's config names.
Tokens = Callable[[Mapping[str, Any]], tuple[int, ...]]


class Seeing(Protocol):
    """A network that sees and says."""

    @property
    def language(self) -> ClassicDecoder | Decoder:
        """What says words."""
        ...

    def opening(self, tiles: Tensor, *asked: Tensor | None) -> Tensor:
        """tiles [1, 3, S, S], a question [L] int64, and, of one whose Q-Former reads, the same in
        its words -> rows [1, M, D]"""
        ...

    def to(self, device: torch.device) -> Any:
        """As `nn.Module`."""
        ...


@dataclass(frozen=True)
class Way:
    """`tasks`: what is asked for a task. `question`: how a question is written, with `{}` for it;
    empty where none is answered. `within`: tokens around what is asked, which then goes where
    the picture goes; None where it stands before the answer. `begins` and `ends`: tokens of an
    answer, of the folder's config. `places`: as in `Manner`."""

    standing: Standing
    begins: Tokens
    ends: Tokens
    tasks: Mapping[str, str] = field(default_factory=lambda: {"caption": ""})
    question: str = ""
    within: tuple[Tokens, Tokens] | None = None
    places: str = ""


def told(*keys: str, usual: int, after: int = 0) -> Tokens:
    """The token that the config has under a path of keys, or the one so many `after` it."""

    def found(content: Mapping[str, Any]) -> tuple[int, ...]:
        at: Any = content
        for key in keys:
            at = at.get(key) if isinstance(at, Mapping) else None
        several = at if isinstance(at, list) else [usual if at is None else at]
        return tuple(int(one) + after for one in several)

    return found


def _nothing(content: Mapping[str, Any]) -> tuple[int, ...]:
    return ()


def _bart_begins(content: Mapping[str, Any]) -> tuple[int, ...]:
    """The start, and the word that must follow it, if the folder names one."""
    start = told("text_config", "decoder_start_token_id", usual=2)(content)
    sources = (content.get("generation"), content.get("text_config"))
    named = [(source or {}).get("forced_bos_token_id") for source in sources]
    return start + tuple(one for one in named if one is not None)[:1]


# Tokens that BLIP added to BERT's (Li et al., 2022; their code): an answer begins with the one, and
# with the next a text that looks at a picture.
_DECODE = ("text_config", "bos_token_id")
_BLIP_BEGINS = told(*_DECODE, usual=30_522)
_BLIP_ENDS = told("text_config", "sep_token_id", usual=102)
WAYS: dict[str, Way] = {
    "blip-captioner": Way("memory", _BLIP_BEGINS, _BLIP_ENDS),
    "blip-vqa": Way(
        "memory",
        _BLIP_BEGINS,
        _BLIP_ENDS,
        tasks={"caption": "what is in the picture?"},
        question="{}",
        within=(told(*_DECODE, usual=30_522, after=1), _BLIP_ENDS),
    ),
    # A question stands where a caption would begin, and the answer goes on.
    "git": Way("states", told("bos_token_id", usual=101), told("eos_token_id", usual=102),
               question="{}"),
    "vit-gpt2": Way(
        "memory",
        told("decoder_start_token_id", usual=50_256),
        told("eos_token_id", usual=50_256),
    ),
    # As their authors asked (Li et al., 2023, BLIP-2, section 4.1).
    "blip2-opt": Way(
        "rows",
        told("text_config", "bos_token_id", usual=2),
        told("text_config", "eos_token_id", usual=50_118),
        question="Question: {} Answer:",
    ),
    # Tasks are sentences (Xiao et al., 2024, appendix; their processor).
    "florence2": Way(
        "memory",
        _bart_begins,
        told("text_config", "eos_token_id", usual=2),
        tasks={
            "caption": "What does the image describe?",
            "describe": "Describe with a paragraph what is shown in the image.",
            "read": "What is the text in the image?",
        },
        question="{}",
        within=(
            told("text_config", "bos_token_id", usual=0),
            told("text_config", "eos_token_id", usual=2),
        ),
        places="florence2",
    ),
    # One of the sentences it was trained on (Dai et al., 2023, appendix C).
    "instructblip-vicuna": Way(
        "rows",
        told("text_config", "bos_token_id", usual=1),
        told("text_config", "eos_token_id", usual=2),
        tasks={"caption": "A short image description:"},
        question="{}",
    ),
    "instructblip-t5": Way(
        "memory",
        told("text_config", "decoder_start_token_id", usual=0),
        told("text_config", "eos_token_id", usual=1),
        tasks={"caption": "A short image description:"},
        question="{}",
        within=(_nothing, told("text_config", "eos_token_id", usual=1)),
    ),
    "blip2-t5": Way(
        "memory",
        told("text_config", "decoder_start_token_id", usual=0),
        told("text_config", "eos_token_id", usual=1),
        question="Question: {} Answer:",
        within=(_nothing, told("text_config", "eos_token_id", usual=1)),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClassicNetworks(DecoderReading):
    """In evaluation mode, on one device. A `Reading`."""

    network: Seeing
    tokenizer: HubTokenizer
    inputs: PictureInputs
    way: Way
    begins: tuple[int, ...]
    within: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    # Of a Q-Former that reads what is asked.
    former: HubTokenizer | None = None
    calibration: Calibration | None = None
    # Names these weights among the beginnings that a store keeps.
    identity: bytes = field(default_factory=lambda: uuid4().bytes)

    def read(self, rows: Tensor, places: Tensor, view: KVView) -> Tensor:
        """As `Reading`; what words look at besides is kept, and has no states."""
        decoder = self.decoder
        crosses = isinstance(decoder, ClassicDecoder) and decoder.config.memory > 0
        if isinstance(decoder, ClassicDecoder) and crosses and not view.causal:
            decoder.remember(rows, view)
            return rows
        return decoder.read(rows, places, view)

    def plan(self, picture: Image.Image) -> TokenPlan:
        """How a picture is seen."""
        return plan_of(picture.height, picture.width, self.inputs.spec)

    def request(self, picture: Image.Image, task: str, decoding: Decoding | None = None) -> Ask:
        """A task or question about one RGB picture. Raises InvalidValue for what this model does
        not do."""
        return self.ask(picture, self.asked(task), decoding or Decoding(most=64))

    @property
    def places(self) -> str:
        """How it says where things are, a name of `DIALECTS`, or nothing."""
        return self.way.places

    def seeking(self, picture: Image.Image, sentence: str, words: str, decoding: Decoding) -> Ask:
        """A request for the places of what `words` say; the sentence has `{}` for them."""
        text = sentence.format(self.tokenizer.plain(words))
        return self.ask(picture, self.tokenizer.bare(text), decoding)

    def asked(self, task: str) -> tuple[int, ...]:
        """Tokens of what is asked, bare. Raises InvalidValue for what this model does not do."""
        way = self.way
        if task in way.tasks:
            text = way.tasks[task]
        elif task in _TASKS or not way.question:
            offered = ", ".join([*way.tasks, *(["questions"] if way.question else [])])
            raise InvalidValue(
                f"This model was not trained for {task!r}.", do=f"It does: {offered}."
            )
        else:
            text = way.question.format(self.tokenizer.plain(task))
        return tuple(self.tokenizer.bare(text)) if text else ()

    @torch.inference_mode()
    def ask(
        self,
        picture: Image.Image,
        asked: Sequence[int],
        decoding: Decoding,
        *,
        constraint: Constraint | None = None,
    ) -> Ask:
        """A request with tokens of what is asked."""
        way = self.way
        within: tuple[int, ...] | None = None
        before = (*self.begins, *asked)
        if self.within is not None:
            within, before = (*self.within[0], *asked, *self.within[1]), self.begins
        read = None
        if self.former is not None:
            read = tuple(self.former.encode(self.tokenizer.decode(asked)))
        opening = self._opening(picture, within, read)
        # Rows have places of their own, which those of words follow.
        first = self.plan(picture).count() if way.standing == "rows" else 0
        prompt = Prompt(
            self._key(picture, within, read),
            opening,
            self.words(before, first),
            causal=way.standing == "rows",
        )
        return Ask(prompt, decoding, constraint)

    def calibrated(self, answer: Answer) -> Answer:
        """The answer with its confidence, if there is a calibration; none comes with published
        weights."""
        return with_confidence(answer, self.calibration)

    def _opening(
        self, picture: Image.Image, within: Sequence[int] | None, read: Sequence[int] | None
    ) -> Callable[[], Rows]:
        def made() -> Rows:
            tiles = torch.as_tensor(tiles_of(picture, self.plan(picture), self.inputs.pixels))
            given = [within] if read is None else [within, read]
            words = [
                None if one is None else torch.tensor(list(one), device=self.device)
                for one in given
            ]
            rows = self.network.opening(tiles.to(self.device, self.dtype), *words)[0]
            return _standing(rows, self.way.standing)

        return made

    def _key(
        self, picture: Image.Image, within: Sequence[int] | None, read: Sequence[int] | None
    ) -> bytes:
        told = repr((self.dtype, self.inputs, picture.size, within, read))
        return sha256(self.identity + told.encode() + picture.tobytes()).digest()


_TASKS = frozenset({"caption", "describe", "relate", "read"})


def _standing(rows: Tensor, standing: Standing) -> Rows:
    count = len(rows)
    if standing == "rows":
        return Rows(rows, torch.arange(count, device=rows.device), count)
    first = -1 if standing == "states" else 0
    return Rows(rows, torch.full((count,), first, device=rows.device), 0)
