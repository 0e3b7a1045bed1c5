"""Score a book: requirement, features, model forecast and add-on, as arrays over its accounts.

A pure function of what was known at the decision time; `decisions.decision` turns the scores of
each account into a decision. A book is valued at the last good prices and, while prices wait for
confirmation by the outlier filter, at those too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from features.account.frame import AccountRows, LegGreeks, compute_aggregates
from features.state.market_basis import market_basis
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import (
    AddOn,
    ModelLevel,
    add_on_cap,
    bound_add_on,
    deposit_to_meet,
    in_stress,
    opening_requirement,
    phased_level,
)
from margin.book.account_requirement import Requirement
from margin.book.portfolio_batch import row_entries
from margin.book.requirement import compute_requirement
from margin.floors.registry import active_floors, largest_floor
from margin.rules.ruleset import RuleSet
from margin.valuation.market_prices import market_prices
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import HOUR
from models.forecaster import Forecaster

CARRIED_HOURS = 24.0
"""Most hours of pacing that a level gathers while the model does not answer."""


@dataclass(frozen=True, slots=True)
class PreviousAddOn:
    """The add-on in force of one account.

    Attributes
    ----------
    amount:
        Level above maintenance margin, settlement currency.
    as_of:
        When it was decided, nanoseconds.
    initial_margin:
        Initial margin of the book it was decided on; None where that book is not known.
    positions:
        Quantity of each instrument in that book.
    carried:
        Whether the decisions since were fallbacks, which set no level.
    """

    amount: float
    as_of: int
    initial_margin: float | None = None
    positions: Mapping[str, float] = field(default_factory=dict)
    carried: bool = False

    def hours_since(self, as_of: int) -> float:
        """Hours in which the level may have moved by a decision at `as_of`.

        They go on while the model does not answer, up to `CARRIED_HOURS`.
        """
        hours = (as_of - self.as_of) / HOUR
        return min(hours, CARRIED_HOURS) if self.carried else hours

    def level(self, positions: Mapping[str, float], initial_margin: float) -> float:
        """The level for the book as it is now; NaN where there is none to go by.

        Pacing is for the market's moves, not for the account's own: once its positions have
        changed the level scales with the initial margin, and a book that was empty says nothing
        of a full one.

        Parameters
        ----------
        positions:
            Quantity of each instrument now, zero quantities left out.
        initial_margin:
            Initial margin now.
        """
        if self.initial_margin is None or self.positions == positions:
            return self.amount
        if self.initial_margin <= 0.0:
            return float("nan")
        return self.amount * (initial_margin / self.initial_margin)


@dataclass(frozen=True, slots=True)
class BookValuations:
    """The requirement of N accounts under each set of prices.

    Attributes
    ----------
    last_good:
        The requirement at the last good prices.
    suspect:
        The requirement with every unconfirmed price in the place of the last good one; None where
        no price waits for confirmation.
    suspect_drives:
        Where the suspect prices give the lower headroom, shape (N,): there they drive equity,
        margins, headroom and deposit. Floors, cap and pace of the add-on and the features of the
        model stay with the last good prices: one bad tick must not move them.
    """

    last_good: Requirement
    suspect: Requirement | None
    suspect_drives: Bools

    def of_account(self, i: int) -> Requirement:
        """The requirement that drives account i."""
        if self.suspect is not None and self.suspect_drives[i]:
            return self.suspect
        return self.last_good

    def column(self, name: str) -> Floats:
        """One column of `Requirement`, each account's from the valuation that drives it, (N,)."""
        good: Floats = getattr(self.last_good, name)
        if self.suspect is None:
            return good
        return np.where(self.suspect_drives, getattr(self.suspect, name), good)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The model's forecast for N accounts.

    Attributes
    ----------
    probability:
        Shape (N, H); NaN without an answer of the model.
    level:
        The headroom that the model requires; NaN likewise.
    unavailable_reason:
        Why an account has no forecast; None where it has one.
    features:
        Input columns of the model, shape (N, F).
    """

    probability: Floats
    level: ModelLevel
    unavailable_reason: list[str | None]
    features: Floats


@dataclass(frozen=True, slots=True)
class BookScores:
    """Requirement, forecast and add-on of the N accounts of a book.

    Attributes
    ----------
    book, valuations:
        The accounts and their requirement. Accounts in ``requirement.problems`` have no scores.
    floors:
        Every active rule floor by name, shape (N,).
    forecast:
        The model's.
    add_on:
        The level, with floor and cap.
    total_requirement:
        Maintenance margin plus the level, shape (N,).
    opening_requirement:
        What new risk must meet, see `margin.add_on.bounds.opening_requirement`, shape (N,).
    deposit:
        What is missing to the level, whole cents, shape (N,).
    """

    book: Book
    valuations: BookValuations
    floors: Mapping[str, Floats]
    forecast: Forecast
    add_on: AddOn
    total_requirement: Floats
    opening_requirement: Floats
    deposit: Floats

    @property
    def requirement(self) -> Requirement:
        """The requirement at the last good prices."""
        return self.valuations.last_good


@dataclass(frozen=True, slots=True)
class DecisionBasis:
    """The inputs of decisions besides the accounts.

    Attributes
    ----------
    snapshot, ruleset:
        The market as known at the decision time, and the rules.
    model:
        The champion; None: the rule floor takes the place of its level.
    previous:
        The add-on in force by account id.
    """

    snapshot: MarketSnapshot
    ruleset: RuleSet
    model: Forecaster | None
    previous: Mapping[str, PreviousAddOn]


def score_book(
    book: Book,
    basis: DecisionBasis,
    no_model: str = "",
    on_stage: Callable[[str], None] = lambda stage: None,
) -> BookScores:
    """Score a book at the time of its market snapshot.

    The scores of an account are the same to the last bit alone and in any book.

    Parameters
    ----------
    book:
        The accounts.
    basis:
        Market, rules, model and the add-ons in force. Without a model every level is the rule
        floor.
    no_model:
        Why there is no model.
    on_stage:
        Called with the name of each stage at its end: margined, featured, scored, given add-ons.
    """
    snapshot, ruleset = basis.snapshot, basis.ruleset
    market = market_basis(snapshot)
    view = market.view
    valuations = value_book(book, view, ruleset)
    requirement = valuations.last_good
    initial_margin = requirement.initial_margin
    floors = active_floors(requirement, view, ruleset.floors)
    floor = largest_floor(floors, requirement)
    with np.errstate(over="ignore"):  # accounts whose sums overflow are refused one by one
        cap = add_on_cap(initial_margin, ruleset.add_on)
    on_stage("margined")
    forecast = _forecast(requirement, basis, np.fmax(floor, cap), no_model, on_stage)
    weight = ruleset.add_on.model_weight(snapshot.as_of)
    model_level = forecast.level.level
    if weight < 1.0:
        model_level = phased_level(model_level, floor, cap, weight)
    add_on = bound_add_on(
        model_level,
        floor,
        cap,
        *_previous_levels(book, initial_margin, basis.previous, snapshot.as_of),
        initial_margin,
        in_stress(market.volatility_ratio, ruleset.add_on),
        ruleset.add_on,
    )
    if weight < 1.0:
        add_on = replace(add_on, model_weight=weight)
    with np.errstate(over="ignore"):
        maintenance_margin = valuations.column("maintenance_margin")
        total = maintenance_margin + add_on.level
        opening = opening_requirement(
            valuations.column("initial_margin"), maintenance_margin, add_on
        )
    deposit = deposit_to_meet(add_on.level, valuations.column("headroom"))
    on_stage("given add-ons")
    return BookScores(book, valuations, floors, forecast, add_on, total, opening, deposit)


def value_book(book: Book, view: MarketView, ruleset: RuleSet) -> BookValuations:
    """Value a book at the last good prices and, where prices wait for confirmation, at those.

    A position without an entry price entered at the last good mark, in both. An account without
    a requirement at the suspect prices is driven by the last good ones.
    """
    good = compute_requirement(book, view, ruleset)
    other = market_prices(view).suspect_view
    if other is None:
        return BookValuations(good, None, np.zeros(len(good), dtype=np.bool_))
    entries = good.portfolios.entries
    marks = entries.instruments.price[entries.position_row]
    entry = np.where(np.isnan(book.leg_entry_price), marks, book.leg_entry_price)
    suspect = compute_requirement(replace(book, leg_entry_price=entry), other, ruleset)
    with np.errstate(invalid="ignore"):
        drives = suspect.headroom < good.headroom
    return BookValuations(good, suspect, drives)


def meets_opening_requirement(accounts: Sequence[Account], basis: DecisionBasis) -> Bools:
    """Whether each account meets its opening requirement and triggers no call, shape (N,).

    ``equity >= max(IM, MM + A*)``, and ``headroom >= A`` for the add-on A that the decision on the
    account would require now. False for an account without scores.
    """
    scores = score_book(Book.of(accounts), basis)
    column = scores.valuations.column
    with np.errstate(invalid="ignore"):
        meets: Bools = (column("equity") >= scores.opening_requirement) & (
            column("headroom") >= scores.add_on.level
        )
    return meets & np.isfinite(scores.opening_requirement)


def _previous_levels(
    book: Book, initial_margin: Floats, previous: Mapping[str, PreviousAddOn], as_of: int
) -> tuple[Floats, Floats]:
    """Previous level of each account and hours since it was set, shape (N,); NaN without one."""
    levels, hours = np.full(len(book), np.nan), np.full(len(book), np.nan)
    for i, account_id in enumerate(book.account_ids):
        before = previous.get(account_id)
        if before is not None:
            legs = slice(book.leg_start[i], book.leg_start[i + 1])
            quantities = book.leg_quantity[legs].tolist()
            pairs = zip(book.leg_instrument[legs], quantities, strict=True)
            positions = {name: quantity for name, quantity in pairs if quantity != 0.0}
            levels[i] = before.level(positions, float(initial_margin[i]))
            hours[i] = before.hours_since(as_of)
    return levels, hours


def _forecast(
    requirement: Requirement,
    basis: DecisionBasis,
    upper: Floats,
    no_model: str,
    on_stage: Callable[[str], None],
) -> Forecast:
    """The model's forecast for the accounts whose market data suffice."""
    n, model, snapshot = len(requirement), basis.model, basis.snapshot
    targets = basis.ruleset.add_on.targets
    horizons = tuple(sorted(targets))
    if model is None:
        no_level = ModelLevel(horizons, np.full((n, len(horizons)), np.nan), np.full(n, np.nan))
        return Forecast(np.full((n, 0), np.nan), no_level, [no_model] * n, np.empty((n, 0)))
    reasons = _unavailable_reasons(requirement, snapshot)
    for i in np.flatnonzero(~np.isfinite(upper)).tolist():
        reasons[i] = reasons[i] or "the account's cap exceeds what float64 can hold"
    available = np.flatnonzero([reason is None for reason in reasons])
    rows = account_rows(requirement, available)
    moments = compute_aggregates(rows, snapshot.features)
    columns = model.features(moments)
    on_stage("featured")
    probability = model.probability(columns)
    on_stage("scored")
    required = model.required_level(moments, upper[available], targets, columns)
    unanswered = np.isnan(probability).any(axis=1) | np.isnan(required.level)
    probability[unanswered] = np.nan
    required.level[unanswered] = np.nan
    for i in available[unanswered].tolist():
        reasons[i] = "the model returned no number for this account"
    return Forecast(
        probability=_spread(probability, available, n),
        level=ModelLevel(
            required.horizons,
            _spread(required.by_horizon, available, n),
            _spread(required.level, available, n),
        ),
        unavailable_reason=reasons,
        features=_spread(columns, available, n),
    )


def account_rows(requirement: Requirement, chosen: npt.NDArray[np.intp]) -> AccountRows:
    """The chosen accounts (indices) as feature rows: each one's positions, then its collateral in
    coins, all at the one row of a snapshot's features."""
    start, legs = row_entries(requirement.leg_start, chosen)
    symbol, notional = requirement.leg_symbol[legs], requirement.leg_notional[legs]
    counted = None
    greeks = _greeks(requirement, legs)
    collateral = requirement.collateral
    if (collateral.symbol >= 0).any():
        owner = np.repeat(np.arange(len(chosen)), np.diff(start))
        balance_start, balances = row_entries(collateral.start, chosen)
        of_balance = np.repeat(np.arange(len(chosen)), np.diff(balance_start))
        coins = collateral.symbol[balances] >= 0
        of_balance, balances = of_balance[coins], balances[coins]
        order = np.argsort(np.concatenate([owner, of_balance]), kind="stable")
        owner = np.concatenate([owner, of_balance])[order]
        symbol = np.concatenate([symbol, collateral.symbol[balances]])[order]
        notional = np.concatenate([notional, np.zeros(len(balances))])[order]
        counted = np.concatenate([np.zeros(len(legs)), collateral.counted()[balances]])[order]
        if greeks is not None:
            greeks = greeks.padded(len(balances), order)
        start = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(np.bincount(owner, minlength=len(chosen)), out=start[1:])
    return AccountRows(
        row=np.zeros(len(chosen), dtype=np.int64),
        leg_start=start,
        leg_symbol=symbol,
        leg_notional=notional,
        headroom=requirement.headroom[chosen],
        maintenance_margin=requirement.maintenance_margin[chosen],
        leg_collateral=counted,
        leg_greeks=greeks,
    )


def _greeks(requirement: Requirement, legs: Ints) -> LegGreeks | None:
    options = requirement.options
    if options is None:
        return None
    return LegGreeks(options.option[legs], options.gamma[legs], options.vega[legs])


def forecast_probability(
    requirement: Requirement, model: Forecaster, snapshot: MarketSnapshot
) -> Floats:
    """Probability of a call within each horizon, shape (N, H); NaN where the model cannot be asked
    about an account, or has no answer."""
    reasons = _unavailable_reasons(requirement, snapshot)
    available = np.flatnonzero([reason is None for reason in reasons])
    moments = compute_aggregates(account_rows(requirement, available), snapshot.features)
    probability = model.probability(model.features(moments))
    return _spread(probability, available, len(requirement))


def _unavailable_reasons(requirement: Requirement, snapshot: MarketSnapshot) -> list[str | None]:
    """Why the model cannot be asked about each account; None where it can."""
    by_symbol = market_basis(snapshot).symbol_reasons
    reasons: list[str | None] = [None] * len(requirement)
    for i in requirement.problems:
        reasons[i] = "the account has no figures"
    if not any(by_symbol):
        return reasons
    # A leg of symbol -1 cannot be valued, and its account is among the problems.
    unavailable = np.array([reason is not None for reason in by_symbol])[requirement.leg_symbol]
    legs = np.flatnonzero(unavailable & (requirement.leg_symbol >= 0))
    owner = np.searchsorted(requirement.leg_start, legs, side="right") - 1
    for i, s in zip(owner.tolist(), requirement.leg_symbol[legs].tolist(), strict=True):
        if reasons[i] is None:
            reasons[i] = by_symbol[s]
    return reasons


def _spread(values: Floats, rows: npt.NDArray[np.intp], n: int) -> Floats:
    if len(rows) == n:
        return values
    out = np.full((n, *values.shape[1:]), np.nan)
    out[rows] = values
    return out
