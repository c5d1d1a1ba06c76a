"""Draws the pictures of docs/captioners.md from the runs of `benchmarks.captioners`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.checkpoints.folder import load_network
from diptych.data.scenes.render import render
from diptych.evaluation.scenes.reading import caption_is_exact
from diptych.models.captioners.show_attend_tell import ShowAttendTell
from diptych.recipes.captioners.looking import attention
from diptych.recipes.captioners.sayings import SETS, WORLD

SHOWN = 4  # scenes, the first of the held-out set with two things or more
LOOKED = 2
_INK, _GOOD, _BAD, _PAPER = (40, 44, 52), (26, 127, 55), (190, 50, 40), (250, 250, 248)


def draw_pictures(runs: Path, folder: Path) -> None:
    """said.png and attention.png, of the first seed."""
    folder.mkdir(parents=True, exist_ok=True)
    several = [i for i in range(40) if len(SETS["heldout"].scene(i).things) > 1]
    _said(runs, several[:SHOWN]).quantize(128).save(folder / "said.png", optimize=True)
    _looks(runs, several[:LOOKED]).quantize(128).save(folder / "attention.png", optimize=True)


def _said(runs: Path, numbers: list[int]) -> Image.Image:
    """A scene a row, what each captioner says of it beside it, green where it is exact."""
    kept = {p.parent.name: json.loads(p.read_text()) for p in sorted(runs.glob("*-0/scores.json"))}
    # Not of the blind, and some only judge what others say.
    texts = {name.removesuffix("-0"): one["said"] for name, one in kept.items() if "said" in one}
    font, tall = ImageFont.load_default(12), max(136, 17 * len(texts) + 8)
    page = Image.new("RGB", (860, tall * len(numbers) + 8), _PAPER)
    pen = ImageDraw.Draw(page)
    for row, number in enumerate(numbers):
        scene, top = SETS["heldout"].scene(number), row * tall + 8
        page.paste(_large(render(scene, WORLD.size), 128), (8, top))
        for line, (name, said) in enumerate(texts.items()):
            right = caption_is_exact(said[number], scene)
            place = (148, top + 17 * line)
            pen.text(place, name, _INK, font)
            pen.text((290, place[1]), said[number], _GOOD if right else _BAD, font)
    return page


def _looks(runs: Path, numbers: list[int]) -> Image.Image:
    """A scene a row; the caption word by word, the picture as bright as it is looked at."""
    run, eyes = runs / "show-attend-tell-0", runs / "eyes" / "seen"
    network = load_network(run, ShowAttendTell)
    said = json.loads((run / "scores.json").read_text())["said"]
    font, side = ImageFont.load_default(12), 72
    most = max(len(said[number].replace(",", " ,").split()) for number in numbers)
    page = Image.new("RGB", ((side + 8) * (most + 1) + 8, (side + 28) * len(numbers) + 8), _PAPER)
    pen = ImageDraw.Draw(page)
    for row, number in enumerate(numbers):
        top = row * (side + 28) + 8
        picture = _large(render(SETS["heldout"].scene(number), WORLD.size), side)
        page.paste(picture, (8, top))
        words = said[number].replace(",", " ,").split()
        for place, alpha in enumerate(attention(network, eyes, number, said[number])[: len(words)]):
            across = round(len(alpha) ** 0.5)
            seen = (alpha / alpha.max()).reshape(across, across).numpy()
            light = Image.fromarray((255 * (0.15 + 0.85 * seen)).astype(np.uint8))
            light = light.resize((side, side), Image.Resampling.BICUBIC)
            left = (place + 1) * (side + 8) + 8
            page.paste(Image.composite(picture, Image.new("RGB", picture.size), light), (left, top))
            pen.text((left, top + side + 3), words[place], _INK, font)
    return page


def _large(pixels: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
