"""List what there is: shipped models, networks, recipes; or tell about one.

diptych models
diptych models scenes-t2i
diptych models mmdit --json
diptych models inspect model.safetensors
diptych models inspect lora.safetensors --base model.safetensors
diptych models convert model.safetensors --to folder -o model
diptych models add photos=paint:sdxl.safetensors --data state
diptych models remove photos --data state
diptych models served --data state
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

# section of the list -> what stands above it
SECTIONS: dict[str, str] = {
    "shipped": "Shipped models, ready to use",
    "networks": "Networks, with the parameters of their usual size",
    "recipes": "Recipes, for `diptych train NAME`",
}


SERVER = ("add", "remove", "served")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?",
        help="a model, network or recipe to tell about; inspect; convert; add, remove or served, "
        "of the models of a server",
    )  # fmt: skip
    parser.add_argument(
        "path", nargs="?",
        help="with inspect and convert: a file or folder; with add: NAME=USE:PLACE, USE being "
        "paint, read or embed; with remove: a name",
    )  # fmt: skip
    parser.add_argument("--data", metavar="DIR", default="", help="the server's folder")
    parser.add_argument("--variant", metavar="NAME", default="", help="weights of a kind, as fp16")
    parser.add_argument("--base", metavar="MODEL", help="the model that an adapter is to change")
    parser.add_argument("-o", "--output", metavar="PATH", help="with convert: the new file, folder")
    parser.add_argument(
        "--to", choices=("folder", "file"), help="with convert: a published folder, or one file"
    )
    parser.add_argument("--dtype", help="with --to: float32, bfloat16 or float16 (as it is)")
    parser.add_argument(
        "--shard-size", metavar="SIZE", help="with --to folder: 5GB, at most a file"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: Namespace) -> int:
    if args.name in SERVER:
        return _of_server(args)
    if args.name == "convert":
        return _convert(args)
    if args.name == "inspect":
        return _inspect(args)
    if any((args.path, args.variant, args.base, args.output, *_conversion(args))):
        from diptych.foundation.errors import InvalidValue

        raise InvalidValue(
            "A path and its options belong to inspect or convert.",
            do="diptych models inspect PATH",
        )
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


def _of_server(args: Namespace) -> int:
    """The registry of a server, which it reads when it begins."""
    from diptych.foundation.errors import InvalidValue
    from diptych.service import registry

    data = Path(args.data or "diptych-data")
    if args.name != "served" and not args.path:
        raise InvalidValue(f"`diptych models {args.name}` needs a name.", do="See --help.")
    if args.name == "add":
        name, entry = registry.entry_of(args.path)
        registry.add(data, name, entry)
    elif args.name == "remove":
        registry.remove(data, args.path)
    found = registry.registered(data)
    if args.json:
        print(json.dumps({name: entry._asdict() for name, entry in found.items()}, indent=2))
        return 0
    for name, entry in {**registry.SHIPPED, **found}.items():
        print(f"{name:<16}  {entry.use:<5}  {entry.place}")
    if args.name != "served":
        print("The server knows it when it is begun the next time.")
    return 0


def _convert(args: Namespace) -> int:
    """A pickle made into safetensors, and what is in it."""
    from diptych.checkpoints.convert import convert
    from diptych.foundation.errors import DiptychError, InvalidValue

    if not args.path:
        raise InvalidValue("There is no path.", do="diptych models convert model.ckpt")
    if args.to:
        return _convert_to(args)
    if args.variant or any(_conversion(args)):
        raise InvalidValue("--variant, --dtype and --shard-size go with --to.", do="--to folder")
    out = Path(args.output or Path(args.path).with_suffix(".safetensors"))
    made = convert(Path(args.path), out)
    if args.json:
        print(json.dumps({"file": str(made.path), "tensors": made.tensors, "left": made.left}))
        return 0
    print(f"{made.path}: {made.tensors} tensors")
    if made.left:
        some = ", ".join(made.left[:5]) + (", ..." if len(made.left) > 5 else "")
        print(f"  left out {len(made.left)} that are no tensors: {some}")
    try:
        print(_accounts(made.path))
    except DiptychError as error:  # it is written all the same: not all weights are a model's
        print(f"  not known as a model: {error}")
    return 0


def _conversion(args: Namespace) -> tuple[str | None, ...]:
    return args.to, args.dtype, args.shard_size


def _convert_to(args: Namespace) -> int:
    """A model in another layout, and what is in it."""
    from diptych.checkpoints.write import write_file_of
    from diptych.checkpoints.write_folder import write_folder
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.device import device_of, dtype_of

    source = Path(args.path)
    dtype = dtype_of(args.dtype, device_of("cpu")) if args.dtype else None
    if not args.output:
        raise InvalidValue("There is no place for it.", do=f"Name one: --to {args.to} -o PATH.")
    out = Path(args.output)
    if args.to == "file":
        if args.shard_size:
            raise InvalidValue("--shard-size cuts a folder's files.", do="Leave it out.")
        write_file_of(source, out, dtype, variant=args.variant)
    else:
        shard = args.shard_size and _bytes(args.shard_size)
        write_folder(source, out, dtype, variant=args.variant, shard=shard)
    print(json.dumps({"path": str(out)}) if args.json else f"{out}\n{_accounts(out)}")
    return 0


def _bytes(said: str) -> int:
    """`5GB`, `500MB` or bytes. Raises InvalidValue."""
    from diptych.foundation.errors import InvalidValue

    units = {"GB": 10**9, "MB": 10**6, "": 1}
    unit = next(unit for unit in units if said.upper().endswith(unit))
    number = said[: len(said) - len(unit)].strip()
    if not number.isdecimal():
        raise InvalidValue(f"--shard-size {said!r} is no size.", do="Give one as 5GB or 500MB.")
    return int(number) * units[unit]


def _accounts(path: Path) -> str:
    """What `inspect` says of a file, adapter or model. Raises DiptychError."""
    from diptych.checkpoints.adapters.inspect import inspected
    from diptych.checkpoints.load import found_in

    adapter = inspected(path, None)
    reports = [one.report for one in found_in(path)] if adapter is None else [adapter]
    return "\n\n".join(map(_told, reports))


def _inspect(args: Namespace) -> int:
    """What is in a file or folder, without reading a tensor; ends with 4 if it does not fit."""
    from dataclasses import asdict

    from diptych.checkpoints.adapters.inspect import inspected
    from diptych.checkpoints.load import found_in
    from diptych.foundation.errors import InvalidValue

    if not args.path:
        raise InvalidValue("There is no path.", do="diptych models inspect model.safetensors")
    base = None if args.base is None else found_in(Path(args.base), variant=args.variant)
    adapter = inspected(Path(args.path), base)
    if base is not None and adapter is None:
        raise InvalidValue(f"{args.path!r} is no adapter.", do="Leave --base out.")
    found = [] if adapter is not None else found_in(Path(args.path), variant=args.variant)
    reports = [adapter] if adapter is not None else [one.report for one in found]
    if args.json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        print("\n\n".join(_told(report) for report in reports))
    return 4 if any(report.problems for report in reports) else 0


def _told(report: Any) -> str:
    lines = [
        f"{report.component}: {report.family}, layout {report.layout}, "
        f"{report.parameters / 1e6:,.1f} M parameters, {', '.join(report.dtypes)}",
    ]
    for name in ("kinds", "targets"):
        if said := getattr(report, name, None):
            lines.append(f"  {name}: " + ", ".join(f"{n} x {key}" for key, n in said.items()))
    if ranks := getattr(report, "ranks", ()):
        lines.append("  ranks: " + ", ".join(map(str, ranks)))
    # Without a model there is nothing that an adapter could be applied to.
    if report.applied or report.problems or report.family != "any":
        lines.append(f"  applied {report.applied} of {report.total}")
    lines += [f"  assumed {key}: {value}" for key, value in report.assumed.items()]
    if report.ignored:
        some = ", ".join(report.ignored[:3]) + (", ..." if len(report.ignored) > 3 else "")
        lines.append(f"  ignored {len(report.ignored)} that say nothing here: {some}")
    lines += [f"  {problem.kind}: {problem.said}" for problem in report.problems[:20]]
    if len(report.problems) > 20:
        lines.append(f"  and {len(report.problems) - 20} more")
    return "\n".join(lines)


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
    from diptych.models.table import MODELS
    from diptych.nn.unfilled import without_memory

    with without_memory():  # sizes without memory
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
    lines: list[str] = []
    for section, title in SECTIONS.items():
        lines.append(f"{title}:")
        wide = max((len(row["name"]) for row in listed[section]), default=0)
        for row in listed[section]:
            count = f"  {row['parameters'] / 1e6:7.1f} M" if "parameters" in row else ""
            lines.append(_hanging(f"  {row['name']:<{wide}}{count}  ", row["line"]))
        lines.append("")
    return "\n".join([*lines, "More about one: diptych models NAME"])


def _hanging(start: str, text: str) -> str:
    from shutil import get_terminal_size
    from textwrap import fill

    width = max(get_terminal_size().columns, len(start) + 20)
    return fill(text, width, initial_indent=start, subsequent_indent=" " * len(start))
