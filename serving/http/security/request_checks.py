"""Checks of Host, Origin and Content-Type, which a web page cannot choose freely.

A web page that an operator opens may send requests to any address that the browser reaches,
including this endpoint. The browser sends the page's origin with each of them, Host contains the
name that DNS rebinding pointed here, and without a preflight a page can send only the content types
of forms and plain text. So these three headers tell clients from pages where no key is required.

References
----------
Fetch Standard, "CORS protocol"; RFC 9110, 7.2 and 15.5.16; Jackson et al. (2007), Protecting
browsers from DNS rebinding attacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from litestar.types import Message, Send

from serving.http.answers import Answer, problem_answer
from serving.http.problems import ProblemError, bad_request
from serving.settings import ServingSettings, is_loopback

_JSON = b"application/json"
_BODILESS = frozenset(("GET", "HEAD", "OPTIONS"))
_HEALTH = frozenset(("/health/live", "/health/ready"))
_SINGLE = frozenset((b"authorization", b"idempotency-key", b"request-timeout"))
"""Headers with one value, of which a proxy and the endpoint could choose different ones."""

_MOST_KNOWN = 64
"""Most spellings of allowed hosts, with their ports, that are remembered."""

_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, request-timeout, x-request-id",
    ),
    (b"access-control-max-age", b"600"),
)
_EXPOSED = (
    b"access-control-expose-headers",
    b"idempotent-replayed, ratelimit, retry-after, x-request-id",
)


class RequestChecks:
    """Refuses requests of foreign pages and bodies of other types.

    - **Host** must be a loopback name, one of ``hosts`` or the listening address, with any port. It
      is checked if no key is required or ``hosts`` is set, except for ``/health/live`` and
      ``/health/ready``, which probes request by other addresses.
    - **Origin**, if there is one, must be the scheme and host of the request or one of
      ``origins``; only the latter get CORS headers.
    - **Content-Type** of a body must be ``application/json``. It may be
      absent: browsers send the Origin of a page with every such request.

    Parameters
    ----------
    settings:
        Of the endpoint.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._open = settings.auth == "off"
        self._checks_host = self._open or bool(settings.hosts)
        self._hosts = {host.lower() for host in settings.hosts}
        if not _is_unspecified(settings.host):
            self._hosts.add(settings.host.lower())
        self._origins = frozenset(origin.lower().encode() for origin in settings.origins)
        self._known: set[bytes] = set()

    def refusal(self, scope: Mapping[str, Any]) -> Answer | None:
        """The answer to a refused request; None if it is accepted.

        Also answers the preflight of an allowed origin.
        """
        host = origin = content_type = None
        singles: list[bytes] = []
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    return problem_answer(_bad_host(b"two hosts"))
                host = value
            elif name == b"origin":
                origin = value if origin is None else b"null"
            elif name == b"content-type":
                content_type = value
            elif name in _SINGLE:
                if name in singles:
                    text = f"the header {name.decode()} is given twice; give it once"
                    return problem_answer(bad_request(text))
                singles.append(name)
        if (
            self._checks_host
            and host not in self._known
            and not self._allows_host(host)
            and scope["path"] not in _HEALTH
        ):
            return problem_answer(_bad_host(host))
        if origin is not None:
            if not self._allows_origin(origin, scope.get("scheme", "http"), host):
                return problem_answer(_bad_origin(origin))
            if scope["method"] == "OPTIONS" and self._is_configured(origin):
                return Answer(204, list(_PREFLIGHT), b"")
        if (
            content_type is not None
            and content_type != _JSON
            and not _is_json(content_type)
            and scope["method"] not in _BODILESS
        ):
            return problem_answer(_bad_type(content_type))
        return None

    def allowing(self, scope: Mapping[str, Any], send: Send) -> Send:
        """A `send` that lets an allowed foreign origin read the answer; else `send` itself."""
        if not self._origins:
            return send
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        allowed = self._is_configured(origin)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"vary", b"Origin")]
                if allowed:
                    headers += ((b"access-control-allow-origin", origin), _EXPOSED)
                message["headers"] = headers
            await send(message)

        return with_headers

    def _allows_host(self, host: bytes | None) -> bool:
        name = None if host is None else _name_of(host)
        if name is None or not (name in self._hosts or is_loopback(name)):
            return False
        if host is not None and len(self._known) < _MOST_KNOWN:
            self._known.add(host)
        return True

    def _allows_origin(self, origin: bytes, scheme: str, host: bytes | None) -> bool:
        own = b"" if host is None else scheme.encode() + b"://" + host.lower()
        return (bool(own) and origin.lower() == own) or self._is_configured(origin)

    def _is_configured(self, origin: bytes) -> bool:
        return origin.lower() in self._origins


def _name_of(host: bytes) -> str | None:
    """The name or address in a Host header, without port and brackets; None if it is none."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        return name if bracket and (not port or _is_port(port)) else None
    name, colon, port = text.partition(":")
    return name.removesuffix(".") if not colon or _is_port(f":{port}") else None


def _is_port(text: str) -> bool:
    digits = text.removeprefix(":")
    return text.startswith(":") and digits.isascii() and (not digits or digits.isdigit())


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_json(content_type: bytes) -> bool:
    """Whether a type is JSON in UTF-8."""
    kind, *parameters = content_type.lower().split(b";")
    return kind.strip() == _JSON and all(map(_is_utf8, parameters))


def _is_utf8(parameter: bytes) -> bool:
    name, _, value = parameter.strip().partition(b"=")
    return not name or (name == b"charset" and value.strip(b'"') in (b"utf-8", b"utf8"))


def _shown(value: bytes | None) -> str:
    return "none" if value is None else repr(value[:100].decode("latin-1"))


def _bad_host(host: bytes | None) -> ProblemError:
    return ProblemError(
        403,
        "host-refused",
        f"the host of the request is {_shown(host)}; ask by a loopback name or the address that "
        "is listened on, or add the name to [serving] hosts",
    )


def _bad_origin(origin: bytes) -> ProblemError:
    return ProblemError(
        403,
        "origin-refused",
        f"the request comes from a page of {_shown(origin)}; only pages of this host may call, or "
        "those of [serving] origins",
    )


def _bad_type(content_type: bytes) -> ProblemError:
    return ProblemError(
        415,
        "unsupported-media-type",
        f"the type of the body is {_shown(content_type)}; send Content-Type: application/json",
        headers={"Accept": "application/json"},
    )
