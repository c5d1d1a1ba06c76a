"""Scores with their intervals as a table of a page: `diptych eval ... --json` made readable."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

# key of an evaluation -> how it is said; others are said as they are written
LABELS: dict[str, str] = {
    "caption_exact": "captions",
    "answer_accuracy": "questions, all",
    "answer_accuracy_by_kind": "questions by kind",
    "read_exact": "reading",
    "prompt_correct": "prompts, all",
    "prompt_correct_by_kind": "prompts by kind",
    "text_to_picture_r1": "to picture, R@1",
    "text_to_picture_r5": "to picture, R@5",
    "picture_to_text_r1": "to words, R@1",
    "picture_to_text_r5": "to words, R@5",
    "text_to_picture_r1_by_caption": "words to picture, R@1, by caption",
}
_COLUMNS = (
    "<tr><th>what<th class=bar aria-hidden=true><th class=number>right"
    "<th class=number>95 % interval<th class='number n'>n</tr>"
)


def score_table(scores: Mapping[str, Any]) -> str:
    """All shares `{value, low, high, n}` of an evaluation; empty where it holds none."""
    rows: list[str] = []
    for key, score in scores.items():
        label = LABELS.get(key, key.replace("_", " "))
        if _is_share(score):
            rows.append(_row(label, score, "whole"))
        elif isinstance(score, Mapping) and any(map(_is_share, score.values())):
            rows.append(f'<tr class="head"><th colspan=5>{html.escape(label)}</tr>')
            rows += [_row(kind, one, "kind") for kind, one in score.items() if _is_share(one)]
    return f"<table><thead>{_COLUMNS}</thead><tbody>{''.join(rows)}</tbody></table>" if rows else ""


def _is_share(score: object) -> bool:
    return isinstance(score, Mapping) and {"value", "low", "high"} <= set(score)


def _row(label: str, score: Mapping[str, float], kind: str) -> str:
    value, low, high = (100 * score[key] for key in ("value", "low", "high"))
    bar = (
        f'<div><i style="width:{value:.1f}%"></i>'
        f'<b style="left:{low:.1f}%;width:{high - low:.1f}%"></b></div>'
    )
    return (
        f'<tr class="{kind}"><td>{html.escape(label)}<td class="bar" aria-hidden="true">{bar}'
        f'<td class="number">{value:.1f} %<td class="number">{low:.1f} to {high:.1f}'
        f'<td class="number n">{score.get("n", ""):}</tr>'
    )
