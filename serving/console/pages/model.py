"""The model: champion beside challenger, how well they forecast, and how far the book drifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromQuery

from decisions.errors import NoMarketError, NoRulesError, RequestError
from market.core.clock import format_time
from market.core.errors import MargincastError
from monitoring.shadow import SHADOW
from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views import model as view
from serving.console.views.model_drift import feature_drift, reference_of, score_drift


@dataclass(frozen=True, slots=True)
class ModelFilters:
    """What the page shows: a horizon in hours (None: the middle one), and features or not."""

    hours: int | None
    drift: bool


def model_filters(hours: FromQuery[int | None] = None, drift: FromQuery[int] = 0) -> ModelFilters:
    """The query of the page."""
    return ModelFilters(hours, bool(drift))


@page_route("/model", model_filters)
async def model_page(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    filters: NamedDependency[ModelFilters],
) -> Response[bytes]:
    """The page of the model."""
    lane = console.lanes.what_if if filters.drift else None
    return await console.page(request, "model.html", lambda: _content(console, filters), lane)


def _content(console: Console, filters: ModelFilters) -> dict[str, Any]:
    service = console.service
    champion, challenger = service.champion(), service.shadow.challenger()
    sides = [
        view.side("champion", champion, service.ledger),
        view.side("challenger", challenger, service.ledger, optional=True),
    ]
    present = [each for each in sides if each["bundle"] is not None]
    horizons = sorted({hours for each in present for hours in each["horizons"]})
    hours = filters.hours
    if hours is None and horizons:
        hours = horizons[len(horizons) // 2]
    if horizons and hours not in horizons:
        raise RequestError(f"hours is {hours}; give one of {', '.join(map(str, horizons))}")
    shown = present[0] if present else None
    review = None if shown is None else shown["review"]
    of_horizon = None if review is None or hours is None else review.horizons.get(hours)
    return {
        "sides": sides,
        "shown": shown,
        "horizons": horizons,
        "hours": hours,
        "wants_drift": filters.drift,
        "comparison": view.comparison(sides, hours) if shown and hours is not None else [],
        "baselines": view.baselines(shown["bundle"], hours) if shown and hours is not None else [],
        "charts": view.review_charts(present, hours) if hours is not None else {},
        "frontier": None if review is None else view.frontier_chart(review),
        "review": review,
        "of_horizon": of_horizon,
        "bins": [] if of_horizon is None else view.reliability_rows(of_horizon),
        **_live(console, filters),
        "shadow": _shadow(console),
    }


def _live(console: Console, filters: ModelFilters) -> dict[str, Any]:
    """Drift of the live book; the reason where there is none."""
    none: dict[str, Any] = {
        "scores": [],
        "features": None,
        "reference": None,
        "no_drift": "",
        "as_of": None,
    }
    model = console.service.champion().model
    if model is None:
        return none | {"no_drift": "no model answers"}
    try:
        book = console.accounts.book()
        reference = reference_of(model.bundle)
        scores = score_drift(book, model)
        features = feature_drift(console, book, model) if filters.drift else None
    except (NoMarketError, NoRulesError) as error:
        return none | {"no_drift": str(error)}
    except MargincastError as error:
        return none | {"no_drift": f"the live book cannot be compared: {error}"}
    reason = ""
    if reference is None:
        reason = "the bundle holds no reference of its training rows; a retraining writes one"
    elif not len(book.state):
        reason = "the live book is empty"
    elif not scores:
        reason = "the newest evaluation of the live book is of a model with other horizons"
    return {
        "scores": scores if not reason else [],
        "features": features,
        "reference": None
        if reference is None
        else {"rows": reference.rows, "span": [format_time(t) for t in reference.span]},
        "no_drift": reason,
        "as_of": format_time(book.as_of),
    }


def _shadow(console: Console) -> dict[str, Any]:
    """Shadow scores: how many this process made, and the newest on record."""
    newest = console.service.ledger.last_record(SHADOW)
    return {
        "counts": console.service.metrics.shadow_counts(),
        "newest": None
        if newest is None
        else {
            "chain": newest.chain,
            "seq": newest.seq,
            "at": format_time(newest.recorded_at),
            "challenger": str(newest.payload.get("challenger", "")),
            "scores": len(newest.payload.get("scores", ())),
        },
    }
