"""Serve the models over HTTP, to this machine or, with keys, to others.

diptych serve
diptych serve --port 8001 --data state --model photos=paint:sdxl.safetensors
diptych serve --host 0.0.0.0 --public-url https://pictures.example.org
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

SHIPPED = {
    "scenes-t2i": ("paint", "scenes-t2i"),
    "scenes-i2t": ("read", "scenes-i2t"),
    "scenes-clip": ("embed", "scenes-clip"),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    parser.add_argument("--data", default="diptych-data", metavar="DIR", help="all state is here")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=USE:PLACE",
        help="a model, USE being paint, read or embed; the shipped ones are there always",
    )  # fmt: skip
    parser.add_argument("--public-url", default="", metavar="URL", help="as others see the server")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (1)")
    parser.add_argument("--most", type=int, default=8, help="jobs under way at once (8)")
    parser.add_argument(
        "--refuse", metavar="FILE",
        help="words and phrases, one a line; prompts that hold one are refused",
    )  # fmt: skip
    parser.add_argument(
        "--keep-days", type=float, default=0.0, metavar="DAYS",
        help="erase what ended so long ago and has no star (0: never)",
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
    from pathlib import Path

    from diptych.service.api.settings import Settings
    from diptych.service.guards.moderation import WordList, read_word_list
    from diptych.service.guards.output_gate import gate_of
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
    data = Path(args.data)
    models = SHIPPED | dict(model_of(text) for text in args.model)
    engine = EngineSettings(
        data=data, models=models, threads=args.threads, most=args.most, exact=not args.fast,
        marks=not args.no_marks, gate=args.gate,
    )  # fmt: skip
    web = Settings(data=data, host=args.host, port=args.port, public_url=args.public_url)
    gate = WordList() if args.refuse is None else read_word_list(args.refuse)
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


def model_of(text: str) -> tuple[str, tuple[str, str]]:
    """`name=use:place` in its parts. Raises InvalidValue."""
    name, _, rest = text.partition("=")
    use, _, place = rest.partition(":")
    if not name or not place or use not in ("paint", "read", "embed"):
        raise InvalidValue(
            f"{text!r} names no model.", do="Say --model NAME=paint:PLACE, or read, or embed."
        )
    return name, (use, place)
