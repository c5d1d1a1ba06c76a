"""`ImageToText`: pictures become words in one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

from diptych.decoding.choices import Decoding
from diptych.decoding.constraints import Choice
from diptych.decoding.grammar import json_schema
from diptych.decoding.prefixes import PrefixStore
from diptych.foundation.errors import InvalidValue
from diptych.foundation.memory import keep_freed_memory
from diptych.imaging.pictures import read_picture, upright_rgb
from diptych.pipelines.asking import answered
from diptych.pipelines.calibration import calibration_of, check_abstain, sure
from diptych.pipelines.classic_networks import ClassicNetworks
from diptych.pipelines.device import device_of, dtype_of
from diptych.pipelines.explaining import explained
from diptych.pipelines.folders import read_image_to_text
from diptych.pipelines.grounding import DIALECTS, Grounded, grounded
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.reader_files import is_published_reader, read_published_reader
from diptych.pipelines.reading import Answer
from diptych.pipelines.reference import folder_of
from diptych.pipelines.scoring import Scored, scored
from diptych.pipelines.vlm_networks import MOST_ROWS, VLMNetworks
from diptych.text.chat import Turn

if TYPE_CHECKING:
    import torch

    from diptych.checkpoints.account import LoadReport

Picture = Image.Image | str | Path
Watch = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class ImageToText:
    """A model that reads pictures. Threads may share it; what it keeps between calls are the
    beginnings of `store`, which change no answer: a second question about a picture does not look
    at it again."""

    networks: ImageToTextNetworks | VLMNetworks | ClassicNetworks
    name: str
    report: LoadReport | None = None
    store: PrefixStore = field(default_factory=PrefixStore)

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        allow: Sequence[str] = (),
        pack: bool = True,
        offline: bool = False,
        calibration: str | Path | bool = True,
    ) -> ImageToText:
        """A shipped name, a folder or a hub id.

        The device is the best there is; the dtype (float32, bfloat16, float16) what fits it:
        float32 on a CPU. `allow`: tensors without a place that are accepted. `pack` lays a
        published decoder's weights for speed, once more in memory. `offline`: a hub id is one that
        was downloaded before. `calibration`: the one in the folder, none (False), or a file of
        `diptych calibrate`. Raises NotFound, Unreadable, InvalidValue.
        """
        keep_freed_memory()
        place = device_of(device)
        kind = dtype_of(dtype, place)
        folder, name = folder_of(reference, offline=offline), Path(reference).name
        fitted = calibration_of(folder, calibration)
        if is_published_reader(folder):
            packs = pack and place.type == "cpu"
            networks, report = read_published_reader(folder, kind, allow=tuple(allow), pack=packs)
            if place.type != "cpu":
                networks.network.to(place)
            return cls(replace(networks, calibration=fitted), name, report)
        own = read_image_to_text(folder)
        own.reader.to(place, kind)
        return cls(
            replace(own, calibration=fitted or (own.calibration if calibration else None)), name
        )

    def caption(self, picture: Picture, decoding: Decoding | None = None) -> Answer:
        """What is there, in one sentence."""
        return self._one(picture, "caption", decoding)

    def describe(self, picture: Picture, decoding: Decoding | None = None) -> Answer:
        """Everything by size, fill, color, shape and place."""
        return self._one(picture, "describe", decoding)

    def read(self, picture: Picture, decoding: Decoding | None = None) -> Answer:
        """What is written in the picture; empty where nothing is."""
        return self._one(picture, "read", decoding)

    @overload
    def answer(
        self, picture: Picture, question: str, decoding: Decoding | None = None, *,
        explain: bool = False, abstain: None = None,
    ) -> Answer: ...  # fmt: skip

    @overload
    def answer(
        self, picture: Picture, question: str, decoding: Decoding | None = None, *,
        explain: bool = False, abstain: float,
    ) -> Answer | None: ...  # fmt: skip

    def answer(
        self, picture: Picture, question: str, decoding: Decoding | None = None, *,
        explain: bool = False, abstain: float | None = None,
    ) -> Answer | None:  # fmt: skip
        """The answer to a question. `abstain`: None in place of one whose confidence is less.
        `explain`: with the `map` of what it rests on (`pipelines.explaining`). Raises InvalidValue
        for words the model does not know, and for `abstain` without a calibration."""
        check_abstain(abstain, self.networks.calibration, self.name)
        shown, task = _opened(picture), _question(question)
        found = self.respond([shown], [task], decoding)[0]
        if explain:
            found = replace(found, map=explained(self.networks, shown, task, found))
        return found if sure(found, abstain) else None

    def answers(
        self, picture: Picture, questions: Sequence[str], decoding: Decoding | None = None
    ) -> list[Answer]:
        """Answers to many questions about one picture, which is looked at once."""
        shown = _opened(picture)
        tasks = [_question(question) for question in questions]
        return self.respond([shown] * len(tasks), tasks, decoding)

    def respond(
        self,
        pictures: Sequence[Picture],
        tasks: Sequence[str],
        decoding: Decoding | None = None,
        *,
        exact: bool = True,
    ) -> list[Answer]:
        """A task (`caption`, `describe`, `relate`, `read`) or question for each picture. `exact`:
        each answer has the bits it has alone; else all share calls as they come, which is faster
        and equal but for rounding."""
        asks = [
            self.networks.request(_opened(picture), task, decoding)
            for picture, task in zip(pictures, tasks, strict=True)
        ]
        found = answered(self.networks, asks, store=self.store, exact=exact)
        return [self.networks.calibrated(answer) for answer in found]

    def chat(
        self,
        turns: Sequence[Turn],
        pictures: Sequence[Picture] = (),
        decoding: Decoding | None = None,
        *,
        watch: Watch | None = None,
        max_visual_tokens: int = MOST_ROWS,
    ) -> Answer:
        """The next turn of a conversation; each turn shows so many of the pictures, in order.
        `watch` is called with each piece of text that is final. Raises InvalidValue for a model
        that does not converse."""
        networks = self.networks
        if not isinstance(networks, VLMNetworks):
            raise InvalidValue(
                f"{self.name} answers single questions.", do="Ask with answer(picture, question)."
            )
        shown = [_opened(picture) for picture in pictures]
        how = decoding or Decoding(most=512)
        ask = networks.ask(shown, turns, how, most_rows=max_visual_tokens)
        return answered(networks, [ask], store=self.store, watch=watch)[0]

    def choose(self, picture: Picture, question: str, choices: Sequence[str]) -> list[Scored]:
        """Each choice with the probability that the model gives just it, of all choices; the best
        first. Raises InvalidValue for none, or for two alike."""
        if len(set(choices)) != len(choices) or not choices or not all(choices):
            raise InvalidValue(f"The choices {list(choices)} are none, empty or alike.")
        ask = self.networks.request(_opened(picture), _question(question))
        networks = self.networks
        encode = (
            networks.tokenizer.bare
            if isinstance(networks, ClassicNetworks)
            else networks.tokenizer.encode
        )
        words = [tuple(encode(choice)) for choice in choices]
        rule = Choice(tuple(words), self.networks.ends)
        logs = scored(self.networks, ask.prompt, rule, self.store)
        total = sum(exp(log) for log in logs)
        found = [
            Scored(choice, exp(log) / total if total else 0.0, log)
            for choice, log in zip(choices, logs, strict=True)
        ]
        return sorted(found, key=lambda one: -one.logprob)

    def ground(
        self, picture: Picture, words: str, decoding: Decoding | None = None
    ) -> list[Grounded]:
        """Where what the words say is, in pixels of the original picture, in the model's order;
        empty where it names no place. Raises InvalidValue for no words, and for a model that was
        not trained for it."""
        networks = self.networks
        places = "" if isinstance(networks, ImageToTextNetworks) else networks.places
        if isinstance(networks, ImageToTextNetworks) or not places:
            raise InvalidValue(
                f"{self.name} does not say where things are.",
                do=f"Families that do: {', '.join(DIALECTS)}.",
            )
        if not words.strip():
            raise InvalidValue("There are no words to find.", do='Say what, as "a red circle".')
        shown, dialect = _opened(picture), DIALECTS[places]
        how = decoding or Decoding(most=512)
        ask = networks.seeking(shown, dialect.ask, words.strip(), how)
        answer = answered(networks, [ask], store=self.store)[0]
        text = networks.tokenizer.decode_all(answer.tokens)
        return grounded(text, dialect, networks.plan(shown))

    def extract(
        self,
        picture: Picture,
        schema: Mapping[str, Any] | str,
        question: str = "Describe this picture as JSON.",
        decoding: Decoding | None = None,
    ) -> Any:
        """What the picture shows as JSON by a schema. Raises InvalidValue for a model that cannot
        be held to one, a schema that cannot be used, and an answer longer than `decoding.most`
        (512 tokens)."""
        networks = self.networks
        if not isinstance(networks, VLMNetworks):
            raise InvalidValue(
                f"{self.name} answers in words of its own.", do="Name a published model."
            )
        rule = json_schema(schema, networks.grammar_words())
        turn = Turn("user", _question(question), pictures=1)
        how = decoding or Decoding(most=512)
        ask = networks.ask([_opened(picture)], [turn], how, constraint=rule)
        answer = answered(networks, [ask], store=self.store)[0]
        try:
            return json.loads(answer.text)
        except ValueError as error:
            raise InvalidValue(
                f"After {len(answer.tokens)} tokens the JSON is not whole: {answer.text[-60:]!r}.",
                do="Allow more: Decoding(most=...), --max-tokens.",
            ) from error

    def _one(self, picture: Picture, task: str, decoding: Decoding | None) -> Answer:
        return self.respond([picture], [task], decoding)[0]


def _opened(picture: Picture) -> Image.Image:
    return upright_rgb(picture) if isinstance(picture, Image.Image) else read_picture(picture)


def _question(question: str) -> str:
    asked = question.strip()
    if not asked:
        raise InvalidValue("The question is empty.", do='Ask, as "how many stars?".')
    return asked if asked.endswith(("?", ".", "!")) else f"{asked}?"
