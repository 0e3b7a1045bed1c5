"""Units of stress: an account in one underlying."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.engines.scenario.rules import ScenarioRules
from margin.rules.ruleset import RuleSet
from market.core.errors import BatchError, DataError, InstrumentError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Units:
    """G units of N portfolios; every portfolio has at least one, and they stand in their order.

    Attributes
    ----------
    start:
        Offsets of their legs, shape (G + 1,).
    portfolio:
        Row of the portfolio, shape (G,).
    underlying:
        Row in `margin.book.portfolio_batch.Underlyings`, −1 where nothing names one, shape (G,).
    of_balance:
        Unit of each collateral balance, shape (B,).
    """

    start: Ints
    portfolio: Ints
    underlying: Ints
    of_balance: Ints

    def legs(self) -> Ints:
        """Unit of each leg, shape (L,)."""
        return np.repeat(np.arange(len(self.portfolio)), np.diff(self.start))


def units_of(portfolios: Portfolios, ruleset: RuleSet) -> Units:
    """The units that a rule set stresses.

    With ``underlyings = "one"`` each portfolio is a unit, and holds one underlying at most; with
    ``"sum"`` there is one for each underlying it holds, or that its collateral moves with.

    Raises
    ------
    InstrumentError
        A portfolio holds a second underlying, or a price that is needed is missing.
    DataError
        Legs that belong together do not stand together.
    """
    _check_prices(portfolios)
    balances, size = portfolios.collateral, len(portfolios.underlyings.name) + 1
    owner = np.repeat(np.arange(len(portfolios)), np.diff(portfolios.start))
    key = owner * size + portfolios.underlying
    first = _run_starts(portfolios, key)
    held = key[first]
    counts = np.diff(np.append(first, len(key)))
    balance_owner = np.repeat(np.arange(len(portfolios)), np.diff(balances.start))
    moved = balances.risk_cancelling & (balances.underlying >= 0)
    named = balance_owner[moved] * size + balances.underlying[moved]
    # Collateral that moves with an underlying of which nothing is held is a unit too, and so is a
    # portfolio that nothing ties to an underlying.
    further = np.setdiff1d(named, held)
    bare = np.setdiff1d(np.arange(len(portfolios)), np.concatenate([held, further]) // size)
    keys = np.concatenate([held, further, bare * size + size - 1])
    order = np.argsort(keys // size, kind="stable")
    keys = keys[order]
    counts = np.append(counts, np.zeros(len(keys) - len(counts), dtype=np.int64))[order]
    portfolio, underlying = keys // size, keys % size
    underlying[underlying == size - 1] = -1
    if ruleset.engine_rules(ScenarioRules).underlyings == "one":
        _check_single_underlying(portfolios, portfolio, underlying, ruleset)
    _check_balances(portfolios, balance_owner, portfolio)
    of_balance = np.searchsorted(portfolio, balance_owner)
    by_key = np.argsort(keys)
    of_balance[moved] = by_key[np.searchsorted(keys, named, sorter=by_key)]
    start = np.concatenate([[0], np.cumsum(counts)])
    return Units(start, portfolio, underlying, of_balance)


def leg_prices(portfolios: Portfolios) -> Floats:
    """Price of each leg that is no option, its own; of an option the spot; shape (L,)."""
    underlyings, row = portfolios.underlyings, portfolios.underlying
    return np.where(portfolios.kind == PERP, underlyings.perp_price[row], underlyings.spot[row])


def _run_starts(portfolios: Portfolios, key: Ints) -> Ints:
    """First leg of each underlying of each portfolio; options that share an expiry, and legs that
    share an underlying, must stand together, as `margin.book.portfolio_batch.Portfolios`
    promises."""
    within = key * (len(portfolios.expiries.seconds) + 1) + portfolios.expiry
    starts = []
    for column in (key, within):
        first = np.flatnonzero(np.diff(column, prepend=-2) != 0)
        if len(np.unique(column[first])) != len(first):
            raise DataError(
                "the legs of a portfolio are in no canonical order; expected them by underlying, "
                "kind, expiry, strike and type, as margin.book.portfolio_batch.flatten puts them"
            )
        starts.append(first)
    return starts[0]


def _check_prices(portfolios: Portfolios) -> None:
    underlyings, expiries, row = portfolios.underlyings, portfolios.expiries, portfolios.underlying
    option = portfolios.kind == OPTION
    at = portfolios.expiry[option]
    if (at < 0).any():
        leg = np.flatnonzero(option)[at < 0][0]
        name = portfolios.name[leg]
        raise InstrumentError(f"option {name!r} has no expiry; give it with its forward", name)
    checks = [
        ("spot of the underlying", underlyings.spot[row], np.ones_like(option)),
        ("perp_price of the underlying", underlyings.perp_price[row], portfolios.kind == PERP),
        ("strike", portfolios.strike, option),
    ]
    forward, seconds = np.ones(len(option)), np.zeros(len(option))
    forward[option], seconds[option] = expiries.forward[at], expiries.seconds[at]
    checks.append(("forward of the expiry", forward, option))
    for what, values, concerned in checks:
        _raise_at(concerned & ~(np.isfinite(values) & (values > 0.0)), what, values, portfolios)
    for what, values in (("vol", portfolios.vol), ("seconds_to_expiry", seconds)):
        wrong = option & ~(np.isfinite(values) & (values >= 0.0))
        _raise_at(wrong, what, values, portfolios, "0 or more; take out what has expired")
    _raise_at(~np.isfinite(portfolios.quantity), "quantity", portfolios.quantity, portfolios, "any")


def _raise_at(
    invalid: Bools,
    name: str,
    values: Floats,
    portfolios: Portfolios,
    expected: str = "a price above 0",
) -> None:
    if invalid.any():
        leg = int(np.flatnonzero(invalid)[0])
        instrument = portfolios.name[leg]
        raise InstrumentError(
            f"{instrument!r} cannot be margined: {name} is {values[leg]}; expected {expected}",
            instrument,
        )


def _check_single_underlying(
    portfolios: Portfolios, portfolio: Ints, underlying: Ints, ruleset: RuleSet
) -> None:
    again = np.unique(portfolio[1:][portfolio[1:] == portfolio[:-1]])
    if not len(again):
        return
    first, last = (np.searchsorted(portfolio, again, side=side) for side in ("left", "right"))
    errors = {}
    for account, begin, end in zip(again.tolist(), first.tolist(), last.tolist(), strict=True):
        names = [portfolios.underlyings.name[row] for row in underlying[begin:end]]
        errors[account] = InstrumentError(
            f"one account holds the underlyings {', '.join(names)}, and rule set {ruleset.name!r} "
            'margins one underlying an account; split the account, or set underlyings = "sum" in '
            "its table [scenario]",
            names[1],
        )
    raise BatchError(errors)


def _check_balances(portfolios: Portfolios, owner: Ints, portfolio: Ints) -> None:
    """Collateral that moves with the underlying must say with which where there are several."""
    balances = portfolios.collateral
    open_ = balances.risk_cancelling & (balances.underlying < 0)
    several = np.bincount(portfolio, minlength=len(portfolios))[owner] > 1
    if (open_ & several).any():
        asset = balances.asset[int(np.flatnonzero(open_ & several)[0])]
        raise InstrumentError(
            f"collateral {asset!r} is risk_cancelling in an account of several underlyings; give "
            "its underlying",
            asset,
        )
