"""The overview: how the book stands, what is due, and who is in trouble next."""

from __future__ import annotations

from typing import Any

import numpy as np
from litestar import Response
from litestar.di import NamedDependency

from margin.life_cycle.states import State
from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route


@page_route("/")
async def overview(request: ConsoleRequest, console: NamedDependency[Console]) -> Response[bytes]:
    """The overview."""
    return await console.page(request, "overview.html", lambda: _content(console))


def _content(console: Console) -> dict[str, Any]:
    book = console.accounts.book()
    counts = np.bincount(book.state.states.state, minlength=len(State))
    return {
        "as_of": book.as_of,
        "accounts": len(book.state),
        "states": {state.label: int(counts[int(state)]) for state in State},
        "readiness": console.service.readiness(),
    }
