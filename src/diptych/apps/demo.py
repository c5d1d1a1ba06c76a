"""One page that shows what the shipped models do: words to pictures, pictures back to words.

Everything is inside the one file: pictures as data URLs, no script, no network.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from PIL import Image

from diptych.data.scenes.claims import Claims
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import Verdict, judge
from diptych.foundation.files import write_whole
from diptych.foundation.progress import Progress, Report, silent
from diptych.imaging.pictures import to_square
from diptych.imaging.recipe import png_bytes
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
            [to_square(picture, painter.size) for picture in pictures],
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


def write_page(path: Path, shown: Sequence[Shown], painter: TextToImage, cards: str) -> None:
    """Write the page; `cards` is text about the models. Raises NotWritten."""
    right = sum(one.verdict.right for one in shown)
    page = Template(_PAGE).substitute(
        cards=html.escape(cards),
        right=right,
        total=len(shown),
        figures="\n".join(_figure(one) for one in shown),
        steps=painter.sampling.steps,
    )
    write_whole(path, page)


def _figure(one: Shown) -> str:
    data = base64.b64encode(png_bytes(one.picture, one.picture.info["recipe"])).decode()
    parts = "".join(
        f'<li class="{"yes" if part.holds else "no"}">{html.escape(part.text)}</li>'
        for part in one.verdict.parts
    )
    mark = "right" if one.verdict.right else "not right"
    return (
        f'<figure class="{"good" if one.verdict.right else "bad"}">'
        f"<h2>{html.escape(one.prompt)}</h2>"
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(one.prompt)}">'
        f"<figcaption><p>{html.escape(one.caption) or '&nbsp;'}</p>"
        f"<p><em>{html.escape(one.question)}</em> {html.escape(one.answer)}</p>"
        f"<details><summary>{mark}</summary><ul>{parts}</ul></details></figcaption></figure>"
    )


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Diptych</title>
<style>
:root { color-scheme: light dark; --ink: #24292f; --paper: #fbfaf7; --card: #fff; --soft: #6b7280;
  --good: #1a7f37; --bad: #b3372b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #15171a; --card: #1f2328;
  --soft: #9aa3ad; --good: #5fce7f; --bad: #ff8a7a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-weight: 600; letter-spacing: -.02em; margin: 0; }
.lead, summary { color: var(--soft); }
main { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr));
  margin: 2rem 0; }
figure { margin: 0; padding: 1rem; background: var(--card); border-radius: .7rem;
  box-shadow: 0 1px 3px #0002; border-top: 3px solid var(--bad); }
figure.good { border-top-color: var(--good); }
h2 { font-size: 1rem; font-weight: 600; margin: 0 0 .6rem; min-height: 3rem; }
img { width: 100%; image-rendering: pixelated; border-radius: .3rem; display: block;
  outline: 1px solid #8883; }
figcaption p { margin: .5rem 0 0; } em { color: var(--soft); }
ul { list-style: none; padding: 0; margin: .3rem 0 0; font-size: .85rem; }
li::before { content: "\\2713 "; color: var(--good); }
li.no::before { content: "\\2717 "; color: var(--bad); }
pre { white-space: pre-wrap; font-size: .85rem; background: var(--card); padding: 1rem;
  border-radius: .7rem; overflow-x: auto; }
</style>
<h1>Diptych</h1>
<p class="lead">Words became these pictures in $steps steps each; then the pictures became words
again. An exact judge, which knows no network, finds $right of $total fully right.</p>
<main>
$figures
</main>
<details><summary>About the models</summary><pre>$cards</pre></details>
</html>
"""
