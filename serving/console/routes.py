"""Routes of the console: its pages, its assets, signing in and out."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from litestar import MediaType, Response, Router, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Redirect
from litestar.status_codes import HTTP_204_NO_CONTENT, HTTP_303_SEE_OTHER
from msgspec import Meta

from decisions.errors import NotFoundError
from serving.console.assets import PREFIX, asset, packed
from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import LOGIN, problem_page
from serving.console.pages.account import account
from serving.console.pages.accounts import accounts
from serving.console.pages.audit import audit_page, extract, record_page, verify
from serving.console.pages.call import call
from serving.console.pages.calls import calls
from serving.console.pages.decision import decision
from serving.console.pages.market import market
from serving.console.pages.model import model_page
from serving.console.pages.overrides import overrides
from serving.console.pages.overview import overview
from serving.console.pages.what_if import what_if
from serving.console.rendering import render
from serving.console.session import is_secret, session_cookie
from serving.http.auth import Access, address_of
from serving.http.problems import EXCEPTION_HANDLERS, invalid
from serving.http.strict_body import Encoded, StrictBody

PAGES = (
    overview,
    calls,
    call,
    overrides,
    model_page,
    audit_page,
    record_page,
    what_if,
    market,
    accounts,
    account,
    decision,
)
"""Routes of the pages."""

_OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\x7f\\]*")
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?:1|0\.0*[1-9])[\d.]*\s*)?(?:,|$)", re.IGNORECASE)
_FOREVER = "public, max-age=31536000, immutable"


class SignInRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key, or the token, with which pages are asked for from now on."""

    key: Annotated[str, Meta(min_length=1, max_length=4_000)]


@get(PREFIX + "{version:str}/{name:str}", include_in_schema=False, sync_to_thread=True)
def static_asset(
    request: ConsoleRequest, version: FromPath[str], name: FromPath[str]
) -> Response[bytes]:
    """A style sheet, a script or a picture; its path names its content."""
    found = asset(name)
    if found.path != f"{PREFIX}{version}/{name}":
        raise NotFoundError(f"asset {name!r} has another content now; load the page again")
    headers = {"Cache-Control": _FOREVER, "Vary": "Accept-Encoding"}
    if not _GZIP.search(request.headers.get("accept-encoding", "")):
        return Response(found.content, media_type=found.content_type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(packed(name), media_type=found.content_type, headers=headers)


@get("/favicon.ico", include_in_schema=False, sync_to_thread=False)
def favicon() -> Redirect:
    """The icon, for pages that do not name it: those of the documentation and answers in JSON."""
    return Redirect(asset("icon.svg").path)


@get(LOGIN, include_in_schema=False, sync_to_thread=True)
def login(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    next: FromQuery[str | None] = None,  # noqa: A002  its name in the URL
    ended: FromQuery[bool] = False,
) -> Response[bytes]:
    """The page that asks for a key, and leads to `next` then; at once where none is needed.

    `ended` says that a key that was signed in with is no longer valid.
    """
    frame = console.frame(request)
    if not frame["signs_in"]:
        return Response(b"", status_code=HTTP_303_SEE_OTHER, headers={"Location": _own_path(next)})
    content = {"signed_in": False, "next": _own_path(next), "ended": ended}
    body = render("login.html", {**frame, **content})
    return Response(body, media_type=MediaType.HTML)


@post(
    "/console/session",
    dto=StrictBody[SignInRequest],
    return_dto=None,
    include_in_schema=False,
    status_code=HTTP_204_NO_CONTENT,
    exception_handlers=EXCEPTION_HANDLERS,
    sync_to_thread=True,
)
def sign_in(data: JSONBody[Encoded[SignInRequest]], request: ConsoleRequest) -> Response[None]:
    """Check a key and set the cookie with it."""
    key = data.decode().key.strip()
    if not is_secret(key):
        raise invalid("the key has characters that no key has; give it as `keys add` printed it")
    access: Access = request.app.state["access"]
    access.requester(f"Bearer {key}", "read", address_of(request.scope))
    return _with_cookie(request, key)


@delete("/console/session", include_in_schema=False, sync_to_thread=False)
def sign_out(request: ConsoleRequest) -> Response[None]:
    """Take the cookie back."""
    return _with_cookie(request, "")


def _with_cookie(request: ConsoleRequest, secret: str) -> Response[None]:
    cookie = session_cookie(secret, secure=request.url.scheme == "https")
    return Response(None, status_code=HTTP_204_NO_CONTENT, headers={"Set-Cookie": cookie})


def _own_path(path: str | None) -> str:
    """A path of this endpoint; what could lead to another one is replaced by ``/``.

    Browsers take a backslash for a slash and leave out tabs and line ends, so neither may stand
    there.
    """
    return path if path is not None and _OWN_PATH.fullmatch(path) else "/"


def console_routes(console: Console) -> Router:
    """All routes of the console."""

    def failed(request: ConsoleRequest, error: Exception) -> Response[bytes]:
        return problem_page(console, request, error)

    return Router(
        "/",
        route_handlers=[*PAGES, static_asset, favicon, login, sign_in, sign_out, extract, verify],
        dependencies={"console": Provide(lambda: console, sync_to_thread=False)},
        exception_handlers=dict.fromkeys(EXCEPTION_HANDLERS, failed),
    )
