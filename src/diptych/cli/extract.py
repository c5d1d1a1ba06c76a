"""Tell what a picture shows as JSON by a schema, with a published model.

diptych extract a.png --schema schema.json --model PATH
diptych extract a.png --schema '{"type": "object", "properties": {"count": {"type": "integer"}}}'
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from diptych.cli.reading import add_reader_arguments, decoding_of, loaded


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("picture", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument(
        "--schema", required=True, metavar="FILE", help="a JSON schema, or a file of one"
    )
    parser.add_argument("--question", metavar="TEXT", help="what is asked (for JSON of it)")
    add_reader_arguments(parser)


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue
    from diptych.imaging.pictures import read_picture

    told = args.schema
    if not told.lstrip().startswith("{"):
        if not Path(told).is_file():
            raise InvalidValue(f"There is no schema {told!r}.", do="Name a file, or give JSON.")
        told = Path(told).read_text()
    try:
        schema = json.loads(told)
    except ValueError as error:
        raise InvalidValue(f"The schema is no JSON: {error}.") from error
    decoding = decoding_of(args, most=512)
    picture = read_picture(args.picture)
    question = {} if args.question is None else {"question": args.question}
    found = loaded(args).extract(picture, schema, decoding=decoding, **question)
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0
