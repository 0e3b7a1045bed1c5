"""The page of accounts: what is asked for by its filters, and links to other pages of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from decisions.errors import RequestError
from margin.life_cycle.states import State
from serving.account_filter import AccountFilter
from serving.account_listing import AccountListing, PageRequest

PATH = "/accounts"
"""Path of the page."""

ORDERS = {
    "deposit_to_meet": "largest deposit to meet",
    "headroom": "least headroom",
    "margin_ratio": "highest margin ratio",
    "equity": "largest equity",
    "probability": "highest probability",
    "account_id": "account",
}
"""Orders of the API, in words."""

STANDINGS = {
    "in_sync": "in sync",
    "out_of_sync": "out of sync",
    "suspect": "suspect prices",
    "problem": "no figures",
}
"""Conditions on the data of an account, in words."""

_CONDITIONS = {
    "in_sync": AccountFilter(in_sync=True),
    "out_of_sync": AccountFilter(in_sync=False),
    "suspect": AccountFilter(suspect=True),
    "problem": AccountFilter(problem=True),
}


@dataclass(frozen=True, slots=True)
class AccountsQuery:
    """What the address of the page says; empty texts are no condition.

    Attributes
    ----------
    search, state, sort, cursor:
        As in `serving.account_listing.PageRequest`.
    standing:
        One of `STANDINGS`.
    percent:
        Least probability of the longest horizon, per cent.
    limit:
        Accounts of a page.
    """

    search: str = ""
    state: str = ""
    standing: str = ""
    percent: str = ""
    sort: str = "deposit_to_meet"
    limit: int | None = None
    cursor: str = ""

    def request(self) -> PageRequest:
        """The page of the listing that it asks for; raises `RequestError`."""
        if self.standing and self.standing not in STANDINGS:
            raise RequestError(f"standing is {self.standing!r}; give one of {', '.join(STANDINGS)}")
        standing = _CONDITIONS.get(self.standing, AccountFilter())
        only = AccountFilter(
            self.search.strip() or None,
            standing.in_sync,
            standing.suspect,
            standing.problem,
            _share(self.percent),
        )
        cursor = self.cursor or None
        return PageRequest(self.sort, self.state or None, self.limit, cursor, only)

    def address(self, **changes: str) -> str:
        """The address of the page with some of it changed."""
        known = {
            "search": self.search.strip(),
            "state": self.state,
            "standing": self.standing,
            "percent": self.percent,
            "sort": "" if self.sort == "deposit_to_meet" else self.sort,
            "limit": "" if self.limit is None else str(self.limit),
            "cursor": "",
        }
        said = {name: value for name, value in (known | changes).items() if value}
        return f"{PATH}?{urlencode(said)}" if said else PATH


def accounts_view(
    listing: AccountListing, query: AccountsQuery, horizons: tuple[int, ...]
) -> dict[str, Any]:
    """What the template is given; raises as `AccountListing.page`.

    Parameters
    ----------
    listing:
        Reads the live book.
    query:
        What the address says.
    horizons:
        Of the model that answers, hours.
    """
    page = listing.page(query.request())
    return {
        "page": page,
        "last": page.first + len(page.accounts) - 1,
        "query": query,
        "horizons": [str(hours) for hours in horizons],
        "states": [state.label for state in State],
        "orders": ORDERS,
        "standings": STANDINGS,
        "sorts": {name: query.address(sort=name) for name in ORDERS},
        "first_page": query.address() if page.previous_cursor else None,
        "previous": _link(query, page.previous_cursor),
        "next": _link(query, page.next_cursor),
        "filtered": bool(query.search.strip() or query.state or query.standing or query.percent),
    }


def _link(query: AccountsQuery, cursor: str | None) -> str | None:
    return None if cursor is None else query.address(cursor=cursor)


def _share(percent: str) -> float | None:
    """Per cent as a share."""
    if not percent.strip():
        return None
    try:
        return float(percent) / 100.0
    except ValueError:
        raise RequestError(f"percent is {percent!r}; give a number from 0 to 100") from None
