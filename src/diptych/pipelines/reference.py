"""What a model is called: a shipped name, a folder, a weight file, or a hub id."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from diptych.foundation.errors import MissingExtra, NotFound, unknown

# name -> what it does; the weights are package data under `shipped/`
SHIPPED: dict[str, str] = {
    "scenes-t2i": "paints scenes from words, 64 x 64",
    "scenes-i2t": "captions, answers and reads scenes, 64 x 64",
    "scenes-clip": "finds scenes by words and words by scenes, 64 x 64",
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def shipped_folder(name: str) -> Path:
    """Where a shipped model lies."""
    return Path(str(files("diptych"))) / "shipped" / name


def folder_of(reference: str, *, offline: bool = False) -> Path:
    """The folder of a model, or its one file. `offline`: a hub id is looked up among what was
    downloaded before, and nothing is asked of the network. Raises NotFound naming the nearest
    shipped one."""
    if reference in SHIPPED:
        return shipped_folder(reference)
    if Path(reference).exists():
        return Path(reference)
    if reference.endswith((".safetensors", ".ckpt", ".gguf")):
        raise NotFound(f"There is no file {reference!r}.")
    if _HUB_ID.fullmatch(reference) and not reference.startswith((".", "/")):
        return _from_hub(reference, offline)
    raise unknown("model", reference, SHIPPED, see="A folder or a hub id owner/name will do too.")


def _from_hub(reference: str, offline: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra(
            "huggingface_hub is not installed.", do="Install diptych again."
        ) from error
    wanted = ["*.json", "*.safetensors", "*.txt", "*.md"]
    try:
        return Path(snapshot_download(reference, allow_patterns=wanted, local_files_only=offline))
    except LocalEntryNotFoundError as error:
        if not offline:
            raise _missing(reference) from error
        raise NotFound(
            f"There is no folder {reference!r}, and no such model was downloaded before.",
            do="Leave offline out to download it, or name a folder.",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise _missing(reference) from error


def _missing(reference: str) -> NotFound:
    return NotFound(
        f"There is no folder {reference!r}, and the hub gave no such model.",
        do="Check the name and the network, or name a folder.",
    )
