"""One process at a time trains in a run folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from diptych.foundation.lock import held


def alone(run: Path) -> AbstractContextManager[None]:
    """Holds the folder; the system lets it go when the process ends, however it ends.

    Raises InvalidValue while another process holds it. To be entered after the workers that
    prepare batches were forked: they would hold it too, and outlive a killed training a little.
    """
    return held(
        run / ".lock",
        f"Another process is training in {str(run)!r}.",
        "Wait for it, stop it, or choose another folder by --run.",
    )
