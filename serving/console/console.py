"""What every page of the console works with, and how a page is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from litestar import MediaType, Request, Response
from litestar.datastructures import State

from serving.account_listing import AccountListing
from serving.admission.lane import Lane
from serving.admission.lanes import Lanes
from serving.console.rendering import has_fragment, render
from serving.console.session import cookie_name
from serving.console.views.verification import LedgerVerifier
from serving.enforcement.call_listing import CallListing
from serving.enforcement.control_listing import ControlListing
from serving.enforcement.instruction_listing import InstructionListing
from serving.http.auth import SCOPES, Requester
from serving.http.problems import invalid
from serving.service import Service

FRAGMENT = "X-Fragment"
"""Header of a request that wants one block of a page: its name."""

NAVIGATION = (
    ("/", "Overview"),
    ("/accounts", "Accounts"),
    ("/what-if", "What-if"),
    ("/calls", "Calls"),
    ("/market", "Market"),
    ("/model", "Model"),
    ("/audit", "Audit"),
)
"""Path and name of the pages that every page links to."""

_SECTIONS = {
    "/account": "/accounts",
    "/decision": "/accounts",
    "/call": "/calls",
    "/overrides": "/calls",
    "/record": "/audit",
}
"""Path in the navigation under which a page stands that has no entry of its own."""

ConsoleRequest = Request[str, Any, State]


@dataclass(frozen=True, slots=True)
class Console:
    """The pages of an endpoint.

    Attributes
    ----------
    service:
        Market, rules, model, ledger and limits.
    lanes:
        Threads in which pages are made.
    accounts, calls, instructions, controls:
        What pages show of the live book and of enforcement.
    verifier:
        Verifies the ledger on demand.
    """

    service: Service
    lanes: Lanes
    accounts: AccountListing
    calls: CallListing
    instructions: InstructionListing
    controls: ControlListing
    verifier: LedgerVerifier

    async def page(
        self,
        request: ConsoleRequest,
        template: str,
        content: Callable[[], Mapping[str, Any]],
        lane: Lane | None = None,
    ) -> Response[bytes]:
        """A page, or the part of it that the request names.

        Parameters
        ----------
        request:
            The request.
        template:
            File name of the page's template.
        content:
            What the template is given, computed in a thread.
        lane:
            Threads for that; None: those of look-ups.

        Raises
        ------
        ProblemError
            422: the page has no part of the name that the request gives.
        """
        fragment = request.headers.get(FRAGMENT)
        if fragment is not None and not has_fragment(template, fragment):
            raise invalid(f"{FRAGMENT} is {fragment!r}; the page has no such part")
        frame = self.frame(request)

        def made() -> bytes:
            return render(template, {**frame, **content()}, fragment)

        body = await (lane or self.lanes.read).run(made, self.service.settings.call_seconds)
        return Response(body, media_type=MediaType.HTML)

    def frame(self, request: ConsoleRequest) -> dict[str, Any]:
        """What every template is given: navigation, the requester and its rights."""
        requester: Requester | None = request.scope.get("state", {}).get("requester")
        return {
            "navigation": NAVIGATION,
            "path": request.url.path,
            "section": _SECTIONS.get(request.url.path, request.url.path),
            "requester": requester,
            "may": [s for s in SCOPES if requester is not None and requester.may(s)],
            "signs_in": self.service.settings.auth != "off",
            "signed_in": cookie_name(secure=request.url.scheme == "https") in request.cookies,
        }
