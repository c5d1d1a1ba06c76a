"""What a painted picture carries: the invisible mark by default, a signed statement by choice."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.imaging.credentials import Certificate


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--sign", action="store_true", help="add content credentials (C2PA); other bytes each time"
    )
    parser.add_argument("--no-marks", action="store_true", help="leave the invisible mark out")
    add_certificate_arguments(parser)


def add_certificate_arguments(parser: ArgumentParser) -> None:
    """The owner's certificate, instead of the local one."""
    parser.add_argument("--certificate", metavar="FILE", help="a chain in PEM to sign with")
    parser.add_argument("--certificate-key", metavar="FILE", help="its ES256 key in PEM")


def certificate_by(args: Namespace) -> Certificate | None:
    """Asked for before anything is painted; the local one is made at its first use. Raises as
    `certificate_of`, and InvalidValue for a certificate without `--sign`."""
    from diptych.foundation.errors import InvalidValue

    if not args.sign:
        if args.certificate or args.certificate_key:
            raise InvalidValue("A certificate is for signing.", do="Add --sign.")
        return None
    from diptych.imaging.credentials import certificate_of

    return certificate_of(own_folder(), args.certificate, args.certificate_key)


def own_folder() -> Path:
    """Where the local certificate of this user is kept."""
    import os

    data = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    return Path(data) / "diptych" / "provenance"


def write(
    path: Path, picture: Image, certificate: Certificate | None, *, marks: bool = True
) -> Path:
    """Write a picture that holds its recipe, whole or not at all. Raises NotWritten."""
    from diptych.foundation.files import write_whole
    from diptych.imaging.credentials import signed
    from diptych.imaging.recipe import png_bytes

    content = png_bytes(picture, picture.info["recipe"], marks=marks)
    return write_whole(path, content if certificate is None else signed(content, certificate))
