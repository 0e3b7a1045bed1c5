"""What every page of the console has in common as a route: access, and problems as pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from litestar import MediaType, Response, get
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.status_codes import HTTP_303_SEE_OTHER

from serving.console.console import FRAGMENT, Console, ConsoleRequest
from serving.console.rendering import render
from serving.http.auth import Access, address_of
from serving.http.problems import on_error, problem_of

LOGIN = "/login"
"""Path of the page that asks for a key."""

_UNAUTHENTICATED = 401


def page_route(path: str, filters: Callable[..., object] | None = None) -> get:
    """Decorator of a route that answers a page to requesters with the scope ``read``.

    Parameters
    ----------
    path:
        Its path.
    filters:
        Makes its dependency ``filters`` of the query.
    """
    given = None
    if filters is not None:
        given = {"filters": Provide(filters, sync_to_thread=False)}
    return get(path, dependencies=given, guards=[reads], include_in_schema=False)


def reads(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: sets the owner of the request, and the requester with its scopes for templates."""
    access: Access = connection.app.state["access"]
    authorization = connection.headers.get("authorization")
    requester = access.requester(authorization, "read", address_of(connection.scope))
    connection.scope["user"] = requester.name
    connection.scope.setdefault("state", {})["requester"] = requester


def unknown_page(
    console: Console, request: ConsoleRequest, error: NotFoundException
) -> Response[bytes]:
    """A path that no route has: a page for a browser, a problem for clients of the API."""
    asks_for_page = MediaType.HTML in request.headers.get("accept", "")
    return problem_page(console, request, error) if asks_for_page else on_error(request, error)


def problem_page(console: Console, request: ConsoleRequest, error: Exception) -> Response[bytes]:
    """An error as a page; without a valid key the page that asks for one."""
    problem, headers = problem_of(error)
    frame = console.frame(request)
    if problem.status == _UNAUTHENTICATED and FRAGMENT not in request.headers:
        return _to_login(request, was_signed_in=frame["signed_in"])
    body = render("problem.html", {**frame, "problem": problem})
    kept = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return Response(body, status_code=problem.status, headers=kept, media_type=MediaType.HTML)


def _to_login(request: ConsoleRequest, *, was_signed_in: bool) -> Response[bytes]:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = {} if wanted == "/" else {"next": wanted}
    if was_signed_in:
        query["ended"] = "1"
    target = f"{LOGIN}?{urlencode(query, safe='', quote_via=quote)}" if query else LOGIN
    return Response(b"", status_code=HTTP_303_SEE_OTHER, headers={"Location": target})
