"""Pickles become safetensors, and what they would run is not run."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diptych.checkpoints.convert import convert
from diptych.checkpoints.load import found_in
from diptych.cli.main import entry
from diptych.foundation.errors import DiptychError, InvalidValue, NotFound, Unreadable
from tests.tiny_stable_diffusion import tiny_file


def weights() -> dict[str, torch.Tensor]:
    whole = torch.arange(12.0).reshape(3, 4)
    return {"a": whole, "shared": whole, "turned": whole.T, "half": whole.bfloat16()}


@pytest.mark.parametrize("nest", ["", "state_dict", "params_ema"])
@pytest.mark.parametrize("old", [False, True])
def test_the_tensors_are_the_same(nest: str, old: bool, tmp_path: Path):
    content = {nest: weights(), "epoch": 3} if nest else {**weights(), "epoch": 3}
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=not old)
    made = convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    found = load_file(made.path)
    assert made.tensors == 4 and made.left == ("epoch",)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights().items())


def test_a_whole_model_paints_from_what_was_a_pickle(tmp_path: Path, capsys):
    state = load_file(tiny_file(tmp_path / "tiny.safetensors"))
    torch.save({"state_dict": state, "global_step": 5}, tmp_path / "model.ckpt")
    assert entry(["models", "convert", str(tmp_path / "model.ckpt")]) == 0
    said = capsys.readouterr().out
    assert f"{len(state)} tensors" in said
    assert entry(["models", "inspect", str(tmp_path / "model.safetensors")]) == 0
    assert said.endswith(capsys.readouterr().out)
    assert all(not one.report.problems for one in found_in(tmp_path / "model.safetensors"))
    assert entry(["models", "inspect", str(tmp_path / "model.ckpt")]) == 4
    assert "diptych models convert" in capsys.readouterr().err
    out = ["-o", str(tmp_path / "b.safetensors"), "--json"]
    assert entry(["models", "convert", str(tmp_path / "model.ckpt"), *out]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == ["global_step"]


def test_weights_of_no_model_are_written_and_told(tmp_path: Path, capsys):
    torch.save(weights(), tmp_path / "x.ckpt")
    assert entry(["models", "convert", str(tmp_path / "x.ckpt")]) == 0
    assert "not known as a model" in capsys.readouterr().out
    assert len(load_file(tmp_path / "x.safetensors")) == 4


class Hostile:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def hostile(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": Hostile(path.with_name("ran"))}))


def hostile_archive(path: Path) -> None:
    torch.save({"a": Hostile(path.with_name("ran"))}, path)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * (64 << 20))


def cut(path: Path) -> None:
    torch.save(weights(), path)
    path.write_bytes(path.read_bytes()[:700])


def claims(path: Path) -> None:
    """One number that says it is four terabytes of them."""
    torch.save({"a": torch.zeros(1).expand(10**12)}, path)


BROKEN = {
    "hostile": (hostile, "not converted"),
    "hostile archive": (hostile_archive, "not converted"),
    "bomb": (bomb, "would grow to 64 MB"),
    "cut short": (cut, "not converted|no whole"),
    "claims": (claims, "more memory than its size allows"),
    "not weights": (lambda path: path.write_bytes(pickle.dumps({"a": bytearray})), "not converted"),
    "empty": (lambda path: path.write_bytes(b""), "not converted"),
    "no tensors": (lambda path: torch.save({"a": 1}, path), "holds no tensors"),
    "no table": (lambda path: torch.save([1], path), "no table"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_and_hostile_files_leave_nothing_behind(what: str, tmp_path: Path):
    make, said = BROKEN[what]
    make(tmp_path / "x.ckpt")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(Unreadable, match=said):
        convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == before
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["resource", "torch", "json"])
def test_modules_beside_the_file_are_not_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    torch.save(weights(), tmp_path / "x.ckpt")
    (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    assert convert(Path("x.ckpt"), Path("x.safetensors")).tensors == 4
    assert not (tmp_path / "ran").exists()


def test_paths_that_cannot_be(tmp_path: Path):
    torch.save(weights(), tmp_path / "x.ckpt")
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    with pytest.raises(InvalidValue, match="is there already"):
        convert(tmp_path / "x.ckpt", tmp_path / "there.safetensors")
    with pytest.raises(InvalidValue, match=r"no \.safetensors"):
        convert(tmp_path / "x.ckpt", tmp_path / "x.bin")
    with pytest.raises(NotFound):
        convert(tmp_path / "none.ckpt", tmp_path / "x.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
    with pytest.raises(DiptychError):
        convert(tmp_path, tmp_path / "y.safetensors")
