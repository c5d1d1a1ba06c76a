"""Signed statements: intact, altered, with a certificate of one's own."""

from __future__ import annotations

import io
import stat

import pytest
from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.imaging.credentials import certificate_of, credentials_of, signed

pytest.importorskip("c2pa")
PNG = "image/png"


def plain() -> bytes:
    content = io.BytesIO()
    Image.linear_gradient("L").save(content, format="png")
    return content.getvalue()


def test_intact_and_signed_by_nobody_on_a_list(tmp_path):
    content = plain()
    made = signed(content, certificate_of(tmp_path, None, None))
    found = credentials_of(made, PNG)
    assert found is not None and found.state == "local" and found.machine
    assert found.generator.startswith("Diptych ")
    assert len(made) - len(content) < 4096
    pixels = [Image.open(io.BytesIO(one)).tobytes() for one in (content, made)]
    assert pixels[0] == pixels[1]
    assert credentials_of(content, PNG) is None


@pytest.mark.parametrize("where", [b"IDAT", b"trainedAlgorithmicMedia"])
def test_a_changed_byte_is_seen(tmp_path, where):
    made = bytearray(signed(plain(), certificate_of(tmp_path, None, None)))
    made[made.find(where) + len(where) + (2 if where == b"IDAT" else -1)] ^= 1
    found = credentials_of(bytes(made), PNG)
    assert found is not None and found.state == "altered"


def test_the_key_is_made_once_and_the_owners_alone(tmp_path):
    folder = tmp_path / "provenance"
    first = certificate_of(folder, None, None)
    assert certificate_of(folder, None, None) == first
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    own = certificate_of(tmp_path / "b", folder / "certificate.pem", folder / "key.pem")
    assert own == first
    assert not (tmp_path / "b").exists()


def test_what_cannot_sign_is_refused_before_it_is_needed(tmp_path):
    certificate_of(tmp_path / "a", None, None)
    certificate_of(tmp_path / "b", None, None)
    with pytest.raises(InvalidValue, match="belong together"):
        certificate_of(tmp_path, tmp_path / "a" / "certificate.pem", None)
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(InvalidValue, match="cannot sign"):
        certificate_of(tmp_path, tmp_path / "bad.pem", tmp_path / "a" / "key.pem")
    with pytest.raises(InvalidValue, match="cannot sign"):  # the key of another
        certificate_of(tmp_path, tmp_path / "a" / "certificate.pem", tmp_path / "b" / "key.pem")
