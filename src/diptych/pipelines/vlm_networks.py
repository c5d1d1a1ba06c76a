"""A vision-language model with its words and its way to see: a conversation with pictures becomes
rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from uuid import uuid4

import torch
from PIL import Image
from torch import Tensor

from diptych.decoding.choices import Decoding
from diptych.decoding.constraints import Constraint
from diptych.decoding.grammar import words_of
from diptych.foundation.errors import InvalidValue
from diptych.imaging.pixels import tiles_of
from diptych.imaging.plan import TokenPlan
from diptych.models.inputs import PictureInputs, plan_of
from diptych.models.qwen_vl.network import QwenVL
from diptych.models.vlm import VLM
from diptych.pipelines.calibration import Calibration, with_confidence
from diptych.pipelines.decoder_reading import DecoderReading
from diptych.pipelines.reading import Answer, Ask, Prompt, Rows
from diptych.text.chat import TEMPLATES, Turn, written
from diptych.text.hub_tokenizer import HubTokenizer

MOST_ROWS = 1280  # of a picture, unless more are asked for

# What is asked for a task; other words are a question.
_TASKS = {
    "caption": "Describe this picture in one short sentence.",
    "describe": "Describe this picture in detail.",
    "relate": "How are the things in this picture placed to one another?",
    "read": "Read the text in this picture. Answer with the text alone.",
}


@dataclass(frozen=True)
class Manner:
    """How a family writes: a named template where the folder has none, and what stands around a
    picture's rows; `places`: a name of `DIALECTS` where it was trained to say where things are."""

    template: str
    before: str = ""
    after: str = ""
    places: str = ""


MANNERS: dict[str, Manner] = {
    "llava": Manner("vicuna"),
    "llava_next": Manner("mistral"),
    "llava_onevision": Manner("chatml"),
    "idefics3": Manner("smolvlm"),
    "smolvlm": Manner("smolvlm"),
    "internvl": Manner("chatml", "<img>", "</img>"),
    "paligemma": Manner("paligemma", places="paligemma"),
    "qwen2_vl": Manner("qwen", places="qwen2_vl"),
    "qwen2_5_vl": Manner("qwen", places="qwen2_5_vl"),
}


@dataclass(frozen=True, eq=False)
class VLMNetworks(DecoderReading):
    """In evaluation mode, on one device. A `Reading`."""

    network: VLM | QwenVL
    tokenizer: HubTokenizer
    inputs: PictureInputs
    manner: Manner
    calibration: Calibration | None = None
    # Names these weights among the beginnings that a store keeps.
    identity: bytes = field(default_factory=lambda: uuid4().bytes)

    def plan(self, picture: Image.Image, most_rows: int = MOST_ROWS) -> TokenPlan:
        """How a picture is seen with up to `most_rows` rows. Raises InvalidValue where it cannot
        be with so few."""
        spec = replace(self.inputs.spec, max_visual_tokens=most_rows)
        return plan_of(picture.height, picture.width, spec)

    def request(self, picture: Image.Image, task: str, decoding: Decoding | None = None) -> Ask:
        """A task (`caption`, `describe`, `relate`, `read`) or question about one picture."""
        turn = Turn("user", _TASKS.get(task, task), pictures=1)
        return self.ask([picture], [turn], decoding or Decoding(most=256))

    def sights(self, picture: Image.Image, task: str) -> tuple[Tensor, TokenPlan]:
        """Of a prompt of `request`: which rows [N] are the picture's, and how it is seen."""
        plan = self.plan(picture)
        tokens = self._tokens([Turn("user", _TASKS.get(task, task), pictures=1)], [plan])
        return (torch.tensor(tokens) == self.network.config.picture_token).nonzero()[:, 0], plan

    def whole(self, rows: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """A whole text at once: rows [B, N, D] at places [B, N] or [B, N, 3], mask [1, 1, N, N]
        (True: may look) -> states [B, N, D]"""
        return self.network.language(rows, places, mask=mask)

    @property
    def places(self) -> str:
        """How it says where things are, a name of `DIALECTS`, or nothing."""
        return self.manner.places

    def seeking(self, picture: Image.Image, sentence: str, words: str, decoding: Decoding) -> Ask:
        """A request for the places of what `words` say; the sentence has `{}` for them."""
        turn = Turn("user", sentence.format(words), pictures=1)
        return self.ask([picture], [turn], decoding)

    def grammar_words(self) -> Any:
        """What `decoding.grammar` is told of this model. Raises InvalidValue, MissingExtra."""
        size = self.network.config.language.vocabulary
        return words_of(self.tokenizer.tokenizer.to_str(), size, self.ends)

    def calibrated(self, answer: Answer) -> Answer:
        """The answer with its confidence, if there is a calibration; none comes with published
        weights."""
        return with_confidence(answer, self.calibration)

    @torch.inference_mode()
    def ask(
        self,
        pictures: Sequence[Image.Image],
        turns: Sequence[Turn],
        decoding: Decoding,
        *,
        constraint: Constraint | None = None,
        most_rows: int = MOST_ROWS,
    ) -> Ask:
        """RGB pictures in the order of the turns that show them. Raises InvalidValue where they are
        not as many as the turns show."""
        shown = sum(turn.pictures for turn in turns)
        if shown != len(pictures):
            raise InvalidValue(f"The turns show {shown} pictures, and {len(pictures)} are given.")
        plans = [self.plan(picture, most_rows) for picture in pictures]
        tokens = self._tokens(turns, plans)
        word = self.network.config.picture_token
        found = tokens.count(word)
        wanted = sum(plan.count() for plan in plans)
        if found != wanted:
            raise InvalidValue(
                f"The prompt has {found} places for {wanted} rows of {len(plans)} pictures.",
                do="The chat template shows pictures in another way than the model does.",
            )
        if self.network.config.sees_all:
            rest = self._rows(tokens, pictures, plans)
            return Ask(Prompt(b"", _nothing, rest, sees_all=True), decoding, constraint)
        last = max((i + 1 for i, token in enumerate(tokens) if token == word), default=0)
        if last == len(tokens):
            raise InvalidValue("Nothing follows the picture.", do="The chat template is broken.")
        before = tokens[:last]
        _, first = self.network.places(before, plans)
        prompt = Prompt(
            self._key(before, pictures, most_rows) if pictures else b"",
            lambda: self._rows(before, pictures, plans),
            self.words(tokens[last:], first),
        )
        return Ask(prompt, decoding, constraint)

    def _tokens(self, turns: Sequence[Turn], plans: Sequence[TokenPlan]) -> list[int]:
        """The conversation, each picture as many words as it has rows."""
        word, known = self.tokenizer.word(self.network.config.picture_token), self.tokenizer
        template = known.template or TEMPLATES[self.manner.template]
        words = {"bos_token": known.bos, "eos_token": known.word(known.ends[0]), "picture": word}
        text = written(template, turns, words=words, special=(*known.special, word))
        parts = text.split(word)
        if len(parts) - 1 != len(plans):
            raise InvalidValue(
                f"The chat template shows {len(parts) - 1} of {len(plans)} pictures.",
                do="It is not this model's.",
            )
        shown = [f"{self.manner.before}{plan.text(word)}{self.manner.after}" for plan in plans]
        return known.encode("".join(a + b for a, b in zip(parts, [*shown, ""], strict=True)))

    def _rows(
        self, tokens: Sequence[int], pictures: Sequence[Image.Image], plans: Sequence[TokenPlan]
    ) -> Rows:
        ids = torch.tensor(list(tokens), dtype=torch.int64, device=self.device)
        rows = self.embed(ids)
        if pictures:
            seen = [self._seen(*one) for one in zip(pictures, plans, strict=True)]
            places = (ids == self.network.config.picture_token).nonzero()[:, 0]
            rows = rows.index_copy(0, places, torch.cat(seen).to(rows.dtype))
        where, following = self.network.places(tokens, plans)
        return Rows(rows, where.to(self.device), following)

    def _seen(self, picture: Image.Image, plan: TokenPlan) -> Tensor:
        tiles = torch.as_tensor(tiles_of(picture, plan, self.inputs.pixels))
        return self.network.see(tiles, plan)

    def _key(self, tokens: Sequence[int], pictures: Sequence[Image.Image], most_rows: int) -> bytes:
        told = repr((self.dtype, self.inputs, most_rows, list(tokens)))
        digest = sha256(self.identity + told.encode())
        for picture in pictures:
            digest.update(repr(picture.size).encode() + picture.tobytes())
        return digest.digest()


def _nothing() -> Rows:
    raise RuntimeError("this prompt has no prefix")
