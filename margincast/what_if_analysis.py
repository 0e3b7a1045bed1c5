"""Decisions before and after changes of accounts and shocks of the market, and remedies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import pandas as pd
import pyarrow as pa

from decisions.book_scoring import DecisionBasis
from decisions.decision import Outcome, decide
from decisions.decision_table import decision_table
from decisions.errors import RequestError
from decisions.messages import AccountChange, PositionChange
from decisions.what_if.changes import apply_changes, trade_prices
from decisions.what_if.messages import RemediesOut, WhatIfRequest
from decisions.what_if.shocks import enter_before_shock, shock_market
from decisions.what_if.what_if_analysis import analyse, check_analysis
from margin.what_if.shocks import Shocks
from margincast.frames import Frame, Time, table_of
from margincast.inputs import Inputs, read_inputs
from margincast.market_data import Market
from margincast.model import Model, forecaster_of
from margincast.scoring import WITHOUT_MODEL
from market.accounts.account_columns import numbers
from market.accounts.account_tables import AccountTable
from market.core.errors import DataError


@dataclass(frozen=True, eq=False)
class Scenario:
    """What would change, and what is asked.

    Attributes
    ----------
    deposits:
        Cash added by account_id, settlement currency; negative: a withdrawal.
    trades:
        A frame account_id, instrument, quantity (signed, added to the position). Trades are done
        at the mark before the shock; several of one account add up.
    spot:
        Relative change of prices by coin (``BTC``) or symbol; ``"*"`` is that of all others: -0.1
        is a fall by a tenth.
    volatility:
        Relative change of all implied volatilities.
    target_headroom:
        Asks what would bring each account to this headroom: deposit and reductions.

    Examples
    --------
    >>> import margincast as mc
    >>> mc.Scenario(spot={"BTC": -0.2, "*": -0.1}, target_headroom=0.0).spot["BTC"]
    -0.2
    """

    deposits: Mapping[str, float] = field(default_factory=dict)
    trades: Frame | None = None
    spot: Mapping[str, float] = field(default_factory=dict)
    volatility: float = 0.0
    target_headroom: float | None = None


class WhatIfResult(NamedTuple):
    """Decisions before and after, as `margincast.score` gives them, and remedies.

    Attributes
    ----------
    before, after:
        One row an account each.
    remedies:
        After the shock, of the accounts as they stand: account_id, remedy (``deposit``; ``close``,
        closing a part of one position; ``plan``, the steps of the cheapest sequence; then
        ``deposit_after_plan``), instrument, quantity (to trade, signed), share (of the position),
        amount (of a deposit), cost and headroom (after the step). None unless a target was given.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> ask = mc.Scenario(target_headroom=0.0)
    >>> before, after, remedies = mc.what_if(
    ...     book.positions, book.collateral, book.bars, ask, model=None
    ... )
    >>> remedies["remedy"].isin(["deposit", "close", "plan", "deposit_after_plan"]).all().item()
    True
    """

    before: pd.DataFrame
    after: pd.DataFrame
    remedies: pd.DataFrame | None


def what_if(
    positions: Frame,
    collateral: Frame,
    market: Market | Frame | Mapping[str, Frame],
    scenario: Scenario,
    *,
    model: Model | None,
    as_of: Time | None = None,
    ruleset: str | None = None,
    events: Frame | None = None,
) -> WhatIfResult:
    """Decide on every account before and after a scenario.

    The computation is that of ``POST /v1/what-if``. A shock moves marks, forwards and implied
    vols; times, daily closes and the features of the market stay. A position without an entry price
    entered at the mark before the shock.

    Parameters
    ----------
    positions, collateral, market, model, as_of, ruleset, events:
        As in `margincast.score`.
    scenario:
        What would change.

    Raises
    ------
    DataError
        As in `margincast.score`; or the scenario names an account or coin that is not there,
        changes nothing, or asks for remedies of too many positions at once (the message says how
        many).

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> fall = mc.Scenario(spot={"*": -0.05})
    >>> found = mc.what_if(book.positions, book.collateral, book.bars, fall, model=None)
    >>> len(found.before) == len(found.after)
    True
    """
    forecaster = forecaster_of(model)
    inputs = read_inputs(positions, collateral, market, ruleset, as_of, events)
    snapshot, rules = inputs.snapshot, inputs.ruleset
    before = {account.account_id: account for account in inputs.accounts}
    request = _request(scenario, inputs)
    try:
        check_analysis(request)
        prices = trade_prices(snapshot.view(), rules)
        shocked = shock_market(snapshot, request.shocks or Shocks())
    except RequestError as error:
        raise DataError(f"scenario: {error}") from None
    after, standing = apply_changes(before, request.changes, prices), before
    if shocked is not snapshot:
        after, standing = (enter_before_shock(book, prices) for book in (after, before))
    frames = []
    for book, at in ((before, snapshot), (after, shocked)):
        accounts = list(book.values())
        results = decide(accounts, at, rules, forecaster, {}, no_model=WITHOUT_MODEL)
        outcome = Outcome.of(results, forecaster)
        inputs.refuse(outcome.problems)
        horizons = forecaster.horizons if forecaster else (1, 8, 24)
        frames.append(decision_table(outcome.decisions, horizons).to_pandas())
    basis = DecisionBasis(shocked, rules, forecaster, {})
    remedies = analyse(request, standing, basis).remedies
    return WhatIfResult(
        frames[0], frames[1], None if isinstance(remedies, msgspec.UnsetType) else _table(remedies)
    )


def _request(scenario: Scenario, inputs: Inputs) -> WhatIfRequest:
    changes = [AccountChange(name, float(cash)) for name, cash in scenario.deposits.items()]
    if scenario.trades is not None:
        table = table_of(scenario.trades, "trades", ("account_id", "instrument", "quantity"))
        names, instruments = table["account_id"].to_pylist(), table["instrument"].to_pylist()
        for name, instrument, delta in zip(
            names,
            instruments,
            numbers(AccountTable("trades", table), "quantity").tolist(),
            strict=True,
        ):
            changes.append(AccountChange(name, positions=[PositionChange(instrument, delta)]))
    moves = scenario.volatility != 0.0 or any(scenario.spot.values())
    if not changes and not moves and scenario.target_headroom is None:
        raise DataError(
            "scenario changes nothing and asks nothing; give deposits, trades, spot, volatility or "
            "target_headroom"
        )
    request = {
        "accounts": msgspec.to_builtins(inputs.accounts),
        "changes": msgspec.to_builtins(changes),
        "target_headroom": scenario.target_headroom,
    }
    if moves:
        request["shocks"] = {"spot": dict(scenario.spot), "volatility": scenario.volatility}
    try:
        return msgspec.convert(request, WhatIfRequest)
    except msgspec.ValidationError as error:
        raise DataError(f"scenario: {error}; see margincast.Scenario for what it takes") from None


def _table(remedies: list[RemediesOut]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for one in remedies:
        common = {"account_id": one.account_id}
        rows.append({**common, "remedy": "deposit", "amount": one.deposit, "headroom": one.target})
        for kind, cuts in (("close", one.single), ("plan", one.plan)):
            rows += [{**common, "remedy": kind, **msgspec.structs.asdict(cut)} for cut in cuts]
        if one.deposit_after_plan:
            rest = {"remedy": "deposit_after_plan", "amount": one.deposit_after_plan}
            rows.append({**common, **rest, "headroom": one.target})
    columns = ["account_id", "remedy", "instrument", "quantity", "share", "amount", "cost"]
    table: pd.DataFrame = pa.Table.from_pylist(rows, _REMEDIES).to_pandas()
    return table[[*columns, "headroom"]]


_REMEDIES = pa.schema(
    [(name, pa.string()) for name in ("account_id", "remedy", "instrument")]
    + [(name, pa.float64()) for name in ("quantity", "share", "amount", "cost", "headroom")]
)
