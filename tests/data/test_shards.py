"""Shards: what goes in comes out; what is damaged is named, and the rest is read."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.data.shards import Account, read_shards, write_shards
from diptych.foundation.errors import InvalidValue, NotFound


def picture(number: int, suffix: str = "png") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (8, 9, 3), np.uint8)
    content = io.BytesIO()
    kind = {"jpg": "JPEG", "webp": "WEBP"}.get(suffix, "PNG")
    Image.fromarray(pixels).save(content, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return content.getvalue()


def sample(number: int) -> dict[str, bytes]:
    facts = {"caption": f"number {number}", "number": number}
    return {"png": picture(number), "json": json.dumps(facts).encode()}


def tar_of(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def numbers(place: object, account: Account | None = None) -> list[int]:
    return [one.facts["number"] for one in read_shards(str(place), account)]


@given(count=st.integers(0, 7), per_shard=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, count: int, per_shard: int
):
    folder = tmp_path_factory.mktemp("shards")
    samples = [sample(number) for number in range(count)]
    paths = write_shards(folder, "some", samples, per_shard=per_shard)
    assert len(paths) == -(-count // per_shard)
    account = Account()
    back = list(read_shards([str(path) for path in paths], account))
    assert account.read == count and not account.broken
    for number, one in enumerate(back):
        expected = np.asarray(Image.open(io.BytesIO(samples[number]["png"])))
        assert np.array_equal(np.asarray(one.picture), expected)
        assert one.text == f"number {number}"


def test_the_same_samples_give_the_same_bytes(tmp_path: Path):
    a, b = (write_shards(tmp_path / name, "x", [sample(1), sample(2)])[0] for name in "ab")
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_every_kind_of_picture_with_text_alone(tmp_path: Path, suffix: str):
    members = [(f"a/0.{suffix}", picture(0, suffix)), ("a/0.txt", b" a word \n")]
    (one,) = read_shards(str(tar_of(tmp_path / "t.tar", members)))
    assert (one.key, one.text, one.picture.size) == ("a/0", "a word", (9, 8))


def test_compressed_shards_folders_stars_and_braces(tmp_path: Path):
    write_shards(tmp_path, "x", [sample(n) for n in range(4)], per_shard=2)
    squeezed = tmp_path / "z.tar.gz"
    with tarfile.open(squeezed, "w:gz") as tar:
        tar.add(tmp_path / "x-000000.tar", "inner")
        member = tarfile.TarInfo("9.png")
        member.size = len(picture(9))
        tar.addfile(member, io.BytesIO(picture(9)))
        member = tarfile.TarInfo("9.json")
        content = sample(9)["json"]
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert numbers(squeezed) == [9]
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert numbers(tmp_path / "*-000001.tar") == [2, 3]
    assert numbers(tmp_path / "x-{000000..000001}.tar") == [0, 1, 2, 3]
    assert numbers(f"file://{tmp_path}/x-000000.tar") == [0, 1]


def test_other_file_systems_are_read(tmp_path: Path):
    import fsspec

    path = write_shards(tmp_path, "x", [sample(0), sample(1)])[0]
    with fsspec.open("memory://somewhere/x.tar", "wb") as stream:
        stream.write(path.read_bytes())
    assert numbers("memory://somewhere/x.tar") == [0, 1]


BROKEN = {
    "cut picture": ("1.png", picture(1)[:40]),
    "empty picture": ("1.png", b""),
    "no picture at all": ("1.png", b"<html>404</html>"),
    "JSON of another kind": ("1.json", b"[1, 2]"),
    "no JSON": ("1.json", b"{"),
    "no UTF-8": ("1.txt", b"\xff\xfe\xff"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_member_is_named_and_the_others_are_read(tmp_path: Path, kind: str):
    name, content = BROKEN[kind]
    members = [(f"{n}.{suffix}", data) for n in range(3) for suffix, data in sample(n).items()]
    at = [member[0] for member in members].index("1.json")
    members = [member for member in members if member[0] != name]
    members.insert(at, (name, content))
    account = Account()
    assert numbers(tar_of(tmp_path / "t.tar", members), account) == [0, 2]
    assert [(one.shard, one.member) for one in account.broken] == [("t.tar", name)]
    assert account.broken[0].why


def test_samples_without_picture_or_words_are_named(tmp_path: Path):
    members = [
        ("0.png", picture(0)),
        ("1.txt", b"one"),
        *[(f"2.{s}", c) for s, c in sample(2).items()],
    ]
    account = Account()
    assert numbers(tar_of(tmp_path / "t.tar", members), account) == [2]
    assert [one.member for one in account.broken] == ["0", "1"]


@pytest.mark.parametrize("cut", [300, 1000, 2600])
def test_a_cut_shard_gives_what_is_whole(tmp_path: Path, cut: int):
    (path,) = write_shards(tmp_path, "x", [sample(n) for n in range(3)])
    whole = path.read_bytes()
    end = whole.rindex(b"ustar") - 257
    path.write_bytes(whole[: min(cut, end)])
    account = Account()
    read = numbers(path, account)
    assert read == list(range(len(read))) and len(read) < 3
    assert account.broken and "x-000000.tar" in str(account.broken[0])


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path):
    (path,) = write_shards(tmp_path, "x", [sample(n) for n in range(3)])
    whole = bytearray(path.read_bytes())
    at = whole.index(b"000001.json")
    whole[at : at + 4] = b"zzzz"
    path.write_bytes(whole)
    account = Account()
    assert numbers(path, account) == [0]
    assert "000000.png" in account.broken[0].member


def test_what_is_no_shard_is_named(tmp_path: Path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"not a tar at all" * 100)
    account = Account()
    assert numbers(path, account) == [] and len(account.broken) == 1


def test_a_place_without_shards_is_refused(tmp_path: Path):
    for place in (tmp_path, tmp_path / "no.tar", tmp_path / "*.tar"):
        with pytest.raises(NotFound, match="no shards"):
            numbers(place)
    with pytest.raises(InvalidValue):
        write_shards(tmp_path, "x", [], per_shard=0)
