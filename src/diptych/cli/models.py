"""List the shipped models, or show the card of one.

diptych models
diptych models scenes-t2i
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="the model whose card to show")


def run(args: Namespace) -> int:
    from diptych.foundation.errors import unknown
    from diptych.pipelines.reference import SHIPPED, shipped_folder

    if args.name is None:
        for name, line in SHIPPED.items():
            print(f"{name:14} {line}")
        print("\nA card: diptych models NAME. What can be trained: diptych train --list.")
        return 0
    if args.name not in SHIPPED:
        raise unknown("shipped model", args.name, SHIPPED)
    print((shipped_folder(args.name) / "card.md").read_text().rstrip())
    return 0
