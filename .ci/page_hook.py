"""A wheel holds the page of the server: built where it is missing, and no wheel without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):  # the name that hatchling looks for
    """An editable install leaves it to `make setup`; the server tells how to build it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if version == "editable" or (root / "src/diptych/service/page/index.html").exists():
            return
        built = subprocess.run([sys.executable, root / ".ci/build_page.py"], cwd=root, check=False)
        if built.returncode:
            raise SystemExit("The page was not built, and a wheel without it is none: make page")
