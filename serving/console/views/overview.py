"""What the overview shows: calls, accounts, requirement, market stress, and health."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from decisions.errors import NoMarketError, NoRulesError, NotFoundError
from features.state.snapshot import MarketSnapshot
from margin.floors.stressed_buffer import market_stress
from margin.life_cycle.states import State
from market.core.clock import HOUR, format_time
from market.core.errors import AlteredError, BundleError
from models.bundle.pointer import CHALLENGER, read_pointer
from monitoring.evaluation.lease import holder_of
from monitoring.evaluation.monitor import LEASE
from monitoring.evaluation.record.book_totals import BookTotals
from serving.console.charts import Chart, line_chart
from serving.console.console import Console
from serving.console.views.deadlines import book_time, duration, open_call_figures
from serving.service import Service

RISKIEST = 10
"""Accounts in the list of the riskiest."""

MOST_POINTS = 240
"""Times of the chart; of more records the newest of each part of the span is shown."""

STRESS_LEVELS = ((0.75, "calm"), (1.5, "usual"), (3.0, "elevated"))
"""Upper ends of the levels of market stress, in their order; above the last it is `SEVERE`. The
last two are the ends of the default schedule of the floor ``stressed_buffer``."""

SEVERE = "severe"


def overview_content(console: Console, hours: int) -> dict[str, Any]:
    """What the template of the overview is given.

    Parameters
    ----------
    console:
        The endpoint.
    hours:
        Span of the chart, up to the newest totals.

    Raises
    ------
    LedgerError
        Something cannot be read.
    """
    service = console.service
    content: dict[str, Any] = {"hours": hours, "problem": None, "as_of": None}
    try:
        content |= _book(console)
        content["calls"] = open_call_figures(console.calls.all_open().values(), book_time(service))
    except (NoMarketError, NoRulesError) as error:
        content["problem"] = str(error)
    return content | _requirement(service, hours) | {"health": _health(console)}


def _book(console: Console) -> dict[str, Any]:
    service = console.service
    basis = service.basis_now()
    book = service.book.at(basis.snapshot, basis.ruleset)
    counts = np.bincount(book.state.states.state, minlength=len(State))
    evaluated = book.state.evaluated_at
    return {
        "as_of": format_time(book.as_of),
        "evaluated_at": None if evaluated is None else format_time(evaluated),
        "accounts": len(book.state),
        "states": [(s.label, int(counts[s])) for s in State if counts[s]],
        "horizons": service.horizons(),
        "riskiest": console.accounts.riskiest(book, RISKIEST),
        "stress": stress_figures(basis.snapshot),
        "market": _market(service, basis.snapshot),
    }


def stress_figures(snapshot: MarketSnapshot) -> dict[str, Any]:
    """Market stress and correlation at one time.

    ``ratio``: the median over symbols of newest over long-run volatility, the figure of
    `margin.floors.stressed_buffer.market_stress`; ``level`` by `STRESS_LEVELS`; ``slow`` and
    ``fast``: the mean over symbols of the features ``mean_correlation`` and
    ``mean_correlation_fast``; ``median`` of fast over slow volatility as
    `MarketSnapshot.volatility_ratio`. None where nothing is known.
    """
    ratio = _known(market_stress(snapshot.view()))
    return {
        "ratio": ratio,
        "level": None if ratio is None else stress_level(ratio),
        "levels": STRESS_LEVELS,
        "severe": SEVERE,
        "week": _known(snapshot.volatility_ratio()),
        "slow": _mean(snapshot, "mean_correlation"),
        "fast": _mean(snapshot, "mean_correlation_fast"),
    }


def stress_level(ratio: float) -> str:
    """The level of a ratio in words."""
    return next((name for end, name in STRESS_LEVELS if ratio < end), SEVERE)


def _mean(snapshot: MarketSnapshot, column: str) -> float | None:
    values = snapshot.features.column(column)[0]
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _market(service: Service, snapshot: MarketSnapshot) -> dict[str, Any]:
    close, usable = int(snapshot.features.closes[0]), snapshot.usable()
    names = snapshot.features.symbols
    return {
        "close": format_time(close),
        "age": duration(snapshot.as_of - close),
        "symbols": len(names),
        "stale": [name for name, fit in zip(names, usable, strict=True) if not fit],
        "suspect": sorted({name for name, _, _ in service.live.state.suspect_prices}),
    }


def _health(console: Console) -> dict[str, Any]:
    service = console.service
    readiness = service.readiness()
    try:
        champion, no_champion = service.model().sha256, ""
    except NotFoundError as error:
        champion, no_champion = None, str(error)
    try:
        challenger = read_pointer(service.settings.bundles, CHALLENGER)
    except BundleError as error:
        challenger = None
        readiness.reasons.append(str(error))
    holder = holder_of(service.ledger, LEASE)
    return {
        "readiness": readiness,
        "champion": champion,
        "no_champion": no_champion,
        "challenger": challenger,
        "leader": None if holder is None else holder[0],
        "evaluation_age": service.book_follower.age_seconds(),
        "undelivered": console.controls.undelivered(),
        "modes": console.controls.modes(),
    }


def _requirement(service: Service, hours: int) -> dict[str, Any]:
    """The chart, and why there is none; since when there are totals, where that is later than the
    span begins."""
    try:
        totals = service.totals.since(0)
    except AlteredError as error:
        return {"requirement": None, "no_requirement": str(error), "totals_since": None}
    if not totals:
        return {"requirement": None, "no_requirement": None, "totals_since": None}
    late = totals[0].as_of > totals[-1].as_of - hours * HOUR
    return {
        "requirement": requirement_chart(totals, hours),
        "no_requirement": None,
        "totals_since": format_time(totals[0].as_of) if late else None,
    }


def requirement_chart(totals: Sequence[BookTotals], hours: int) -> Chart:
    """Equity, maintenance margin, add-on and total requirement of the book over time.

    Parameters
    ----------
    totals:
        At least one, the oldest first, see `monitoring.evaluation.record.book_totals`.
    hours:
        Span of the chart, up to the newest.
    """
    begin = totals[-1].as_of - hours * HOUR
    shown = thinned([one for one in totals if one.as_of >= begin])
    return line_chart(
        f"Equity and requirement of the book, last {hours} h",
        [format_time(one.as_of) for one in shown],
        {
            "equity": [one.equity for one in shown],
            "total requirement": [one.total_requirement for one in shown],
            "maintenance margin": [one.maintenance_margin for one in shown],
            "add-on": [one.add_on for one in shown],
        },
        y_title="settlement currency",
        y_format=".3s",
    )


def thinned(totals: Sequence[BookTotals], most: int = MOST_POINTS) -> list[BookTotals]:
    """The newest of each of `most` equal parts of the span; all of them where they are fewer."""
    if len(totals) <= most:
        return list(totals)
    times = [one.as_of for one in totals]
    first, last = times[0], times[-1]
    ends = [first + (last - first) * (n + 1) // most for n in range(most)]
    places = {bisect_left(times, end + 1) - 1 for end in ends}
    return [totals[place] for place in sorted(places)]
