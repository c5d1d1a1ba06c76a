"""How well a model reads scenes: captions, questions of every kind, words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes.captions import grouped
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import holds
from diptych.data.scenes.questions import KINDS, ask
from diptych.data.scenes.render import render
from diptych.data.scenes.world import Scene, World
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress, Report, silent
from diptych.foundation.randomness import stream
from diptych.metrics.calibration import expected_calibration_error, platt
from diptych.pipelines.calibration import Calibration
from diptych.pipelines.image_to_text import ImageToTextNetworks, respond
from diptych.pipelines.reading import Answer

_ROWS = 50


@dataclass(frozen=True)
class Asked:
    """One thing asked of one scene, and what the model said."""

    kind: str
    task: str
    scene: Scene
    wanted: str
    said: Answer
    right: bool


def asked_of(
    networks: ImageToTextNetworks,
    split: str,
    *,
    seed: int,
    captions: int,
    each: int,
    report: Report = silent,
) -> list[Asked]:
    """`captions` captions, and `each` questions of every kind and words to `read`, of a split.

    A caption is right when it names every thing by number, color and shape, and all else it says
    (sizes, fills, relations, the word, the background) is true.
    """
    size = networks.image_size
    world = World(split=split, size=size, words=0.4)
    waiting: list[tuple[str, str, Scene, str]] = []
    for index in range(captions):
        waiting.append(("caption", "caption", world.scene(seed, index), ""))
    counts = dict.fromkeys((*KINDS, "word"), 0)
    index = captions
    while min(counts.values()) < each:
        scene = world.scene(seed, index)
        draw = stream(seed, 2, index)
        for kind in KINDS:
            question = ask(scene, draw, kind, split) if counts[kind] < each else None
            if question is not None:
                counts[kind] += 1
                waiting.append((kind, question.text, scene, question.answer))
        if scene.word is not None and counts["word"] < each:
            counts["word"] += 1
            waiting.append(("word", "read", scene, scene.word.text))
        index += 1
    return _answered(networks, waiting, size, report)


def _answered(
    networks: ImageToTextNetworks,
    waiting: list[tuple[str, str, Scene, str]],
    size: int,
    report: Report,
) -> list[Asked]:
    done: list[Asked] = []
    for start in range(0, len(waiting), _ROWS):
        part = waiting[start : start + _ROWS]
        pictures: list[NDArray[np.uint8]] = [render(scene, size) for _, _, scene, _ in part]
        answers = respond(networks, pictures, [task for _, task, _, _ in part])
        for (kind, task, scene, wanted), said in zip(part, answers, strict=True):
            right = caption_is_exact(said.text, scene) if kind == "caption" else said.text == wanted
            done.append(Asked(kind, task, scene, wanted, said, right))
        report(Progress(len(done), len(waiting), "captions and questions"))
    return done


def caption_is_exact(text: str, scene: Scene) -> bool:
    """Whether a caption states the whole inventory, and nothing that is not so."""
    try:
        claims = parse(text)
    except InvalidValue:
        return False
    stated = {(group.color, group.shape): group.count for group in claims.groups}
    there = {(things[0].color, things[0].shape): len(things) for things in grouped(scene)}
    word = scene.word.text if scene.word else None
    return stated == there and claims.word == word and holds(claims, scene).right


def reading_scores(
    networks: ImageToTextNetworks, split: str, *, seed: int, captions: int, each: int
) -> dict[str, float]:
    """The share that is right: `caption`, each kind of question, `word`, and `answers` of all."""
    asked = asked_of(networks, split, seed=seed, captions=captions, each=each)

    def share(some: list[Asked]) -> float:
        return float(np.mean([one.right for one in some]))

    scores = {
        kind: share([a for a in asked if a.kind == kind]) for kind in ("caption", *KINDS, "word")
    }
    return scores | {"answers": share([a for a in asked if a.kind in KINDS])}


def calibrated(networks: ImageToTextNetworks, *, seed: int = 6) -> ImageToTextNetworks:
    """The same networks with a calibration fitted on the `tune` split; its error is measured on
    other scenes of that split."""
    fitted_on = asked_of(networks, "tune", seed=seed, captions=150, each=50)
    tried_on = asked_of(networks, "tune", seed=seed + 1, captions=150, each=50)
    slope, offset = platt([a.said.score for a in fitted_on], [a.right for a in fitted_on])
    draft = Calibration(slope, offset, 0.0, len(fitted_on))
    confidences = [draft.confidence(a.said.score) for a in tried_on]
    error = expected_calibration_error(confidences, [a.right for a in tried_on])
    return replace(networks, calibration=replace(draft, error=error))
