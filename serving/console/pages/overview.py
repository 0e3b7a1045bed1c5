"""The overview: how the book stands, what is due, and who is in trouble next."""

from __future__ import annotations

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromQuery

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.overview import overview_content
from serving.http.problems import invalid

DEFAULT_HOURS = 168
MOST_HOURS = 24 * 366


@page_route("/")
async def overview(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    hours: FromQuery[int | None] = None,
) -> Response[bytes]:
    """The overview; its chart shows the newest `hours`."""
    span = DEFAULT_HOURS if hours is None else hours
    if not 1 <= span <= MOST_HOURS:
        raise invalid(f"hours is {span}; give 1 to {MOST_HOURS}")
    return await console.page(request, "overview.html", lambda: overview_content(console, span))
