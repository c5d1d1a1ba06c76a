"""Trains every captioner of its time on scenes, three seeds each, beside one that sees always the
same picture, and writes docs/captioners.md.

    python -m benchmarks.captioners [--page] [NAME ...]

Resumable: a run is a folder in runs/captioners with its own checkpoints, and is done when its
scores.json is there. One after the other on one thread; the first line says how long it takes. The
scores are gathered into docs/captioners.json, from which `benchmarks.captioners_page` writes the
page; the pictures are drawn from the runs of the first seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.captioners_page import DOCS, SCORES, write_page
from benchmarks.captioners_pictures import draw_pictures
from diptych.cli.console import drawing
from diptych.foundation.config import to_json, with_changes
from diptych.foundation.files import write_whole
from diptych.recipes.captioners.looking import attention_on_things
from diptych.recipes.captioners.pointing import box_overlap
from diptych.recipes.captioners.scores import Said, scored
from diptych.recipes.captioners.shots import shot_scores
from diptych.recipes.table import recipe_class
from diptych.training.loop import train
from diptych.training.plan import Plan

RUNS = Path("runs/captioners")
SEEDS = (0, 1, 2)
BLIND_STEPS = 400  # a network without a picture has nothing more to learn from then on
MINUTES = 3.0  # what a run is thought to take until one has

Measure = Callable[[Any, Path, Said], dict[str, Any]]


def looked(network: Any, eyes: Path, said: Said) -> dict[str, Any]:
    """Attention on the named thing."""
    return {"attention": attention_on_things(network, eyes, said)}


def gated(network: Any, eyes: Path, said: Said) -> dict[str, Any]:
    """How far the gates are open, and what shots before do."""
    return {"gates": network.gates, "shots": shot_scores(network, eyes)}


def pointed(network: Any, eyes: Path, said: Said) -> dict[str, Any]:
    """Boxes of what is named, with its picture and with always the same."""
    return {
        "boxes": box_overlap(network, eyes),
        "boxes_of_one_picture": box_overlap(network, eyes, blind=True),
    }


# What is measured of some beside the scores of all.
MEASURES: dict[str, Measure] = {
    "show-attend-tell": looked,
    "bottom-up-top-down": looked,
    "self-critical": looked,
    "flamingo": gated,
    "ofa": pointed,
}
NAMES = (
    "show-and-tell", "show-attend-tell", "bottom-up-top-down", "self-critical", "vit-gpt2",
    "clip-cap", "flamingo", "sim-vlm", "ofa", "uniter", "vilbert", "linear-bridge",
)  # fmt: skip

MATCHERS = ("uniter", "vilbert")  # they judge captions and write none


@dataclass(frozen=True)
class Job:
    """One training: of the shared parts (no seed), of a captioner, or of a blind one."""

    name: str
    seed: int = 0
    shared: bool = False
    blind: bool = False

    @property
    def folder(self) -> Path:
        """Where it runs."""
        if self.shared:
            return RUNS / self.name
        return RUNS / f"{self.name}-{'blind-' if self.blind else ''}{self.seed}"

    @property
    def changes(self) -> list[str]:
        """Of the recipe."""
        if self.shared:
            return []
        made = [f"eyes={RUNS / 'eyes'}", f"words={RUNS / 'words'}", f"training.seed={self.seed}"]
        if self.blind:
            made += ["blind=true", f"training.steps={BLIND_STEPS}"]
        if self.name == "self-critical":
            made.append(f"start={RUNS / f'bottom-up-top-down-{self.seed}'}")
        return made

    @property
    def scores(self) -> Path:
        """What says that it is done."""
        return self.folder / "scores.json"


def jobs(names: tuple[str, ...]) -> list[Job]:
    """The shared parts first; then all captioners with the first seed, so that there is something
    to look at early. What begins from a run comes behind it."""
    made = [Job("eyes", shared=True), Job("words", shared=True)]
    for seed in SEEDS:
        for name in names:
            made.append(Job(name, seed))
            if seed == 0 and name != "self-critical":
                made.append(Job(name, seed, blind=True))
    return made


def run(job: Job, note: str) -> None:
    """Train, or go on; measure; write down."""
    recipe = with_changes(recipe_class(f"captioner-{job.name}")(), job.changes)
    plan = recipe.build()
    with drawing(f"{job.folder.name} {note}", "step") as report:
        record = {"recipe": f"captioner-{job.name}", "config": to_json(recipe)}
        outcome = train(plan, job.folder, report=report, extra_record=record)
    if outcome.state != "finished":
        raise SystemExit(f"Stopped in {job.folder}; the same command goes on.")
    recipe.finish(plan, job.folder)
    kept = {
        "cpu_seconds": outcome.cpu_seconds,
        "steps": outcome.steps,
        "parameters": sum(p.numel() for p in plan.model.parameters()),
        "trained": sum(p.numel() for p in plan.model.parameters() if p.requires_grad),
        "probes": outcome.scores,
        **({} if job.shared else measured(job, plan)),
    }
    write_whole(job.scores, json.dumps(kept, indent=1) + "\n")


def measured(job: Job, plan: Plan) -> dict[str, Any]:
    """All scores of a captioner on the held-out set."""
    network, eyes = cast(Any, plan.model).eval(), RUNS / "eyes" / "seen"
    judged = recipe_class(f"captioner-{job.name}").judged  # pyright: ignore[reportAttributeAccessIssue]
    if job.blind:
        return {"blind": judged(network, eyes, "heldout", "same")}
    if job.name in MATCHERS:
        kinds = ("own", "shuffled")
        return {kind: judged(network, eyes, "heldout", kind) for kind in kinds}
    own, said = scored(network, eyes, "heldout")
    shuffled, _ = scored(network, eyes, "heldout", pictures="shuffled")
    more = MEASURES[job.name](network, eyes, said) if job.name in MEASURES else {}
    return {"own": own, "shuffled": shuffled, "said": said.texts[:40], **more}


def gather(made: list[Job]) -> dict[str, Any]:
    """All scores that are there: {name: {run: scores}}, without the texts."""
    kept: dict[str, Any] = {}
    for job in made:
        if job.scores.exists():
            one = json.loads(job.scores.read_text())
            one.pop("said", None)
            kept.setdefault(job.name, {})["blind" if job.blind else str(job.seed)] = one
    return kept


def train_all(names: tuple[str, ...]) -> None:
    """What of these is not done yet."""
    waiting = [job for job in jobs(names) if not job.scores.exists()]
    times: list[float] = []
    for number, job in enumerate(waiting):
        each = sum(times) / len(times) if times else 60 * MINUTES
        left = each * (len(waiting) - number) / 60
        print(f"{number} of {len(waiting)} done, about {left:.0f} minutes left", flush=True)
        began = time.monotonic()
        run(job, f"({number + 1}/{len(waiting)})")
        times.append(time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the captioners of their time.")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="only these")
    parser.add_argument("--page", action="store_true", help="train nothing, write what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.page:
        train_all(tuple(args.names) or NAMES)
    write_whole(SCORES, json.dumps(gather(jobs(NAMES)), indent=1) + "\n")
    draw_pictures(RUNS, DOCS / "captioners")
    write_page()


if __name__ == "__main__":
    main()
