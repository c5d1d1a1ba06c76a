"""Forms: what Starlette's parser is bounded to, and where it is too lax."""

from __future__ import annotations

import asyncio

import pytest

from diptych.service.guards.multipart import Form, form
from diptych.service.guards.problem import Problem

# Forms

KIND = "multipart/form-data; boundary=xx"


def part(name: str, value: bytes, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    head = f'--xx\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + value + b"\r\n"


END = b"--xx--\r\n"


def read(content: bytes, kind: str = KIND, step: int = 7) -> Form:
    async def body():
        for at in range(0, len(content), step):
            yield content[at : at + step]

    return asyncio.run(form(kind, body()))


def test_a_form_comes_through():
    image = bytes(range(256)) * 8000  # more than the parser keeps in memory
    sent = part("prompt", "ein Bär".encode()) + part("image", image, "a.png") + END
    for kind in (KIND, KIND + "; charset=utf-16", "multipart/form-data; charset=x; boundary=xx"):
        got = read(sent, kind, step=100_000)
        assert got == Form(texts={"prompt": "ein Bär"}, files={"image": image})


FORMS = [
    ("cut", part("a", b"1"), "malformed-form"),
    ("cut within", (part("a", b"1" * 100) + END)[:80], "malformed-form"),
    ("no boundary", part("a", b"1") + END, "malformed-form"),
    ("no form", b"{}", "malformed-form"),
    ("empty", b"", "malformed-form"),
    ("no name", b"--xx\r\nContent-Disposition: form-data\r\n\r\n1\r\n" + END, "malformed-form"),
    ("5 twice", part("a", b"1") + part("a", b"2") + END, "bad-field"),
    ("5 text and file", part("a", b"1") + part("a", b"2", "f") + END, "bad-field"),
    ("4 NUL", part("a", b"1\x00") + END, "bad-text"),
    ("4 no UTF-8", part("a", b"\xff") + END, "bad-text"),
    ("4 in the name", part("a\x01", b"1") + END, "bad-text"),
    ("many texts", b"".join(part(f"a{i}", b"") for i in range(33)) + END, "malformed-form"),
    ("many files", b"".join(part(f"a{i}", b"", "f") for i in range(5)) + END, "malformed-form"),
    ("long text", part("a", b"1" * (65 << 10)) + END, "malformed-form"),
    ("endless header", b"--xx\r\nA: " + b"b" * 300_000, "malformed-form"),
    ("many headers", b"--xx\r\n" + b"A: b\r\n" * 20_000 + b"\r\n" + END, "malformed-form"),
]


@pytest.mark.parametrize("name", [c[0] for c in FORMS])
def test_each_bad_form_has_its_refusal(name: str):
    content, slug = next(c[1:] for c in FORMS if c[0] == name)
    kind = "multipart/form-data" if name == "no boundary" else KIND
    with pytest.raises(Problem) as caught:
        read(content, kind, step=1000)
    assert caught.value.slug == slug
