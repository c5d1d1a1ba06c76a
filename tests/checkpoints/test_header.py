"""What is no safetensors file is said to be what it is; what is broken is refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diptych.checkpoints.header import files_of, header_of
from diptych.foundation.errors import NotFound, Unreadable

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    return path


def test_names_shapes_types_and_places(file: Path):
    header = header_of(file)
    assert {name: one.shape for name, one in header.items()} == {"a.weight": (2, 3), "b": (4,)}
    assert header["b"].dtype == "F16"
    for name, one in header.items():
        content = file.read_bytes()[one.begin : one.end]
        assert content == TENSORS[name].numpy().tobytes()


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


def _torch(path: Path) -> None:
    torch.save({"a": torch.ones(2)}, path)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("x", "y")


FOREIGN = {
    "a pickle": _pickle,
    "PyTorch's old format": _torch,
    "old format": _zip,
    "GGUF": lambda path: path.write_bytes(b"GGUF" + bytes(60)),
    "Git LFS": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x"),
    "web page": lambda path: path.write_text("<!DOCTYPE html><html>not found</html>"),
    "no whole": lambda path: path.write_bytes(b""),
    "no whole safetensors": lambda path: path.write_bytes(b"\xff" * 200),
}


@pytest.mark.parametrize("said", FOREIGN)
def test_what_is_something_else_is_said(said: str, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    FOREIGN[said](path)
    with pytest.raises(Unreadable, match=said):
        header_of(path)


def test_a_file_cut_short_is_refused(file: Path):
    whole = file.read_bytes()
    for length in (4, 8, 40, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(Unreadable, match="no whole safetensors"):
            header_of(file)


def test_a_type_that_nothing_is_made_of_is_named(tmp_path: Path):
    path = tmp_path / "fp8.safetensors"
    save_file({"w": torch.ones(4).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(Unreadable, match="F8_E4M3"):
        header_of(path)


def test_shards_are_read_by_their_index(tmp_path: Path):
    for i, (name, tensor) in enumerate(TENSORS.items()):
        save_file({name: tensor}, tmp_path / f"model-{i}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {n: f"model-{i}.safetensors" for i, n in enumerate(TENSORS)}})
    )
    assert header_of(tmp_path).keys() == TENSORS.keys() == header_of(index).keys()
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(NotFound, match="model-1"):
        header_of(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(Unreadable, match="outside"):
        header_of(tmp_path)
    index.write_text("{}")
    with pytest.raises(Unreadable, match="no index"):
        header_of(tmp_path)


def test_variants_are_chosen_and_named(tmp_path: Path):
    save_file(TENSORS, tmp_path / "model.fp16.safetensors")
    with pytest.raises(NotFound, match="fp16"):
        files_of(tmp_path)
    assert files_of(tmp_path, "fp16")[0].name == "model.fp16.safetensors"
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert files_of(tmp_path)[0].name == "model.safetensors"
    save_file(TENSORS, tmp_path / "other.safetensors")
    with pytest.raises(Unreadable, match="several"):
        files_of(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(NotFound, match="nowhere"):
        header_of(tmp_path / "nowhere.safetensors")
    with pytest.raises(NotFound, match=r"no \.safetensors"):
        header_of(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(NotFound, match=r"only pickles.*\n?.*models convert"):
        header_of(tmp_path)
