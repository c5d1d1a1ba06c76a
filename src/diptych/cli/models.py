"""List what there is: shipped models, networks, recipes; or tell about one.

diptych models
diptych models scenes-t2i
diptych models mmdit --json
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

# section of the list -> what stands above it
SECTIONS: dict[str, str] = {
    "shipped": "Shipped models, ready to use",
    "networks": "Networks, with the parameters of their usual size",
    "recipes": "Recipes, for `diptych train NAME`",
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="the model, network or recipe to tell about")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: Namespace) -> int:
    if args.name is None:
        listed = _listed()
        print(json.dumps(listed, indent=2) if args.json else _sections(listed))
        return 0
    about = _about(args.name)
    if args.json:
        print(json.dumps(about, indent=2))
        return 0
    print(about.get("card", about["line"]).rstrip())
    if "config" in about:
        print(f"\n{json.dumps(about['config'], indent=2)}")
    return 0


def _listed() -> dict[str, list[dict[str, Any]]]:
    """Section -> rows, each with `name` and `line`; networks also with `parameters`."""
    from diptych.models.table import MODELS
    from diptych.pipelines.reference import SHIPPED
    from diptych.recipes.table import RECIPES

    return {
        "shipped": [{"name": name, "line": line} for name, line in SHIPPED.items()],
        "networks": [_network(name) for name in MODELS],
        "recipes": [{"name": name, "line": entry.line} for name, entry in RECIPES.items()],
    }


def _network(name: str) -> dict[str, Any]:
    import torch

    from diptych.models.table import MODELS

    with torch.device("meta"):  # sizes without memory
        network = MODELS[name].build(MODELS[name].config())
    said = (type(network).__doc__ or "").partition(".")[0]
    count = sum(parameter.numel() for parameter in network.parameters())
    return {"name": name, "line": said[:1].lower() + said[1:], "parameters": count}


def _about(name: str) -> dict[str, Any]:
    """`section`, `name`, `line` and what there is of `card`, `parameters`, `config`.

    Raises NotFound.
    """
    from diptych.foundation.config import to_json
    from diptych.foundation.errors import unknown
    from diptych.models.table import MODELS
    from diptych.pipelines.reference import SHIPPED, shipped_folder
    from diptych.recipes.table import RECIPES, recipe_class

    if name in SHIPPED:  # a recipe may have the same name: the card tells of it
        card = (shipped_folder(name) / "card.md").read_text()
        return {"section": "shipped", "name": name, "line": SHIPPED[name], "card": card}
    if name in MODELS:
        return {
            "section": "networks",
            **_network(name),
            "config": to_json(MODELS[name].config()),
        }
    if name in RECIPES:
        config = to_json(recipe_class(name)())
        return {"section": "recipes", "name": name, "line": RECIPES[name].line, "config": config}
    raise unknown("model, network or recipe", name, {*SHIPPED, *MODELS, *RECIPES})


def _sections(listed: dict[str, list[dict[str, Any]]]) -> str:
    wide = max(len(row["name"]) for rows in listed.values() for row in rows)
    lines: list[str] = []
    for section, title in SECTIONS.items():
        lines.append(f"{title}:")
        for row in listed[section]:
            count = f"  {row['parameters'] / 1e6:4.1f} M" if "parameters" in row else ""
            lines.append(_hanging(f"  {row['name']:<{wide}}{count}  ", row["line"]))
        lines.append("")
    return "\n".join([*lines, "More about one: diptych models NAME"])


def _hanging(start: str, text: str) -> str:
    from shutil import get_terminal_size
    from textwrap import fill

    width = max(get_terminal_size().columns, len(start) + 20)
    return fill(text, width, initial_indent=start, subsequent_indent=" " * len(start))
