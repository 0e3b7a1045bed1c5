"""The page of one account: how it stands, why, what would liquidate it, and what is on record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from decisions.decision_group import CallBasis
from decisions.errors import NotFoundError
from decisions.messages import AccountProblem, Decision
from enforcement.calls.call import Call
from margin.book.account_portfolio import account_portfolio
from margin.liquidation.account import Levels, liquidation_of
from margin.liquidation.prices import Crossing
from market.accounts.book import Account
from market.core.clock import parse_time
from market.core.errors import CaseError, DataError
from serving.account_listing import AccountListing
from serving.console.charts import Chart, bar_chart, line_chart
from serving.console.views.accounts.levels import levels_content
from serving.console.views.accounts.requirement import requirement_chart
from serving.console.views.deadlines import TimeLeft, book_time, call_time_left
from serving.schemas.account_messages import AccountSummary
from serving.service import Service

HISTORY = 200
"""Most decisions that the charts are of."""

DECISIONS = 20
"""Decisions of a page of the table."""


def standing_view(service: Service, listing: AccountListing, account_id: str) -> dict[str, Any]:
    """How an account stands: what the part of the page that is refreshed is given.

    ``detail`` is None for an account that the live book does not hold but decisions on record do.

    Raises
    ------
    RequestError, NotFoundError, NoMarketError, NoRulesError, LedgerError
        As `AccountListing.account`.
    """
    try:
        detail = listing.account(account_id)
    except NotFoundError:
        if not service.ledger.last_decision_ids([account_id]):
            raise
        detail = None
    return {
        "account_id": account_id,
        "detail": detail,
        "now": None if detail is None else detail.evaluation,
        "horizons": [str(hours) for hours in service.horizons()],
        "standing": None if detail is None else standing_chart(detail.evaluation),
    }


def account_view(
    service: Service,
    listing: AccountListing,
    account_id: str,
    before: int | None,
    *,
    prices: bool,
    history: bool,
) -> dict[str, Any]:
    """What the template is given for the whole page.

    Parameters
    ----------
    service, listing:
        Read the market, the live book and the record.
    account_id:
        Its id.
    before:
        `next_before` of a page of decisions: table and charts go on from there; None: the newest.
    prices:
        Whether liquidation prices are searched: a search takes about a second.
    history:
        Whether the levels of the newest evaluations are read: that takes up to two seconds.

    Raises
    ------
    RequestError, NotFoundError, NoMarketError, NoRulesError, LedgerError
        As `standing_view` and `RecordedDecisions.page`.
    """
    content = standing_view(service, listing, account_id)
    basis = service.basis_now()
    held = service.book.account(account_id)
    decided: Decision | AccountProblem | None = None
    liquidation: list[dict[str, Any]] | str = []
    if held is not None:
        decided = service.explained_now(held.account, basis)
        if prices:
            liquidation = liquidation_rows(held.account, basis)
    detail = content["detail"]
    most = service.settings.max_page
    recorded = service.decisions.page(account_id, min(HISTORY, most), before)
    return content | {
        "calls": [] if detail is None else call_rows(detail.calls, book_time(service)),
        **_decided(decided),
        "prices": prices,
        "liquidation": liquidation if isinstance(liquidation, list) else [],
        "no_liquidation": liquidation if isinstance(liquidation, str) else None,
        "levels": levels_content(service, account_id) if history and detail else None,
        "monitored": service.settings.monitoring,
        **account_history(recorded["decisions"]),
        "altered": len(recorded["altered"]),
        "older": recorded["next_before"],
        "page": service.decisions.page(account_id, min(DECISIONS, most), before),
        "before": before,
    }


def call_rows(calls: Sequence[Call], now: int) -> list[tuple[Call, TimeLeft]]:
    """Calls, each with its deadline as seen at `now`, nanoseconds."""
    return [(call, call_time_left(call, now)) for call in calls]


def standing_chart(now: AccountSummary) -> Chart | None:
    """Equity beside what is asked for; None for an account without figures."""
    if now.equity is None:
        return None
    bars = {
        "equity": (now.equity, "series-1"),
        "maintenance margin": (now.maintenance_margin, "series-5"),
        "initial margin": (now.initial_margin, "series-5"),
        "total requirement": (now.total_requirement, "series-2"),
    }
    return bar_chart(
        "Equity against margins and requirement",
        list(bars),
        [value for value, _ in bars.values()],
        y_title="settlement currency",
        colors=[color for _, color in bars.values()],
        horizontal=True,
    )


def liquidation_rows(account: Account, basis: CallBasis) -> list[dict[str, Any]] | str:
    """Liquidation and bankruptcy prices by underlying, as `margincast liquidation` finds them; in
    words why there are none."""
    try:
        priced = account_portfolio(account, basis.snapshot.view(), basis.ruleset)
        figures = liquidation_of(priced.portfolio, basis.ruleset)
    except (CaseError, DataError) as error:
        return str(error)
    return [
        {
            "underlying": name,
            "price": priced.portfolio.underlyings[name].spot,
            **_levels(levels, priced.portfolio.underlyings[name].spot),
        }
        for name, levels in figures.underlyings.items()
    ]


def _levels(levels: Levels, price: float) -> dict[str, Any]:
    return {
        "liquidation": _crossing(levels.liquidation, price),
        "bankruptcy": _crossing(levels.bankruptcy, price),
    }


def _crossing(crossing: Crossing, price: float) -> dict[str, Any]:
    """The nearest prices below and above, each with its distance from today's as a share."""

    def side(value: float | None) -> tuple[float, float] | None:
        return None if value is None else (value, value / price - 1.0)

    return {"down": side(crossing.down), "up": side(crossing.up), "passed": crossing.passed}


def _decided(found: Decision | AccountProblem | None) -> dict[str, Any]:
    """The decision at the newest market, with its reasons and parts; or why there is none."""
    if not isinstance(found, Decision):
        problem = None if found is None else found.detail
        return {"decided": None, "problem": problem, "reasons": [], "waterfall": None, "parts": []}
    plain: dict[str, Any] = msgspec.to_builtins(found, str_keys=True)
    explanation = plain["explain"]
    return {
        "decided": plain,
        "problem": None,
        "reasons": explanation["reasons"],
        "waterfall": requirement_chart(explanation),
        "parts": explanation["positions"],
    }


def account_history(newest_first: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Charts of requirement and probabilities over decisions on record, by decision time; those
    of one time in the order of recording."""
    recorded = newest_first[::-1]
    decisions = sorted(recorded, key=lambda one: parse_time(one["as_of"]))
    times = [one["as_of"] for one in decisions]
    names = {"equity": "equity", "maintenance_margin": "maintenance margin"}
    names |= {"initial_margin": "initial margin", "total_requirement": "total requirement"}
    amounts = {words: [one[name] for one in decisions] for name, words in names.items()}
    hours = sorted({int(h) for one in decisions for h in one["probability"] or ()})
    probabilities = {
        f"within {h} h": [(one["probability"] or {}).get(str(h)) for one in decisions]
        for h in hours
    }
    shown = len(decisions) > 1
    return {
        "recorded": len(decisions),
        "since": times[0] if times else None,
        "until": times[-1] if times else None,
        "requirement_history": line_chart(
            "Equity and requirement at each decision on record",
            times,
            amounts,
            y_title="settlement currency",
        )
        if shown
        else None,
        "probability_history": line_chart(
            "Probability of a call at each decision on record",
            times,
            probabilities,
            y_title="calibrated probability",
            y_format=".2%",
        )
        if shown and hours
        else None,
    }
