"""What starts fast loads nothing heavy: seen in `sys.modules` of a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diptych.cli.main import VERBS

HEAVY = (
    "torch", "numpy", "PIL", "accelerate", "transformers", "tokenizers", "safetensors", "scipy",
    "matplotlib", "tensorboard", "huggingface_hub", "fsspec", "psutil", "fastapi", "onnx",
)  # fmt: skip
LINES = ["", "--help", *(f"{verb} --help" for verb in VERBS)]


def heavy_after(code: str) -> list[str]:
    """The heavy modules that are loaded when the code has run in a process of its own."""
    program = f"import sys\n{code}\nprint('\\n', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_a_heavy_module_would_be_seen():
    assert heavy_after("import numpy") == ["numpy"]


def test_the_package_loads_nothing_heavy():
    assert heavy_after("import diptych") == []


@pytest.mark.parametrize("line", LINES)
def test_help_loads_nothing_heavy(line: str):
    code = f"from diptych.cli.main import entry\nassert entry({line.split()!r}) == 0"
    assert heavy_after(code) == []
