"""The what-if page: before and after, remedies, marginal requirements, the scenario heat map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from decisions.errors import NoAccountScoredError, RequestError
from decisions.messages import AccountProblem, Decision, ScoreResponse
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from decisions.what_if.what_if_analysis import MAX_WORK
from margin.what_if.shocks import ALL, Shocks, coin_of
from market.accounts.book import Account
from market.sources.http import account_update
from serving.account_listing import PageRequest
from serving.console.charts import Chart, heat_map
from serving.console.console import Console
from serving.console.views.what_if_inputs import TRADES, WhatIfInputs, read_inputs
from serving.recorded_decisions import DEFAULT_PAGE
from serving.schemas.account_messages import AccountDetail

SPOT_STEPS = tuple(range(-30, 35, 5))
"""Price changes of the heat map, per cent."""

VOLATILITY_STEPS = (-50, -25, 0, 25, 50, 100)
"""Changes of implied volatility of the heat map, per cent."""

_FIGURES = (
    ("Equity", "equity"),
    ("Initial margin", "initial_margin"),
    ("Maintenance margin", "maintenance_margin"),
    ("Headroom", "headroom"),
    ("Add-on", "add_on"),
    ("Total requirement", "total_requirement"),
    ("Deposit to meet", "deposit_to_meet"),
)


def what_if_content(console: Console, query: Mapping[str, str]) -> dict[str, Any]:
    """What the page shows for a query, see `what_if_inputs`.

    Raises
    ------
    RequestError, NotFoundError
        An input is impossible, or there is no such account.
    """
    name = query.get("account", "")
    suggestions = console.accounts.page(PageRequest(limit=_most(console))).accounts
    found: dict[str, Any] = {
        "account_id": name,
        "suggestions": [one.account_id for one in suggestions],
        "query": dict(query),
        "detail": None,
    }
    if not name:
        return found
    detail = console.accounts.account(name)
    account = _account(detail)
    inputs = read_inputs(query, account)
    request = _request(detail, account, inputs)
    heat = None
    try:
        result = _result(console.service.what_if(request))
    except NoAccountScoredError as error:
        result = _result(WhatIfResponse(ScoreResponse([], error.problems), ScoreResponse([], [])))
    else:
        heat = None if inputs.heat == "off" else scenario_chart(console, account, inputs)
    return found | {
        "detail": detail,
        "account": account,
        "coins": _coins(console, account, inputs),
        "options": _has_options(account, inputs),
        "trade_rows": range(1, TRADES + 1),
        "inputs": inputs,
        "target": _target(detail, inputs),
        "result": result,
        "heat": heat,
        "instruments": sorted({position.instrument for position in account.positions}),
    }


def scenario_chart(console: Console, account: Account, inputs: WhatIfInputs) -> Chart | None:
    """Headroom, or the probability of a call, of an account after its changes over a grid.

    With options spot changes × volatility changes, the probability that of the model's longest
    horizon up to 24 h; without options volatility changes nothing: one row of headroom, or the
    probability by horizon. All coins move together; the page's own shocks are not added. None
    where no cell has a figure: the account cannot be valued, or no model answers.
    """
    options = _has_options(account, inputs)
    volatilities = VOLATILITY_STEPS if options else (0,)
    cells = [
        Shocks({ALL: spot / 100.0}, volatility / 100.0)
        for volatility in volatilities
        for spot in SPOT_STEPS
    ]
    asked = inputs.heat == "probability"
    grid = console.service.scenario_grid(account, inputs.changes, cells, probability=asked)
    if not np.isfinite(grid.probability if asked else grid.headroom).any():
        return None
    shape = (len(volatilities), len(SPOT_STEPS))
    x = [f"{spot:+d}%" for spot in SPOT_STEPS]
    y = [f"{volatility:+d}%" for volatility in volatilities] if options else ["all"]
    y_title = "implied volatility" if options else ""
    if not asked:
        values = grid.headroom.reshape(shape)
        widest = float(np.nanmax(np.abs(values)))
        return heat_map(
            "Headroom by price and volatility" if options else "Headroom by price",
            x,
            y,
            _plain(values),
            x_title="price of all coins",
            y_title=y_title,
            bounds=(-widest, widest),
            z_format=".3s",
        )
    horizons = console.service.horizons()[: grid.probability.shape[1]]
    if options:
        place = max((i for i, hours in enumerate(horizons) if hours <= 24), default=0)
        values = grid.probability[:, place].reshape(shape)
        title = f"Probability of a call within {horizons[place]} h"
    else:
        values = grid.probability.T
        y, y_title = [f"{hours} h" for hours in horizons], "horizon"
        title = "Probability of a call by horizon"
    return heat_map(
        title,
        x,
        y,
        _plain(values),
        x_title="price of all coins",
        y_title=y_title,
        bounds=(0.0, 1.0),
        z_format=".1%",
    )


def _plain(values: np.ndarray[Any, Any]) -> list[list[float | None]]:
    return [[value if value == value else None for value in row] for row in values.tolist()]


def _most(console: Console) -> int:
    return min(DEFAULT_PAGE, console.service.settings.max_page)


def _account(detail: AccountDetail) -> Account:
    return account_update(detail.account, 0).account


def _target(detail: AccountDetail, inputs: WhatIfInputs) -> float:
    return inputs.target if inputs.target is not None else detail.evaluation.add_on or 0.0


def _request(detail: AccountDetail, account: Account, inputs: WhatIfInputs) -> WhatIfRequest:
    """The request to the API with the same inputs, checked as that is.

    Raises
    ------
    RequestError
        The API would not take it.
    """
    small = len(account.positions) ** 2 <= MAX_WORK
    sides = ("buy", "sell") if inputs.largest is not None and small else ()
    given: dict[str, Any] = {
        "accounts": [asdict(account)],
        "changes": inputs.changes,
        "shocks": inputs.shocks,
        "target_headroom": _target(detail, inputs) if small else None,
        "marginal": small,
        "largest": [
            {"account_id": account.account_id, "instrument": inputs.largest, "side": side}
            for side in sides
        ],
    }
    try:
        return msgspec.convert(msgspec.to_builtins(given), WhatIfRequest)
    except msgspec.ValidationError as error:
        raise RequestError(f"the inputs make no request: {error}") from None


def _has_options(account: Account, inputs: WhatIfInputs) -> bool:
    names = [position.instrument for position in account.positions]
    names += [delta.instrument for change in inputs.changes for delta in change.positions]
    return any(name.endswith(("-C", "-P")) for name in names)


def _coins(console: Console, account: Account, inputs: WhatIfInputs) -> list[str]:
    """Names that a shock of their own can be given: the coins of positions, collateral and trades
    that the market has, and what the query names."""
    held = [position.instrument for position in account.positions]
    held += [delta.instrument for change in inputs.changes for delta in change.positions]
    held += [balance.asset for balance in account.collateral]
    named = {name for name in inputs.shocks.spot if name != ALL}
    market = {coin_of(name) for name in console.service.basis_now().snapshot.features.symbols}
    coins = {coin_of(name.partition("-")[0]) for name in held} & market
    return sorted(named | (coins - {coin_of(name) for name in named}))


def _result(response: WhatIfResponse) -> dict[str, Any]:
    before, after = response.before.decisions[:1], response.after.decisions[:1]
    problems: list[AccountProblem] = [*response.before.errors, *response.after.errors]
    return {
        "as_of": next((one.as_of for one in (*before, *after)), None),
        "problems": list(dict.fromkeys(problem.detail for problem in problems)),
        "figures": _compare(before[0], after[0]) if before and after else [],
        "probabilities": _probabilities(before, after),
        "states": [_state(one) for one in (*before, *after)],
        "degraded": [one.degraded for one in (*before, *after) if one.degraded],
        "remedies": _first(response.remedies),
        "marginal": _first(response.marginal),
        "largest": [] if response.largest is msgspec.UNSET else response.largest,
    }


def _first(values: Any) -> Any:
    return None if values is msgspec.UNSET or not values else values[0]


def _compare(before: Decision, after: Decision) -> list[tuple[str, float, float]]:
    return [(title, getattr(before, name), getattr(after, name)) for title, name in _FIGURES]


def _probabilities(
    before: list[Decision], after: list[Decision]
) -> list[tuple[str, float | None, float | None]]:
    known = [one.probability or {} for one in (*before, *after)]
    if len(known) < 2:
        return []
    names = sorted({hours for one in known for hours in one}, key=int)
    return [(hours, known[0].get(hours), known[1].get(hours)) for hours in names]


def _state(decision: Decision) -> tuple[str, str]:
    """Label of a state, and the state in words."""
    if decision.headroom < 0.0:
        return "liquidating", "below maintenance margin"
    if decision.deposit_to_meet > 0.0:
        return "called", "short of requirement: a call"
    return "met", "meets the requirement"
