"""What the shipped models do: words to pictures, pictures back to words, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from diptych.data.scenes.claims import Claims
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import Verdict, judge
from diptych.foundation.progress import Progress, Report, silent
from diptych.imaging.pictures import to_square
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.reader_front import ImageToText

PROMPTS = (
    "a large red circle",
    "a small blue heart",
    "a large green star",
    "a medium orange square",
    "two large purple diamonds",
    "two small yellow triangles",
    "a large red circle above a small blue square",
    "a black moon left of a pink cross",
    "a green triangle below an orange circle",
    "a cyan square to the right of a brown heart",
    "a large striped blue circle",
    "two red hearts",
)


@dataclass(frozen=True)
class Shown:
    """A prompt, its picture, what the reader says of it, what the judge says."""

    prompt: str
    picture: Image.Image
    caption: str
    question: str
    answer: str
    verdict: Verdict


def show(
    painter: TextToImage,
    reader: ImageToText,
    prompts: Sequence[str],
    *,
    seed: int = 1,
    report: Report = silent,
) -> list[Shown]:
    """Paint each prompt from its own seed, caption it, ask about it, judge it."""
    claims = [parse(prompt) for prompt in prompts]
    pictures = painter(list(prompts), seed=seed, report=report)
    assert isinstance(pictures, list)
    questions = [_question(claim) for claim in claims]
    captions = reader.respond(pictures, ["caption"] * len(pictures))
    answers = reader.respond(pictures, questions)
    report(Progress(painter.sampling.steps, painter.sampling.steps, "read and judged"))
    return [
        Shown(prompt, picture, caption.text, question, answer.text, judge(pixels, claim))
        for prompt, claim, picture, pixels, caption, question, answer in zip(
            prompts,
            claims,
            pictures,
            [to_square(picture, painter.size[0]) for picture in pictures],
            captions,
            questions,
            answers,
            strict=True,
        )
    ]


def _question(claims: Claims) -> str:
    group = claims.groups[0]
    if group.count > 1 or group.shape is None:
        return "how many objects are there?"
    return f"what color is the {group.shape}?"
