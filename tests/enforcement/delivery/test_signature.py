"""A signature holds for one body, one event id, one time and one secret."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, strategies as st

from enforcement.delivery.signature import SignatureError, signed_headers, verify_signature
from tests.enforcement.delivery.receiver import SECRET

NOW = 1_764_000_000.0
BODY = b'{"event":"opened"}'


def test_the_signature_is_the_hmac_of_time_id_and_body() -> None:
    headers = signed_headers(SECRET, "call-1", BODY, NOW)
    signed = b"1764000000.call-1." + BODY
    assert headers == {
        "Margincast-Event-Id": "call-1",
        "Margincast-Timestamp": "1764000000",
        "Margincast-Signature": "v1=" + hmac.new(SECRET, signed, hashlib.sha256).hexdigest(),
    }
    assert verify_signature(SECRET, headers, BODY, NOW + 5) == "call-1"


@given(st.binary(max_size=50), st.integers(0, 40), st.integers(1, 255))
def test_a_changed_body_is_refused(body: bytes, place: int, change: int) -> None:
    headers = signed_headers(SECRET, "call-1", body, NOW)
    other = bytearray(body + b" ")
    if place < len(body):
        other = bytearray(body)
        other[place] ^= change
    with pytest.raises(SignatureError, match="not that of this body"):
        verify_signature(SECRET, headers, bytes(other), NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"Margincast-Event-Id": "call-2"},
        {"Margincast-Timestamp": "1764000001"},
        {"Margincast-Signature": "v1=" + "0" * 64},
        {"Margincast-Signature": "v1=\xe9"},
        {"Margincast-Signature": hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()},
    ],
)
def test_another_id_time_or_signature_is_refused(changed: dict[str, str]) -> None:
    headers = signed_headers(SECRET, "call-1", BODY, NOW) | changed
    with pytest.raises(SignatureError, match="refuse the request"):
        verify_signature(SECRET, headers, BODY, NOW)


@pytest.mark.parametrize("later", [301.0, -301.0])
def test_a_replayed_request_is_refused_by_its_time(later: float) -> None:
    headers = signed_headers(SECRET, "call-1", BODY, NOW)
    with pytest.raises(SignatureError, match="replayed, or a clock is wrong"):
        verify_signature(SECRET, headers, BODY, NOW + later)
    assert verify_signature(SECRET, headers, BODY, NOW + later, 400.0) == "call-1"


@pytest.mark.parametrize("stamp", ["", "-1", "1e9", "9" * 16, "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_malformed_time_is_refused(stamp: str) -> None:
    headers = signed_headers(SECRET, "call-1", BODY, NOW) | {"Margincast-Timestamp": stamp}
    with pytest.raises(SignatureError, match="whole number of seconds"):
        verify_signature(SECRET, headers, BODY, NOW)


def test_names_of_headers_have_any_case_and_a_missing_one_is_named() -> None:
    headers = signed_headers(SECRET, "call-1", BODY, NOW)
    lower = {name.lower(): value for name, value in headers.items()}
    assert verify_signature(SECRET, lower, BODY, NOW) == "call-1"
    del lower["margincast-signature"]
    with pytest.raises(SignatureError, match="headers Margincast-Signature are missing"):
        verify_signature(SECRET, lower, BODY, NOW)
    with pytest.raises(SignatureError, match="secret is empty"):
        verify_signature(b"", headers, BODY, NOW)
    assert "Margincast-Signature" not in signed_headers(b"", "call-1", BODY, NOW)


def test_one_of_several_signatures_is_enough_while_a_secret_is_replaced() -> None:
    old, new = (signed_headers(secret, "c", BODY, NOW) for secret in (b"old", SECRET))
    both = new | {
        "Margincast-Signature": f"{old['Margincast-Signature']}, {new['Margincast-Signature']}"
    }
    assert verify_signature(SECRET, both, BODY, NOW) == "c"
    assert verify_signature(b"old", both, BODY, NOW) == "c"
