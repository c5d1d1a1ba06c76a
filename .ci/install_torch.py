"""Install torch into this environment: `install_torch.py REQUIREMENT [INDEX]`.

Asks pip what it would install before anything is downloaded. A build for NVIDIA cards brings
several GB of libraries; on a machine without their driver that is refused.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
REFUSED = """\
{name} {version} is a build for NVIDIA cards, several GB, and this machine has no NVIDIA driver.
  Name an index that holds CPU builds: make setup TORCH_INDEX=ADDRESS
  The address stands on PyTorch's installation page (choose Linux, Pip, CPU).
  Or take this build on purpose: make setup TORCH_INDEX=default\
"""


def planned(wanted: list[str]) -> dict[str, object] | None:
    """What pip would install for torch itself; None when it is there already."""
    command = [*PIP, "install", "--dry-run", "--no-deps", "--report", "-", *wanted]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return report["install"][0]["metadata"] if report["install"] else None


def wants_cuda(metadata: dict[str, object]) -> bool:
    """Does this build, on this machine, require NVIDIA's libraries?"""
    needed = [Requirement(line) for line in metadata.get("requires_dist", [])]  # type: ignore
    return any(
        one.name.startswith(("nvidia-", "cuda-"))
        and (one.marker is None or one.marker.evaluate({"extra": ""}))
        for one in needed
    )


def has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def main(requirement: str, index: str = "") -> int:
    from_index = ["--index-url", index] if index not in ("", "default") else []
    wanted = [*from_index, requirement]
    metadata = planned(wanted)
    if metadata is None:
        return 0
    if index != "default" and wants_cuda(metadata) and not has_driver():
        print(REFUSED.format(**metadata), file=sys.stderr)
        return 1
    print(f"torch {metadata['version']}", flush=True)
    return subprocess.run([*PIP, "install", *wanted], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
