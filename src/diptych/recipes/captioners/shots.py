"""What a captioner of pictures and texts in turns takes from the turns before."""

from __future__ import annotations

from pathlib import Path

import torch

from diptych.evaluation.scenes.reading import caption_is_exact
from diptych.foundation.randomness import stream
from diptych.models.captioners.flamingo import Flamingo
from diptych.recipes.captioners.sayings import said
from diptych.recipes.captioners.scores import captions
from diptych.recipes.captioners.seen import seen_of
from diptych.recipes.captioners.turns import opening, scenes_of
from diptych.recipes.scenes_words import marked, scenes_tokenizer

OPENINGS = ("", "there", "a picture of")
SHOTS = 2
_COUNT = 100  # pictures an opening


def shot_scores(network: Flamingo, eyes: Path) -> dict[str, float]:
    """Over the three openings and `_COUNT` held-out pictures each: the share of captions that open
    as wanted, without shots and behind two that do, and the share that are exact behind them."""
    seen, scenes = seen_of(eyes, "heldout"), scenes_of("heldout")
    alone: list[bool] = []
    behind: list[bool] = []
    exact: list[bool] = []
    for number, wanted in enumerate(OPENINGS):
        rows = list(range(number * _COUNT, (number + 1) * _COUNT))
        patches = seen.rows(("patches",), rows)["patches"]
        tokens, shown = _shots(wanted, number)
        shown_patches = seen_of(eyes, "train").rows(("patches",), shown)["patches"]
        media = torch.cat([shown_patches.expand(len(rows), -1, -1, -1), patches[:, None]], dim=1)
        before = torch.tensor([tokens]).expand(len(rows), -1)
        texts = captions(network, {"patches": media}, before)
        behind += [opening(text) == wanted for text in texts]
        exact += [caption_is_exact(t, scenes[r]) for t, r in zip(texts, rows, strict=True)]
        plain = captions(network, {"patches": patches})
        alone += [opening(text) == wanted for text in plain]
    return {
        "opening_alone": sum(alone) / len(alone),
        "opening_behind": sum(behind) / len(behind),
        "exact_behind": sum(exact) / len(exact),
    }


def _shots(wanted: str, number: int) -> tuple[list[int], list[int]]:
    """The tokens of `SHOTS` captions of train scenes that open like this, and those scenes."""
    tokens, shown, draw = [], [], stream(77, number)
    while len(shown) < SHOTS:
        scene = int(draw.random() * len(scenes_of("train")))
        text = said(scenes_of("train")[scene], draw)
        if opening(text) == wanted:
            tokens += marked(scenes_tokenizer(), text)
            shown.append(scene)
    return tokens, shown
