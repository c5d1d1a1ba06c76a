"""Bad inputs 2 to 5 of the service: JSON is read in one way or not at all."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.service.guards.json_gate import depth, parsed
from diptych.service.guards.problem import PROBLEMS, Problem

BAD = [
    ("2 depth", b"[" * 33 + b"]" * 33, 400, "malformed-json", ""),
    ("2 depth without end", b"[" * 500_000, 400, "malformed-json", ""),
    ("2 digits", b'{"a":' + b"9" * 5000 + b"}", 400, "malformed-json", ""),
    ("2 negative digits", b"-" + b"9" * 21, 400, "malformed-json", ""),
    ("2 bad UTF-8", b'{"a":"\xff"}', 400, "malformed-json", ""),
    ("2 surrogate in UTF-8", b'{"a":"\xed\xa0\x80"}', 400, "malformed-json", ""),
    ("2 UTF-16", '{"a":1}'.encode("utf-16"), 400, "malformed-json", ""),
    ("2 UTF-16 without mark", '{"a":1}'.encode("utf-16-le"), 400, "malformed-json", ""),
    ("2 UTF-32", '{"a":1}'.encode("utf-32"), 400, "malformed-json", ""),
    ("2 BOM", b'\xef\xbb\xbf{"a":1}', 400, "malformed-json", ""),
    ("2 empty", b"", 400, "malformed-json", ""),
    ("2 two values", b"{}{}", 400, "malformed-json", ""),
    ("2 raw control character", b'{"a":"\x01"}', 400, "malformed-json", ""),
    ("3 NaN", b'{"steps":NaN}', 422, "not-finite", "/steps"),
    ("3 Infinity", b'{"a":[0,-Infinity]}', 422, "not-finite", "/a/1"),
    ("3 overflow", b'{"a":1e999}', 422, "not-finite", "/a"),
    ("4 lone surrogate", b'{"prompt":"\\ud800"}', 422, "bad-text", "/prompt"),
    ("4 NUL", b'{"prompt":"\\u0000"}', 422, "bad-text", "/prompt"),
    ("4 C0", b'{"prompt":"a\\u001bb"}', 422, "bad-text", "/prompt"),
    ("4 in a key", b'{"a":{"\\u0000":1}}', 422, "bad-text", "/a/*"),
    ("5 doubled", b'{"seed":1,"seed":1}', 422, "bad-field", "/seed"),
    ("5 doubled by escape", b'{"seed":1,"\\u0073eed":2}', 422, "bad-field", "/seed"),
    ("5 doubled within", b'[{"a":{"b c":1,"b c":2}}]', 422, "bad-field", "/*"),
]


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"), [c[1:] for c in BAD], ids=[c[0] for c in BAD]
)
def test_each_bad_body_has_its_refusal(body: bytes, status: int, slug: str, field: str):
    with pytest.raises(Problem) as caught:
        parsed(body)
    assert (caught.value.status, caught.value.slug, caught.value.field) == (status, slug, field)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**19), 10**20 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=("Cs", "Cc"))),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(codec="ascii", categories=("L",))), inner)
    ),
)


@given(JSON, st.booleans())
def test_what_is_good_comes_through_as_it_is(value: object, ascii_only: bool):
    assert parsed(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


def test_tabs_and_lines_are_text_and_32_levels_are_read():
    assert parsed(b'"a\\tb\\r\\nc"') == "a\tb\r\nc"
    assert parsed(b"[" * 32 + b"]" * 32)


@given(st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b"x"]), max_size=200))
def test_depth_counts_brackets_outside_strings(parts: list[bytes]):
    now = most = 0
    inside = escaped = False
    body = b"[" * 33 + b"".join(
        parts
    )  # beyond the short way of counting, and each one more is seen
    for sign in body.decode():
        if inside:
            inside = escaped or sign != '"'
            escaped = not escaped and sign == "\\"
        elif sign == '"':
            inside = True
        else:
            now += {"[": 1, "{": 1, "]": -1, "}": -1}.get(sign, 0)
            most = max(most, now)
    assert depth(body) == most


def test_a_megabyte_of_any_kind_is_quick():
    awkward = [
        b"[" * 40 + b'"' + b'\\"' * 500_000 + b"\\",
        b"[" * 40 + b'\\"' * 500_000,
        b"[[" + b'"",' * 300_000,
    ]
    awkward += [b"[" * 40 + b'"' + b"\\" * 1_000_001, b"1" * 1_000_000, b"0." + b"1" * 1_000_000]
    for body in awkward:
        begun = time.process_time()
        try:
            parsed(body)
        except Problem as problem:
            assert problem.slug == "malformed-json"
        assert time.process_time() - begun < 1, body[:20]


def test_nothing_sent_is_said_back():
    secret = "xsecretx"
    for body in (
        f'{{"{secret} {secret}":1e999}}',
        f'{{"a":"{secret}\\u0000"}}',
        f'{{"a":"{secret}',
    ):
        with pytest.raises(Problem) as caught:
            parsed(body.encode())
        problem = caught.value
        assert secret not in json.dumps(problem.body("1")) + repr(problem)
        assert problem.__cause__ is None and problem.__context__ is None


def test_a_problem_has_the_members_of_the_rfc_and_does_not_change():
    problem = Problem("queue-full", detail="Later.", extra={"eta": 3}, headers={"Retry-After": "3"})
    assert problem.body("r1") == {
        "type": "/problems/queue-full",
        "title": PROBLEMS["queue-full"][1],
        "status": 503,
        "detail": "Later.",
        "request_id": "r1",
        "eta": 3,
    }
    with pytest.raises(AttributeError):
        problem.detail = "other"
    with pytest.raises(ValueError, match="no problem"):
        Problem("nonsense", detail="")
    with pytest.raises(ValueError, match="own"):
        Problem("gone", detail="", extra={"status": 200})

    @contextmanager
    def around():
        yield

    with pytest.raises(Problem), around():
        raise problem
