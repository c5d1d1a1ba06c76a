"""Forms with files, by Starlette's parser with its bounds set, and the two things it is lax in:
text that is not UTF-8, which it reads as Latin-1, and a form that ends before its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from diptych.service.guards.json_gate import is_text, pointer
from diptych.service.guards.problem import Problem

MOST_FIELDS = 32
MOST_FILES = 4
MOST_TEXT = 64 << 10  # bytes of one field that is no file

_Item = tuple[str, UploadFile | str]


@dataclass(frozen=True, kw_only=True)
class Form:
    """Its fields by name; files as bytes, whose own names and types nobody here believes."""

    texts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


async def form(content_type: str, body: AsyncGenerator[bytes, None]) -> Form:
    """A form of at most 4 files and 32 texts of 64 KiB; the whole of it is `BodyCap`'s to bound.

    Raises Problem: 400 malformed-form; 422 bad-field for a name that comes twice, bad-text for
    NUL, control characters and what is not UTF-8.
    """
    tail = _Tail(body)
    parser = MultiPartParser(
        Headers({"Content-Type": _as_latin(content_type)}),
        tail.parts(),
        max_files=MOST_FILES,
        max_fields=MOST_FIELDS,
        max_part_size=MOST_TEXT,
    )
    try:
        data = await parser.parse()
    except MultiPartException:
        data = None
    if data is None or not tail.is_end:
        detail = f"Send a whole form with at most {MOST_FILES} files and {MOST_FIELDS} texts."
        raise Problem("malformed-form", detail=detail)
    async with _closing(data.multi_items()) as items:
        return await _form(items)


@asynccontextmanager
async def _closing(items: list[_Item]) -> AsyncIterator[list[_Item]]:
    """Closes the files of a form, which may lie on disk."""
    try:
        yield items
    finally:
        for _name, value in items:
            if isinstance(value, UploadFile):
                await value.close()


async def _form(items: list[_Item]) -> Form:
    texts: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for raw, value in items:
        name = _utf8(raw, "*")
        if name in texts or name in files:
            raise Problem("bad-field", detail="Send each field once.", field=pointer(name))
        if isinstance(value, UploadFile):
            files[name] = await value.read()
        else:
            texts[name] = _utf8(value, name)
    return Form(texts=texts, files=files)


def _as_latin(content_type: str) -> str:
    """With an encoding of ours in place of the sender's: Latin-1 loses no byte."""
    parts = content_type.split(";")
    kept = [p for p in parts if p.partition("=")[0].strip().lower() != "charset"]
    return ";".join([*kept, " charset=latin-1"])


def _utf8(text: str, name: str) -> str:
    try:
        read = text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        read = "\0"
    if not is_text(read):
        detail = "Send UTF-8 without NUL and control characters."
        raise Problem("bad-text", detail=detail, field=pointer(name))
    return read


class _Tail:
    """The last bytes that came by: a whole form ends in two hyphens."""

    def __init__(self, body: AsyncGenerator[bytes, None]):
        self._body, self._last = body, b""

    async def parts(self) -> AsyncGenerator[bytes, None]:
        async for part in self._body:
            self._last = (self._last + part[-64:])[-64:]
            yield part

    @property
    def is_end(self) -> bool:
        return self._last.rstrip(b"\r\n").endswith(b"--")
