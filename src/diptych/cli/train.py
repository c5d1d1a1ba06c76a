"""Train a model by a recipe. Ctrl-C leaves a run that the same command goes on with.

    diptych train --list
    diptych train curve-flow
    diptych train curve-flow --run runs/wide --set model.width=256 training.learning_rate=1e-3

The run folder holds checkpoints, `log.jsonl`, `loss.png`, the probes' pictures, `run.json` and,
when all steps are made, the model. Values by --set are kept with the run: going on needs only
its name and folder.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diptych.cli.console import drawing
from diptych.foundation.config import from_json, to_json, with_changes
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.foundation.records import read_record
from diptych.recipes.table import RECIPES, Recipe, recipe_class

if TYPE_CHECKING:
    from diptych.training.plan import Outcome

INTERRUPTED = 130


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a recipe from --list")
    parser.add_argument("--run", type=Path, help="the run folder (default: runs/NAME)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, such as training.steps=500",
    )
    parser.add_argument("--steps", type=int, help="short for --set training.steps=N")
    parser.add_argument("--data", help="short for --set data=DIR, for recipes that read one")
    parser.add_argument("--list", action="store_true", help="show the recipes and leave")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run(args: Namespace) -> int:
    if args.list:
        _list(args.json)
        return 0
    if args.name is None:
        raise InvalidValue("Which recipe?", do="See `diptych train --list`.")
    folder: Path = args.run or Path("runs") / args.name
    recipe = _recipe(args, folder)

    from diptych.training.loop import train

    plan = recipe.build()
    with drawing(args.name, "step") as report:
        outcome = train(
            plan,
            folder,
            report=report,
            extra_record={"recipe": args.name, "config": to_json(recipe)},
        )
    if outcome.state == "finished":
        recipe.finish(plan, folder)
    _say(args.name, outcome, as_json=args.json)
    return INTERRUPTED if outcome.state == "interrupted" else 0


def _recipe(args: Namespace, folder: Path) -> Recipe:
    """The recipe as the run in the folder has it, or a fresh one, with the changes asked for."""
    kind = recipe_class(args.name)
    recipe = kind()
    if (folder / "checkpoints" / "latest").exists():
        try:
            record = read_record(folder)
        except NotFound:
            record = {}
        if record.get("recipe", args.name) != args.name:
            raise InvalidValue(
                f"{str(folder)!r} holds a run of {record['recipe']!r}.",
                do="Choose another folder by --run.",
            )
        if "config" in record:
            recipe = from_json(kind, record["config"])
    changes: list[str] = list(args.set)
    if args.steps is not None:
        changes.append(f"training.steps={args.steps}")
    if args.data is not None:
        changes.append(f"data={args.data}")
    return with_changes(recipe, changes)


def _list(as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: entry.line for name, entry in RECIPES.items()}))
        return
    wide = max(map(len, RECIPES))
    for name, entry in RECIPES.items():
        print(f"{name:<{wide}}  {entry.line}")


def _say(name: str, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**cast(dict[str, Any], asdict(outcome)), "run": str(outcome.run)}))
        return
    at = f"step {outcome.step} of {outcome.steps}"
    loss = "" if outcome.loss is None else f", loss {outcome.loss:.4g}"
    if outcome.state == "finished":
        print(f"Finished after {outcome.steps} steps and {outcome.seconds:.0f} s{loss}.")
        for probe, scores in outcome.scores.items():
            print(f"  {probe}: " + ", ".join(f"{key} {value}" for key, value in scores.items()))
        print(f"The model is in {outcome.run}; name this folder where a model is asked for.")
        return
    print(f"Stopped at {at}{loss}; all of it is saved.")
    print(f"Go on by: diptych train {name} --run {outcome.run}")
