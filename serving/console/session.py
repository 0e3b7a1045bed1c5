"""Sign-in of the console: a cookie that holds the key which a page was given.

The cookie is sent only with requests that pages of this endpoint cause (``SameSite=Strict``), no
script can read it (``HttpOnly``), and it ends with the browser's session. It counts as the header
``Authorization`` of a request without one, so keys, scopes, expiry and revocation are those of the
API.

References
----------
RFC 6265bis, "Cookies: HTTP State Management Mechanism"; OWASP, Session Management Cheat Sheet.
"""

from __future__ import annotations

import re
from typing import Any

COOKIE = "margincast_key"
"""Name of the cookie."""

_VALUE = re.compile(rb"[A-Za-z0-9._~+/=-]{1,4000}")
_NAME = COOKIE.encode()


def with_session(scope: dict[str, Any]) -> None:
    """Take the cookie of a request for its ``Authorization``, where it has none.

    Parameters
    ----------
    scope:
        ASGI scope of the request; its headers are extended in place.
    """
    cookies: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"authorization":
            return
        if name == b"cookie":
            cookies.append(value)
    for pair in b";".join(cookies).split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == _NAME and _VALUE.fullmatch(value):
            scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer " + value)]
            return


def session_cookie(secret: str, *, secure: bool) -> str:
    """The header ``Set-Cookie`` that signs in; an empty secret signs out."""
    age = "" if secret else "; Max-Age=0"
    tls = "; Secure" if secure else ""
    return f"{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict{tls}{age}"


def is_secret(text: str) -> bool:
    """Whether a text can be a key or a token, and so the value of the cookie."""
    return _VALUE.fullmatch(text.encode("utf-8", "replace")) is not None
