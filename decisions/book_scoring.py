"""The figures of a book, before anything is said about them: rules, features, model, add-on.

Arrays from end to end; `decisions.decision` puts them into words. A pure function of what was
known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decisions.valuations import BookValuations, value_book
from features.account.frame import AccountRows, LegGreeks, compute_moments
from features.registry import STALE_INTERVALS, WARM_UP_HOURS
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import (
    AddOn,
    ModelLevel,
    add_on_cap,
    bound_add_on,
    deposit_to_meet,
    in_stress,
    opening_requirement,
)
from margin.book.account_requirement import Requirement
from margin.floors import active_floors, largest_floor
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from models.forecaster import Forecaster

Floats = npt.NDArray[np.float64]

Previous = Callable[[Floats], tuple[Floats, Floats]]
"""From the initial margin of N accounts the level of the add-on in force and the hours since it
was set, shape (N,) each; NaN for none."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the model said of N accounts.

    Attributes
    ----------
    probability:
        Shape (N, H); NaN where it was not asked or did not answer.
    level:
        The headroom it asks for; NaN likewise.
    silence:
        Why it said nothing, for each account; None where it spoke.
    features:
        Its input columns, shape (N, F).
    """

    probability: Floats
    level: ModelLevel
    silence: list[str | None]
    features: Floats


@dataclass(frozen=True, slots=True)
class BookScores:
    """What rules and model say about the N accounts of a book.

    Attributes
    ----------
    book, valuations:
        The accounts and what the rules demand of them. Accounts in ``requirement.problems``
        have no figures.
    floors:
        Every active rule floor by name, shape (N,).
    forecast:
        What the model said.
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
        """What the rules demand at the last good prices."""
        return self.valuations.last_good


def score_book(
    book: Book,
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    model: Forecaster | None,
    previous: Previous,
    no_model: str,
    done: Callable[[str], None] = lambda stage: None,
) -> BookScores:
    """The figures of a book at the snapshot's time.

    Each account's are its own: alone or in a book, the same to the last bit.

    Parameters
    ----------
    book:
        The accounts.
    snapshot:
        The market as known at the decision time.
    ruleset:
        The rules.
    model:
        The champion, or None: then every level is the rule floor.
    previous:
        The add-on in force.
    no_model:
        Why there is no model.
    done:
        Told of each stage at its end: margined, featured, scored, given add-ons.
    """
    view = snapshot.view()
    valuations = value_book(book, view, ruleset)
    requirement = valuations.last_good
    initial_margin = requirement.initial_margin
    floors = active_floors(requirement, view, ruleset.floors)
    floor = largest_floor(floors, requirement)
    with np.errstate(over="ignore"):  # figures that overflow are refused by account
        cap = add_on_cap(initial_margin, ruleset.add_on)
    done("margined")
    forecast = _forecast(requirement, snapshot, ruleset, model, np.fmax(floor, cap), no_model, done)
    add_on = bound_add_on(
        forecast.level.level,
        floor,
        cap,
        *previous(initial_margin),
        initial_margin,
        in_stress(snapshot.volatility_ratio(), ruleset.add_on),
        ruleset.add_on,
    )
    with np.errstate(over="ignore"):
        maintenance_margin = valuations.column("maintenance_margin")
        total = maintenance_margin + add_on.level
        opening = opening_requirement(
            valuations.column("initial_margin"), maintenance_margin, add_on
        )
    deposit = deposit_to_meet(add_on.level, valuations.column("headroom"))
    done("given add-ons")
    return BookScores(book, valuations, floors, forecast, add_on, total, opening, deposit)


def _forecast(
    requirement: Requirement,
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    model: Forecaster | None,
    upper: Floats,
    no_model: str,
    done: Callable[[str], None],
) -> Forecast:
    """Ask the model about the accounts whose market it can judge."""
    n = len(requirement)
    targets = ruleset.add_on.targets
    horizons = tuple(sorted(targets))
    if model is None:
        silent = ModelLevel(horizons, np.full((n, len(horizons)), np.nan), np.full(n, np.nan))
        return Forecast(np.full((n, 0), np.nan), silent, [no_model] * n, np.empty((n, 0)))
    silence = _silences(requirement, snapshot)
    for i in np.flatnonzero(~np.isfinite(upper)).tolist():
        silence[i] = silence[i] or "the account's cap exceeds what float64 can hold"
    asked = np.flatnonzero([reason is None for reason in silence])
    rows = account_rows(requirement, asked)
    moments = compute_moments(rows, snapshot.features)
    columns = model.features(moments)
    done("featured")
    answered = model.probability(columns)
    done("scored")
    found = model.required_level(moments, upper[asked], targets)
    mute = np.isnan(answered).any(axis=1) | np.isnan(found.level)
    answered[mute] = np.nan
    found.level[mute] = np.nan
    for i in asked[mute].tolist():
        silence[i] = "the model returned no number for this account"
    return Forecast(
        probability=_spread(answered, asked, n),
        level=ModelLevel(
            found.horizons, _spread(found.by_horizon, asked, n), _spread(found.level, asked, n)
        ),
        silence=silence,
        features=_spread(columns, asked, n),
    )


def account_rows(requirement: Requirement, asked: npt.NDArray[np.intp]) -> AccountRows:
    """Chosen accounts as rows at the one row of a snapshot's features: each account's positions,
    then its collateral in coins."""
    owner, legs = _entries(requirement.leg_start, asked)
    symbol, notional = requirement.leg_symbol[legs], requirement.leg_notional[legs]
    counted = None
    greeks = _greeks(requirement, legs)
    held = requirement.collateral
    if (held.symbol >= 0).any():
        of_balance, balances = _entries(held.start, asked)
        coins = held.symbol[balances] >= 0
        of_balance, balances = of_balance[coins], balances[coins]
        order = np.argsort(np.concatenate([owner, of_balance]), kind="stable")
        owner = np.concatenate([owner, of_balance])[order]
        symbol = np.concatenate([symbol, held.symbol[balances]])[order]
        notional = np.concatenate([notional, np.zeros(len(balances))])[order]
        counted = np.concatenate([np.zeros(len(legs)), held.counted()[balances]])[order]
        if greeks is not None:
            greeks = greeks.padded(len(balances), order)
    start = np.zeros(len(asked) + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner, minlength=len(asked)), out=start[1:])
    return AccountRows(
        row=np.zeros(len(asked), dtype=np.int64),
        leg_start=start,
        leg_symbol=symbol,
        leg_notional=notional,
        headroom=requirement.headroom[asked],
        maintenance_margin=requirement.maintenance_margin[asked],
        leg_collateral=counted,
        leg_greeks=greeks,
    )


def _greeks(requirement: Requirement, legs: npt.NDArray[np.int64]) -> LegGreeks | None:
    options = requirement.options
    if options is None:
        return None
    return LegGreeks(options.option[legs], options.gamma[legs], options.vega[legs])


def _entries(
    start: npt.NDArray[np.int64], asked: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Entries of the chosen rows of a sparse matrix, and which of the chosen each belongs to."""
    counts = start[asked + 1] - start[asked]
    before = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(asked)), counts)
    return owner, np.arange(len(owner)) + np.repeat(start[asked] - before, counts)


def _silences(requirement: Requirement, snapshot: MarketSnapshot) -> list[str | None]:
    """Why the model cannot be asked about each account; None where it can."""
    by_symbol = _symbol_silences(snapshot)
    silences: list[str | None] = [None] * len(requirement)
    for i in requirement.problems:
        silences[i] = "the account has no figures"
    if not any(by_symbol):
        return silences
    # A leg of symbol -1 cannot be valued, and its account is among the problems.
    silent = np.array([reason is not None for reason in by_symbol])[requirement.leg_symbol]
    legs = np.flatnonzero(silent & (requirement.leg_symbol >= 0))
    owner = np.searchsorted(requirement.leg_start, legs, side="right") - 1
    for i, s in zip(owner.tolist(), requirement.leg_symbol[legs].tolist(), strict=True):
        if silences[i] is None:
            silences[i] = by_symbol[s]
    return silences


def _symbol_silences(snapshot: MarketSnapshot) -> list[str | None]:
    features, per_hour = snapshot.features, snapshot.interval.per_hour
    reasons: list[str | None] = []
    for s, (name, usable) in enumerate(zip(features.symbols, snapshot.usable(), strict=True)):
        age, history = features.age[0, s], features.history[0, s]
        if usable:
            reasons.append(None)
        elif not age <= STALE_INTERVALS / per_hour:
            reasons.append(f"stale market data: the newest bar of {name} closed {age:.2f} h ago")
        elif not history >= WARM_UP_HOURS:
            reasons.append(f"warm-up: {name} has {history:g} h of history, {WARM_UP_HOURS} needed")
        else:
            reasons.append(f"incomplete market data: {name} lacks a feature or a mark")
    return reasons


def _spread(values: Floats, rows: npt.NDArray[np.intp], n: int) -> Floats:
    out = np.full((n, *values.shape[1:]), np.nan)
    out[rows] = values
    return out
