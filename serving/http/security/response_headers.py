"""Headers of every answer, those of the server itself included."""

from __future__ import annotations

import base64
import hashlib

from serving.http.docs_page import STYLE

_YEAR = 31_536_000


def security_headers(*, tls: bool) -> list[tuple[str, str]]:
    """Headers that forbid sniffing, framing, caching, referrers and loading from elsewhere.

    The policy lets the page at /docs have its own style sheet, by its hash, and nothing else.

    Parameters
    ----------
    tls:
        Whether the endpoint itself serves TLS; then Strict-Transport-Security is sent.

    References
    ----------
    OWASP, HTTP Headers Cheat Sheet; CSP Level 3; RFC 6797.
    """
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    ]
    if tls:
        headers.append(("Strict-Transport-Security", f"max-age={_YEAR}"))
    return headers
