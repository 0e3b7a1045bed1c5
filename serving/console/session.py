"""Sign-in of the console: a cookie that holds the key which a page was given.

The cookie is sent only with requests that pages of this site cause (``SameSite=Strict``), no
script can read it (``HttpOnly``), and it ends with the browser's session. Over TLS it is sent over
TLS alone (``Secure``), and its name has a prefix that lets no other host of the site set it. It
counts as the header ``Authorization`` of a request without one, so keys, scopes, expiry and
revocation are those of the API.

References
----------
RFC 6265bis, "Cookies: HTTP State Management Mechanism"; OWASP, Session Management Cheat Sheet.
"""

from __future__ import annotations

import re
from typing import Any

COOKIE = "margincast_key"
"""Name of the cookie, over TLS after `HOST_PREFIX`."""

HOST_PREFIX = "__Host-"
"""Browsers take a cookie of such a name only from the host itself, over TLS."""

_VALUE = re.compile(rb"[A-Za-z0-9._~+/=-]{1,4000}")


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
    own = cookie_name(secure=scope.get("scheme") == "https").encode()
    for pair in b";".join(cookies).split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == own and _VALUE.fullmatch(value):
            scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer " + value)]
            return


def cookie_name(*, secure: bool) -> str:
    """Name of the cookie; `secure`: over TLS."""
    return HOST_PREFIX + COOKIE if secure else COOKIE


def session_cookie(secret: str, *, secure: bool) -> str:
    """The header ``Set-Cookie`` that signs in; an empty secret signs out."""
    age = "" if secret else "; Max-Age=0"
    tls = "; Secure" if secure else ""
    name = cookie_name(secure=secure)
    return f"{name}={secret}; Path=/; HttpOnly; SameSite=Strict{tls}{age}"


def is_secret(text: str) -> bool:
    """Whether a text can be a key or a token, and so the value of the cookie."""
    return _VALUE.fullmatch(text.encode("utf-8", "replace")) is not None
