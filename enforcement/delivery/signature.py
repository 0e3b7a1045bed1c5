"""Signatures of webhooks: made by the sender, checked by the receiver.

``Margincast-Signature: v1=<hex>`` is the HMAC-SHA256 of ``<timestamp>.<event id>.<body>`` under a
secret that both sides know, ``Margincast-Timestamp`` the time of the attempt in whole seconds
since 1970, and ``Margincast-Event-Id`` the id of the event, the same at every attempt. A receiver
refuses what is not signed, refuses old timestamps, and ignores an event id that it has acted on.

References: RFC 2104 (HMAC); RFC 9110, section 5.5, field values.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from market.core.errors import MargincastError

EVENT_ID = "Margincast-Event-Id"
TIMESTAMP = "Margincast-Timestamp"
SIGNATURE = "Margincast-Signature"

TOLERANCE_SECONDS = 300.0
"""Default of the largest difference between a timestamp and the receiver's clock."""

_VERSION = "v1="
_MOST_DIGITS = 15


class SignatureError(MargincastError):
    """A webhook is not signed by who knows the secret, or is not of now."""


def signed_headers(secret: bytes, event_id: str, body: bytes, now: float) -> dict[str, str]:
    """The headers of one attempt to deliver an event.

    Parameters
    ----------
    secret:
        Known to sender and receiver; empty: the attempt is not signed.
    event_id:
        Of the event, the same at every attempt.
    body:
        What is posted.
    now:
        Seconds since 1970.
    """
    timestamp = str(int(now))
    headers = {EVENT_ID: event_id, TIMESTAMP: timestamp}
    if secret:
        headers[SIGNATURE] = f"{_VERSION}{_digest(secret, timestamp, event_id, body)}"
    return headers


def verify_signature(
    secret: bytes,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> str:
    """Check a webhook that was received.

    Parameters
    ----------
    secret:
        The secret that was agreed on.
    headers:
        Of the request; names in any case.
    body:
        Of the request, byte for byte.
    now:
        Seconds since 1970.
    tolerance_seconds:
        Largest difference between the timestamp and `now`.

    Returns
    -------
    The id of the event. The receiver acts on an id once and answers a repetition with success.

    Raises
    ------
    SignatureError
        A header is missing or malformed, the signature is of another body, id, time or secret, or
        the timestamp is too old or too far ahead.
    """
    if not secret:
        raise SignatureError("the secret is empty; give the one that the sender signs with")
    found = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (EVENT_ID, TIMESTAMP, SIGNATURE) if name.lower() not in found]
    if missing:
        raise SignatureError(f"headers {', '.join(missing)} are missing; expected a signed webhook")
    event_id, timestamp = found[EVENT_ID.lower()], found[TIMESTAMP.lower()]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MOST_DIGITS):
        raise SignatureError(f"{TIMESTAMP} is not a whole number of seconds since 1970")
    expected = _digest(secret, timestamp, event_id, body).encode()
    given = [part.strip() for part in found[SIGNATURE.lower()].split(",")]
    # Compared in constant time; a list of signatures is accepted while a secret is replaced.
    matches = [
        hmac.compare_digest(part.removeprefix(_VERSION).encode(), expected)
        for part in given
        if part.startswith(_VERSION)
    ]
    if not any(matches):
        raise SignatureError(
            f"{SIGNATURE} is not that of this body, event id and timestamp under the secret; "
            "refuse the request"
        )
    off = now - int(timestamp)
    if abs(off) > tolerance_seconds:
        raise SignatureError(
            f"{TIMESTAMP} is {off:.0f} s before now, at most {tolerance_seconds:g} s either way "
            "are accepted: the request was replayed, or a clock is wrong"
        )
    return event_id


def _digest(secret: bytes, timestamp: str, event_id: str, body: bytes) -> str:
    signed = f"{timestamp}.{event_id}.".encode() + body
    return hmac.new(secret, signed, hashlib.sha256).hexdigest()
