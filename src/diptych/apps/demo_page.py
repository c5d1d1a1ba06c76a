"""One page that shows what the shipped models do and how good they are.

Everything is inside the one file: pictures as data URLs, curves as SVG, no script, no network.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from diptych.apps.curve_svg import curve_svg
from diptych.apps.demo import Shown
from diptych.apps.score_table import score_table
from diptych.foundation.files import write_whole
from diptych.imaging.recipe import png_bytes
from diptych.training.log import read


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """What stands beside a model's weights: `card` its text, `log` the lines of its training,
    `scores` what `diptych eval --json` printed. Empty where it is not there."""

    name: str
    card: str
    log: Sequence[dict[str, Any]]
    scores: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> ModelRecord:
        """Read `card.md`, `log.jsonl` and `scores.json` of a model folder."""
        card, scores = folder / "card.md", folder / "scores.json"
        return cls(
            name=folder.name,
            card=card.read_text() if card.exists() else "",
            log=list(read(folder)),
            scores=json.loads(scores.read_text()) if scores.exists() else {},
        )


def write_page(
    path: Path, shown: Sequence[Shown], models: Sequence[ModelRecord], *, steps: int
) -> None:
    """Write the page; `steps` is how many made each picture. Raises NotWritten."""
    page = Template(_PAGE).substitute(
        style=_STYLE,
        right=sum(one.verdict.right for one in shown),
        total=len(shown),
        figures="\n".join(map(_figure, shown)),
        models="\n".join(map(_model, sorted(models, key=_rows, reverse=True))),
        steps=steps,
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
        f'<figure class="picture {"good" if one.verdict.right else "bad"}">'
        f"<h3>{html.escape(one.prompt)}</h3>"
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(one.prompt)}">'
        f"<figcaption><p>{html.escape(one.caption) or '&nbsp;'}</p>"
        f"<p><em>{html.escape(one.question)}</em> {html.escape(one.answer)}</p>"
        f"<details><summary>{mark}</summary><ul>{parts}</ul></details></figcaption></figure>"
    )


def _rows(model: ModelRecord) -> int:
    """How tall it stands on the page: the tallest first lets the columns end alike."""
    return score_table(model.scores).count("<tr")


def _model(model: ModelRecord) -> str:
    curve, table = curve_svg(model.log), score_table(model.scores)
    split = html.escape(str(model.scores.get("split", "")))
    parts = [
        f"<h3>{html.escape(model.name)}</h3>",
        curve and f"<figure>{curve}<figcaption>Loss of its training.</figcaption></figure>",
        table and f"{table}<p class=soft>Of the split {split}.</p>",
        f"<details><summary>Its card</summary><pre>{html.escape(model.card)}</pre></details>",
    ]
    return f'<section class="model">{"".join(parts)}</section>'


_STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --paper: #fbfaf7; --card: #fff; --soft: #6b7280;
  --line: #8883; --good: #1a7f37; --bad: #b3372b; --mark: #1f4e8c; --pale: #a9c1de; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #15171a; --card: #1f2328;
  --soft: #9aa3ad; --good: #5fce7f; --bad: #ff8a7a; --mark: #8ab8f0; --pale: #3d5a80; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { font-weight: 600; letter-spacing: -.02em; margin: 0; }
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .6rem; }
.lead, .soft, summary, figcaption { color: var(--soft); }
.soft, .model figcaption { font-size: .85rem; margin: .4rem 0 0; }
.pictures, .models { gap: 1.2rem; margin: 1.5rem 0 2.5rem; }
.pictures { display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); }
.models { columns: 2 26rem; }
.picture, .model { margin: 0; padding: 1rem; background: var(--card); border-radius: .7rem;
  box-shadow: 0 1px 3px #0002; min-width: 0; }
.model { break-inside: avoid; overflow-x: auto; margin-bottom: 1.2rem; }
.picture { border-top: 3px solid var(--bad); }
.picture.good { border-top-color: var(--good); }
.picture h3 { min-height: 3rem; }
.picture figcaption { color: inherit; }
.picture figcaption p { margin: .5rem 0 0; }
em { color: var(--soft); }
img { width: 100%; image-rendering: pixelated; border-radius: .3rem; display: block;
  outline: 1px solid var(--line); }
ul { list-style: none; padding: 0; margin: .3rem 0 0; font-size: .85rem; }
li::before { content: "\\2713 "; color: var(--good); }
li.no::before { content: "\\2717 "; color: var(--bad); }
.model figure { margin: 0 0 1rem; }
.curve { width: 100%; height: auto; display: block; }
.curve text { font-size: 12px; fill: var(--soft); }
.curve path { fill: none; stroke-linejoin: round; }
.curve .grid { stroke: var(--line); }
.curve .raw { stroke: var(--pale); }
.curve .mean { stroke: var(--mark); stroke-width: 2; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
th { text-align: left; font-weight: 400; color: var(--soft); padding: .25rem .3rem; }
td { padding: .2rem .3rem; border-top: 1px solid var(--line); }
.head th { padding-top: .8rem; }
.kind td:first-child { padding-left: 1rem; }
.whole td { font-weight: 600; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:first-child { white-space: nowrap; }
td.bar { width: 30%; }
.bar div { position: relative; height: .6rem; background: var(--line); border-radius: .3rem; }
.bar i, .bar b { position: absolute; left: 0; height: 100%; border-radius: .3rem; }
.bar i { background: var(--pale); }
.bar b { background: var(--mark); height: 2px; top: calc(50% - 1px); }
details { margin-top: .8rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; margin: .6rem 0 0; }
@media (max-width: 34rem) { td.bar { width: 20%; } .n { display: none; }
  .pictures { grid-template-columns: 1fr 1fr; gap: .7rem; }
  .picture { padding: .7rem; font-size: .85rem; } .picture h3 { font-size: inherit; } }
"""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Diptych</title>
<style>$style</style>
<h1>Diptych</h1>
<p class="lead">Words became these pictures in $steps steps each; then the pictures became words
again. An exact judge, which knows no network, finds $right of $total fully right.</p>
<main class="pictures">
$figures
</main>
<h2>The models</h2>
<p class="lead">Scores are shares of what is right on combinations never trained on. The thin bar
is the 95 % interval. <code>diptych eval scenes</code> prints them again.</p>
<div class="models">
$models
</div>
</html>
"""
