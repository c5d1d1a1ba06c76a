"""`python -m diptych`: the same as the command `diptych`."""

from __future__ import annotations

import sys

from diptych.cli.main import entry

sys.exit(entry())
