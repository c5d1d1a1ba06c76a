"""Writes docs/captioners.md from docs/captioners.json, which `benchmarks.captioners` gathers.

python -m benchmarks.captioners_page
"""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

from diptych.foundation.files import write_whole

DOCS = Path(__file__).parents[1] / "docs"
SCORES = DOCS / "captioners.json"
PAGE = DOCS / "captioners.md"
# 95 % of Student's t with two degrees of freedom lie within: three seeds.
STUDENT = {2: 12.706, 3: 4.303}


_BOXES = ("boxes", "boxes_of_one_picture")


class Line(NamedTuple):
    """How an architecture is called, when it was, and how it looks."""

    title: str
    year: int
    looks: str


LINES: dict[str, Line] = {
    "show-and-tell": Line("Show and Tell", 2015, "the mean of a grid, as an LSTM's first word"),
    "show-attend-tell": Line("Show, Attend and Tell", 2015, "at a grid, anew before each word"),
    "bottom-up-top-down": Line("Bottom-up, top-down", 2018, "at the boxes of a detector"),
    "self-critical": Line("the same, self-critical", 2017, "as before; CIDEr-D is its reward"),
    "vit-gpt2": Line("ViT and GPT-2", 2021, "at patches, by cross-attention in every block"),
    "sim-vlm": Line("SimVLM", 2021, "a prefix LM reads a grid as it reads words"),
    "ofa": Line("OFA", 2022, "the same; places are words too"),
    "clip-cap": Line("ClipCap", 2021, "one CLIP vector, as ten words before the caption"),
    "linear-bridge": Line("Linear bridge", 2023, "at patches through one matrix; words frozen"),
    "flamingo": Line("Flamingo", 2022, "at a resampler's rows, through gates; words frozen"),
}  # fmt: skip

OPENING = Path(__file__).with_suffix(".md")
MATCHERS: dict[str, Line] = {
    "vilbert": Line("ViLBERT", 2019, "words and boxes in two streams that look at each other"),
    "uniter": Line("UNITER", 2020, "words and boxes in one stream"),
}


def page(scores: dict[str, Any]) -> str:
    """The whole document."""
    names = [name for name in LINES if _seeds(scores, name)]
    heads = (
        "captioner", "looks", "exact, %", "CIDEr-D", "BLEU-4", "blind: exact, CIDEr-D",
        "other's picture: CIDEr-D", "weights, thousands", "CPU minutes",
    )  # fmt: skip
    rows = [heads, tuple("---" for _ in heads), *(_row(scores, name) for name in names)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    steps = scores[names[0]]["blind"]["steps"]
    opening = OPENING.read_text().format(
        count=len(names), blind=steps, seeds=_of_seeds(scores, names)
    )
    parts = (
        _shared(scores),
        _attention(scores),
        _critical(scores),
        _flamingo(scores),
        _boxes(scores),
    )
    return f"{opening}\n{table}{''.join(parts)}"


def _of_seeds(scores: dict[str, Any], names: list[str]) -> str:
    """How far the figures may be trusted, and what is still to be trained."""
    seeds = min(len(_seeds(scores, name)) for name in names)
    rest = [line.title for name, line in (LINES | MATCHERS).items() if not _seeds(scores, name)]
    said = (
        "Means over seeds with the 95 % interval of Student's t."
        if seeds > 1
        else "So far of one seed, so without an interval."
    )
    return said + (f" Not trained yet: {', '.join(rest)}." if rest else "")


def _row(scores: dict[str, Any], name: str) -> tuple[str, ...]:
    line, runs = LINES[name], _seeds(scores, name)
    # What goes on from another run has its blind one.
    blind = scores.get(name, {}).get("blind") or scores["bottom-up-top-down"]["blind"]
    blind = blind["blind"]
    first = runs[0]
    trained = "" if first["trained"] == first["parameters"] else f"{first['trained'] / 1e3:.0f} of "
    return (
        f"{line.title}, {line.year}", line.looks,
        _interval([100 * run["own"]["exact"] for run in runs], 1),
        _interval([run["own"]["cider"] for run in runs], 2),
        f"{_mean([run['own']['bleu'] for run in runs]):.2f}",
        f"{100 * blind['exact']:.1f}, {blind['cider']:.2f}",
        f"{_mean([run['shuffled']['cider'] for run in runs]):.2f}",
        f"{trained}{first['parameters'] / 1e3:.0f}",
        _minutes(runs),
    )  # fmt: skip


def _shared(scores: dict[str, Any]) -> str:
    eyes, words = scores["eyes"]["0"], scores["words"]["0"]
    found = eyes["probes"]["heldout"]
    return (
        f"\nCPU minutes are the longest run's, user and system. Beside them all, once: the eyes "
        f"{eyes['cpu_seconds'] / 60:.1f} minutes ({100 * found['found']:.1f} % of held-out things "
        f"found, {100 * found['right']:.1f} % with shape, color and size right), the words "
        f"{words['cpu_seconds'] / 60:.1f}. Self-critical training begins where bottom-up, top-down "
        "ended; its minutes come on top.\n\n"
        "![Held-out scenes and what each captioner says of them](captioners/said.png)\n"
    )


def _attention(scores: dict[str, Any]) -> str:
    said = []
    for name in ("show-attend-tell", "bottom-up-top-down"):
        looks = [run["attention"] for run in _seeds(scores, name)]
        if looks:
            mass, area = (100 * _mean([one[key] for one in looks]) for key in ("mass", "area"))
            said.append(f"{LINES[name].title}: {mass:.0f} % (by chance {area:.0f} %).")
    return (
        "\n## Where they look\n\nAttention on the box of a thing at the word of its shape, over the"
        f" exact captions of the held-out set. {' '.join(said)}\n\n"
        "![Attention of Show, Attend and Tell, word by word](captioners/attention.png)\n"
    )


def _critical(scores: dict[str, Any]) -> str:
    begun, gone = (_seeds(scores, name) for name in ("bottom-up-top-down", "self-critical"))
    if not gone:
        return ""
    pairs = "; ".join(
        f"{a['own']['cider']:.2f} to {b['own']['cider']:.2f}"
        for a, b in zip(begun, gone, strict=False)
    )
    return (
        "\n## Rewarded\n\nSelf-critical training draws a caption and rewards it by how much better "
        "its CIDEr-D is than that of the most likely one. Held-out CIDEr-D, seed by seed: "
        f"{pairs}. Steps and rate were chosen on `tune`.\n"
    )


def _flamingo(scores: dict[str, Any]) -> str:
    runs = _seeds(scores, "flamingo")
    if not runs:
        return ""
    gates = [gate for run in runs for gate in run["gates"]]
    shots = [run["shots"] for run in runs]

    def percent(key: str) -> str:
        return f"{100 * _mean([one[key] for one in shots]):.0f} %"

    return (
        "\n## Gates and turns\n\nFlamingo's gates are closed when training begins, and the language"
        f" model stays as it was. After it they are open by {min(gates):.2f} to {max(gates):.2f} "
        "(|tanh|; all layers, all seeds). It has learned from pictures and captions in turns that "
        "open alike. Behind two such pairs of picture and caption "
        f"{percent('opening_behind')} of its captions open as those do, without them "
        f"{percent('opening_alone')}; {percent('exact_behind')} are exact behind them.\n"
    )


def _boxes(scores: dict[str, Any]) -> str:
    runs = _seeds(scores, "ofa")
    if not runs:
        return ""
    own, one = (_mean([run[key]["overlap"] for run in runs]) for key in _BOXES)
    found = 100 * _mean([run["boxes"]["found"] for run in runs])
    return (
        "\n## Places as words\n\nAsked for the box of a thing by color and shape, OFA says four "
        f"location words. On held-out scenes the box overlaps the thing's by {own:.2f} "
        f"(intersection over union; {one:.2f} with the same picture for all), in {found:.0f} % by "
        "half or more.\n"
    )


def _matchers(scores: dict[str, Any]) -> str:
    heads = (
        "network", "looks", "area under the curve", "blind", "other's picture",
        "weights, thousands", "CPU minutes",
    )  # fmt: skip
    rows = [heads, tuple("---" for _ in heads)]
    for name, line in MATCHERS.items():
        runs = _seeds(scores, name)
        if runs:
            rows.append((
                f"{line.title}, {line.year}", line.looks,
                _interval([run["own"]["auc"] for run in runs], 3),
                f"{scores[name]['blind']['blind']['auc']:.3f}",
                f"{_mean([run['shuffled']['auc'] for run in runs]):.3f}",
                f"{runs[0]['parameters'] / 1e3:.0f}", _minutes(runs),
            ))  # fmt: skip
    if len(rows) == 2:
        return ""
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return (
        "\n## Does it belong?\n\nTwo of their time judge captions and write none. Of a true text "
        "and a false one of each held-out scene (half of the false ones are of another scene, half "
        "the scene's own with one color or shape changed) the true one should score higher.\n\n"
        f"{table}"
    )


def _minutes(runs: list[dict[str, Any]]) -> str:
    return f"{max(run['cpu_seconds'] for run in runs) / 60:.1f}"


def _seeds(scores: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [run for key, run in sorted(scores.get(name, {}).items()) if key != "blind"]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _interval(values: list[float], digits: int) -> str:
    """mean ± half of the interval, or the one value."""
    mean = _mean(values)
    if len(values) not in STUDENT:
        return f"{mean:.{digits}f}"
    spread = sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = STUDENT[len(values)] * spread / sqrt(len(values))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def write_page() -> None:
    """docs/captioners.md, as the kept scores say."""
    write_whole(PAGE, page(json.loads(SCORES.read_text())))


if __name__ == "__main__":
    write_page()
