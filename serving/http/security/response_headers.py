"""Headers of every answer, those of the server itself included."""

from __future__ import annotations

from collections.abc import Sequence

from litestar.types import Message, Send

_YEAR = 31_536_000


def security_headers(*, tls: bool) -> list[tuple[str, str]]:
    """Headers that forbid sniffing, framing, caching, referrers and loading from elsewhere.

    The policy lets pages load scripts, style sheets and pictures of this endpoint and call it, and
    nothing else. The chart library and Swagger UI have pictures as data URLs.

    Parameters
    ----------
    tls:
        Whether the endpoint itself serves TLS; then Strict-Transport-Security is sent.

    References
    ----------
    OWASP, HTTP Headers Cheat Sheet; CSP Level 3; RFC 6797.
    """
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
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


def without_caching(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers without what they say of caching, for answers that say it themselves."""
    return [header for header in headers if header[0].lower() != b"cache-control"]


def uncached_unless_said(send: Send) -> Send:
    """A `send` that forbids caching of answers that say nothing of it, as errors do."""

    async def with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                message["headers"] = [*headers, (b"cache-control", b"no-store")]
        await send(message)

    return with_header
