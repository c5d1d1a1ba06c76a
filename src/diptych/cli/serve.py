"""Serve the models over HTTP, to this machine or, with keys, to others; or look after the data.

diptych serve
diptych serve --port 8001 --data state --model photos=paint:sdxl.safetensors
diptych serve --host 0.0.0.0 --public-url https://pictures.example.org
diptych serve backup monday.tar --data state
diptych serve restore monday.tar --data fresh
diptych serve doctor --data state
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from diptych.cli import marks
from diptych.foundation.errors import InvalidValue
from diptych.foundation.extras import need

if TYPE_CHECKING:
    from pathlib import Path

    from diptych.imaging.credentials import Certificate


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", choices=("backup", "restore", "doctor"),
        help="backup and doctor may be used while the server runs",
    )  # fmt: skip
    parser.add_argument("file", nargs="?", help="of the backup")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    parser.add_argument("--data", default="diptych-data", metavar="DIR", help="all state is here")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=USE:PLACE",
        help="a model for this once, USE being paint, read or embed, beside the shipped ones and "
        "those of `diptych models add`",
    )  # fmt: skip
    parser.add_argument("--public-url", default="", metavar="URL", help="as others see the server")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (1)")
    parser.add_argument("--most", type=int, default=8, help="jobs under way at once (8)")
    parser.add_argument(
        "--memory", type=float, default=0.0, metavar="GIB",
        help="of the models that are loaded at once; others are loaded again when they are asked "
        "for (0: all stay)",
    )  # fmt: skip
    parser.add_argument(
        "--refuse", metavar="FILE",
        help="words and phrases, one a line; prompts that hold one are refused",
    )  # fmt: skip
    parser.add_argument(
        "--keep-days", type=float, default=0.0, metavar="DAYS",
        help="erase what ended so long ago and has no star (0: never)",
    )  # fmt: skip
    parser.add_argument(
        "--log", choices=("text", "json"), default="",
        help="a line a request and a job, to the terminal (only what goes wrong)",
    )  # fmt: skip
    parser.add_argument(
        "--fast", action="store_true",
        help="more rows a call: pictures differ by rounding with their company",
    )  # fmt: skip
    parser.add_argument(
        "--gate", metavar="MODULE:FUNCTION", default="",
        help="a function that gets each picture and says whether it is refused (none)",
    )  # fmt: skip
    parser.add_argument("--no-marks", action="store_true", help="no invisible mark, no signature")
    marks.add_certificate_arguments(parser)


def run(args: Namespace) -> int:
    need("starlette", "serve")
    if args.what is not None:
        return KEEPING[args.what](args)
    from pathlib import Path

    from diptych.service import logs
    from diptych.service.api.settings import Settings
    from diptych.service.guards.moderation import WordList, read_word_list
    from diptych.service.guards.output_gate import gate_of
    from diptych.service.registry import SHIPPED, entry_of, registered
    from diptych.service.server import ServerSettings, serve
    from diptych.service.supervisor import EngineSettings

    if not 0 <= args.port <= 65_535:
        raise InvalidValue(f"There is no port {args.port}.", do="Choose 0 to 65535.")
    for name in ("threads", "most"):
        if getattr(args, name) < 1:
            raise InvalidValue(
                f"--{name} {getattr(args, name)} is too few.", do="Choose 1 or more."
            )
    if not 0 <= args.keep_days < 1e6:
        raise InvalidValue(f"--keep-days {args.keep_days} is no time.", do="Choose 0 or more.")
    if not 0 <= args.memory < 1e6:
        raise InvalidValue(f"--memory {args.memory} is no size.", do="Choose 0 or more.")
    data = Path(args.data)
    models = {**SHIPPED, **registered(data), **dict(entry_of(text) for text in args.model)}
    engine = EngineSettings(
        data=data, models=models, threads=args.threads, most=args.most, exact=not args.fast,
        marks=not args.no_marks, gate=args.gate, memory=int(args.memory * 2**30),
    )  # fmt: skip
    web = Settings(data=data, host=args.host, port=args.port, public_url=args.public_url)
    gate = WordList() if args.refuse is None else read_word_list(args.refuse)
    logs.begin(args.log)
    if args.gate:
        gate_of(args.gate)
    serve(
        ServerSettings(
            settings=web, engine=engine, gate=gate, keep_days=args.keep_days,
            certificate=_certificate(args, data),
        )
    )  # fmt: skip
    return 0


def _certificate(args: Namespace, data: Path) -> Certificate | None:
    """What pictures are signed with. Where the library is missing it is said, and they are not."""
    from diptych.imaging.credentials import available, certificate_of

    asked = args.certificate or args.certificate_key
    if args.no_marks:
        if asked:
            raise InvalidValue("--no-marks signs nothing.", do="Leave --certificate out.")
        return None
    if not available() and not asked:
        print("Pictures are not signed: pip install 'diptych[provenance]'", flush=True)
        return None
    return certificate_of(data / "provenance", args.certificate, args.certificate_key)


def _backup(args: Namespace) -> int:
    from pathlib import Path

    from diptych.cli.console import drawing
    from diptych.service.backups import backup, restore

    if not args.file:
        raise InvalidValue(f"`diptych serve {args.what}` needs a file.", do="Name it: monday.tar")
    file, data = Path(args.file), Path(args.data)
    with drawing(args.what, "file") as report:
        if args.what == "backup":
            kept, where = backup(data, file, report), file
        else:
            kept, where = restore(file, data, report), data
    print(f"{where}: {kept.jobs} jobs, {kept.files} files")
    if kept.missing:
        print(f"{len(kept.missing)} files were missing or altered, such as {kept.missing[0]}")
    return 1 if kept.missing else 0


def _doctor(args: Namespace) -> int:
    from pathlib import Path

    from diptych.service.doctor import examine

    ill = 0
    for finding in examine(Path(args.data)):
        ill += bool(finding.do)
        print(f"{'  ! ' if finding.do else ' ok '} {finding.name:<9} {finding.says}", flush=True)
        if finding.do:
            print(f"    {'':<9} {finding.do}")
    print("All is well." if not ill else f"{ill} to mend.")
    return 1 if ill else 0


KEEPING = {"backup": _backup, "restore": _backup, "doctor": _doctor}
