"""`diptych VERB ...`: finds the verb's file, runs it, and turns errors into two lines.

Loads nothing heavy: only the chosen verb's module is imported, and verbs import torch in `run`.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from diptych.cli.parsing import Parser
from diptych.foundation.errors import DiptychError, unknown
from diptych.foundation.version import __version__

# verb -> (its module, what `diptych --help` says about it)
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("diptych.cli.demo", "paint, read back and judge: one page"),
    "generate": ("diptych.cli.generate", "paint pictures from words"),
    "caption": ("diptych.cli.caption", "say what is in pictures"),
    "ask": ("diptych.cli.ask", "ask questions about a picture"),
    "read": ("diptych.cli.read", "read what is written in pictures"),
    "chat": ("diptych.cli.chat", "talk about pictures with a published model"),
    "extract": ("diptych.cli.extract", "tell what a picture shows as JSON by a schema"),
    "ground": ("diptych.cli.ground", "say where things are in a picture"),
    "classify": ("diptych.cli.classify", "say which of some labels a picture fits"),
    "embed": ("diptych.cli.embed", "make vectors of pictures and texts, for search"),
    "calibrate": ("diptych.cli.calibrate", "fit how sure a reader may be of its answers"),
    "verify": ("diptych.cli.verify", "say where pictures come from"),
    "serve": ("diptych.cli.serve", "serve the models over HTTP, with a page"),
    "torture": ("diptych.cli.torture", "kill and starve a server, and judge what it kept"),
    "keys": ("diptych.cli.keys", "make, list and revoke keys of a server"),
    "models": ("diptych.cli.models", "list models, networks and recipes, or tell about one"),
    "train": ("diptych.cli.train", "train a model by a recipe, or go on where it stopped"),
    "eval": ("diptych.cli.eval", "score models on what they were never trained on"),
    "data": ("diptych.cli.data", "look at data"),
}

INTERRUPTED = 130
BROKEN_PIPE = 141


class Verb(Protocol):
    """What a file of a verb offers."""

    __doc__: str | None

    def add_arguments(self, parser: ArgumentParser) -> None: ...
    def run(self, args: Namespace) -> int | None: ...


def entry(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return the exit code.

    0 done; 2 a wrong word or value; 3 to 6 as in `foundation.errors`; 130 interrupted;
    141 the reader of our output went away.
    """
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except DiptychError as error:
        print(f"diptych: {error.what}", file=sys.stderr)
        if error.do:
            print(f"  {error.do}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("diptych: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit and would complain about the same pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def parser_of(verb: str) -> tuple[Parser, Verb]:
    """The parser of one verb and its module; raises NotFound for a verb that is not there."""
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS, see="See `diptych --help`.")
    path, summary = VERBS[verb]
    module = cast(Verb, import_module(path))
    parser = Parser(
        prog=f"diptych {verb}",
        description=module.__doc__ or summary,
        formatter_class=RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser, module


def parse(arguments: Sequence[str]) -> tuple[Verb, Namespace]:
    """The verb's module and its arguments, nothing run; raises DiptychError for a wrong word."""
    parser, module = parser_of(arguments[0])
    return module, parser.parse_strictly(arguments[1:])


def _run(arguments: list[str]) -> int:
    try:
        if not arguments or arguments[0].startswith("-"):
            top = _top()
            top.parse_strictly(arguments)
            top.print_help()
            return 0
        module, args = parse(arguments)
    except SystemExit:  # argparse, after --help and --version
        return 0
    return module.run(args) or 0


def _top() -> Parser:
    wide = max((len(verb) for verb in VERBS), default=0)
    lines = [f"  {verb:<{wide}}  {summary}" for verb, (_, summary) in VERBS.items()]
    top = Parser(
        prog="diptych",
        usage="diptych VERB ...",
        description="Words become pictures, pictures become words.",
        epilog="\n".join(["verbs:", *lines, "", "`diptych VERB --help` says more."]),
        formatter_class=RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"diptych {__version__}")
    return top
