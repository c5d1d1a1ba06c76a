"""Make, list and revoke the keys of a server. The server must not run meanwhile.

diptych keys add anna
diptych keys add operator --admin
diptych keys list
diptych keys revoke dpt_abc123
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace

from diptych.foundation.errors import InvalidValue
from diptych.foundation.extras import need


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=("add", "list", "revoke"))
    parser.add_argument("name", nargs="?", default="", help="whose it is, or its first characters")
    parser.add_argument("--admin", action="store_true", help="may see and do all")
    parser.add_argument("--data", default="diptych-data", metavar="DIR", help="the server's folder")


def run(args: Namespace) -> int:
    need("sqlalchemy", "serve")
    from contextlib import closing
    from pathlib import Path

    from diptych.service import keyring
    from diptych.service.jobs.database import Database

    if args.what != "list" and not args.name:
        raise InvalidValue(f"`diptych keys {args.what}` needs a name.", do="Say whose or which.")
    if args.what == "add" and not re.fullmatch(r"[\w.@-]{1,80}", args.name):
        raise InvalidValue(f"{args.name!r} is no name.", do="Use letters, digits and . _ - @.")
    with closing(Database.open(Path(args.data))) as database:
        if args.what == "add":
            role = "admin" if args.admin else "user"
            print(database.write_now(lambda c: keyring.add(c, args.name, role)))
        elif args.what == "revoke":
            database.write_now(lambda c: keyring.revoke(c, args.name))
            print(f"{args.name} is revoked.")
        else:
            for row in database.read(keyring.listed):
                state = "revoked" if row.revoked else row.role
                print(f"{row.id}  {row.owner:<20}  {state}")
    return 0
