"""Keys, signed addresses and rates (37, 38 of the bad inputs)."""

from __future__ import annotations

import time
from dataclasses import asdict

import pytest

from diptych.service.guards.keys import Key, administrator, authenticated, new_key
from diptych.service.guards.problem import Problem
from diptych.service.guards.rates import Rates, network
from diptych.service.guards.signing import signed, verify

SECRET, OLD = b"s" * 32, b"o" * 32


def test_a_key_is_known_by_its_hash_alone():
    text, key = new_key("ann", "admin")
    assert text not in repr(asdict(key)) and text.startswith(key.prefix)
    assert len(text) == 47 and len(text) - len(key.prefix) >= 37
    stored: dict[str, Key] = {key.sha256: key}
    assert authenticated(f"Bearer {text}", stored.get) is key
    assert authenticated(f"bearer  {text} ", stored.get) is key
    assert administrator(key) is key


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer x", "Basic TEXT", "TEXT", "Bearer TEXTx"]
)
def test_38_a_bad_key_is_401_whatever_is_bad(header: str | None):
    text, key = new_key("ann")
    other, _ = new_key("ann")
    for asked in (header and header.replace("TEXT", text), f"Bearer {other}"):
        with pytest.raises(Problem) as caught:
            authenticated(asked, {key.sha256: key}.get)
        assert caught.value.status == 401
        assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    with pytest.raises(Problem, match="forbidden"):
        administrator(key)


def parts(address: str) -> tuple[str, str, str]:
    path, _, query = address.partition("?")
    expires, signature = (pair.partition("=")[2] for pair in query.split("&"))
    return path, expires, signature


def test_a_signed_address_opens_until_its_end_also_after_the_secret_changed():
    path, expires, signature = parts(signed("/v1/artifacts/ab", SECRET, expires=1000))
    verify(path, expires, signature, [SECRET], now=999.9)
    verify(path, expires, signature, [b"n" * 32, SECRET], now=0)


ALTERED = [
    ("/v1/artifacts/ac", "1000", None, 0.0),
    ("/v1/artifacts/ab", "1001", None, 0.0),
    ("/v1/artifacts/ab", "01000", None, 0.0),
    ("/v1/artifacts/ab", "+1000", None, 0.0),
    ("/v1/artifacts/ab", "１000", None, 0.0),
    ("/v1/artifacts/ab", "9" * 5000, None, 0.0),
    ("/v1/artifacts/ab", "", None, 0.0),
    ("/v1/artifacts/ab", "1000", "", 0.0),
    ("/v1/artifacts/ab", "1000", "é", 0.0),
    ("/v1/artifacts/ab", "1000", None, 1000.0),
]


@pytest.mark.parametrize(("path", "expires", "signature", "now"), ALTERED)
def test_an_altered_or_late_address_opens_nothing(
    path: str, expires: str, signature: str | None, now: float
):
    _, _, good = parts(signed("/v1/artifacts/ab", SECRET, expires=1000))
    with pytest.raises(Problem) as caught:
        verify(path, expires, good if signature is None else signature, [SECRET], now=now)
    assert (caught.value.status, caught.value.slug) == (403, "bad-signature")


def test_another_secret_or_a_short_one_signs_nothing():
    path, expires, signature = parts(signed("/a", OLD, expires=1000))
    with pytest.raises(Problem):
        verify(path, expires, signature, [SECRET], now=0)
    with pytest.raises(ValueError, match="32 bytes"):
        signed("/a", b"short", expires=1)
    with pytest.raises(ValueError, match="without query"):
        signed("/a?b=1", SECRET, expires=1)


def test_37_a_user_and_an_address_are_counted_apart():
    rates = Rates(per_user="3/minute", per_address="5/minute")
    for _ in range(3):
        rates.admit(user="ann", address="192.0.2.1")
    with pytest.raises(Problem) as caught:
        rates.admit(user="ann", address="192.0.2.2")
    after = int(caught.value.headers["Retry-After"])
    assert caught.value.status == 429 and 1 <= after <= 60
    for _ in range(2):  # the refused one above was not counted
        rates.admit(user="bob", address="192.0.2.1")
    with pytest.raises(Problem):
        rates.admit(user=None, address="192.0.2.1")
    rates.admit(user="bob", address="192.0.2.2")


def test_37_who_waits_as_told_is_let_in():
    rates = Rates(per_user="9/second", per_address="2/second")
    for _ in range(2):
        rates.admit(user=None, address="::1")
    with pytest.raises(Problem) as caught:
        rates.admit(user=None, address="::1")
    time.sleep(int(caught.value.headers["Retry-After"]) + 0.05)
    rates.admit(user=None, address="::1")


def test_37_a_64_is_one_address():
    assert network("2001:db8::1") == network("2001:db8::ffff:0:1:2") != network("2001:db8:0:1::1")
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") != network("192.0.2.2")
    assert network("fe80::1%eth0") == network("fe80::2") and network("/tmp/socket") == "none"
