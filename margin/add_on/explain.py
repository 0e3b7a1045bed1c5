"""The explain twin of an add-on: where one account's figures come from, in parts that add up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from margin.add_on.bounds import BINDINGS, AddOn, ModelLevel, deposit_to_meet
from margin.book.account_requirement import Requirement
from margin.engines.margins import Part, RankedScenario
from margin.engines.registry import explain_margins
from margin.floors.term import FloorTerm
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from market.core.arrays import Floats

_WORST = 3
"""Scenarios that an explanation names."""


@dataclass(frozen=True, slots=True)
class PositionPart:
    """What one position contributes, settlement currency.

    Attributes
    ----------
    notional:
        Exposure, of an option that by its delta.
    value, gamma, vega:
        Of an option, see `margin.valuation.exposures.Exposures`; None for others.
    """

    instrument: str
    notional: float
    unrealised_pnl: float
    initial_margin: float
    maintenance_margin: float
    value: float | None = None
    gamma: float | None = None
    vega: float | None = None


class EngineParts(Struct, frozen=True, rename={"reduction_fraction": "cut_share"}):
    """How the engine came to one account's margins, settlement currency.

    Attributes
    ----------
    parts:
        They add up to the net margins: headroom, and equity less initial margin.
    unallocated:
        Maintenance margin that no position is charged with.
    worst_scenarios:
        The worst first; empty where the engine has none.
    reduction_fraction:
        See `Explanation`; in JSON ``cut_share``.
    """

    parts: tuple[Part, ...]
    unallocated: float
    worst_scenarios: tuple[RankedScenario, ...]
    reduction_fraction: float


@dataclass(frozen=True, slots=True)
class Portion:
    """What one position or balance contributes to a part of a floor, settlement currency."""

    subject: str
    amount: float


@dataclass(frozen=True, slots=True)
class FloorPart:
    """One term of a floor, settlement currency.

    Attributes
    ----------
    name, reason:
        What it is, see `margin.floors.term.FloorTerm`.
    amount:
        Signed; the amounts of a floor's parts add up to it.
    by:
        The positions or balances that `amount` is the sum of, those of 0 left out; empty where
        it is the account's as a whole.
    """

    name: str
    reason: str
    amount: float
    by: tuple[Portion, ...]


class Explanation(Struct, frozen=True, rename={"reduction_fraction": "cut_share"}):
    """One decision, explained. Settlement currency; None where there is no figure.

    ``total_requirement`` is the sum, in order, of the maintenance margins of `positions`, plus
    what the engine leaves unallocated, plus `add_on`.

    Attributes
    ----------
    floors:
        Every active floor by name; `floor` (F) is the largest.
    floor_parts:
        The parts of every active floor by its name, those of 0 left out.
    model_by_horizon:
        G_h by hours; None where no level suffices or the model did not answer.
    model_level:
        G; None likewise.
    model_weight:
        What G counts with during a phase-in of the rule set; 1 and absent in JSON otherwise.
    cap:
        C.
    before_clamp:
        The level after dead-band, step, release and freeze; None without one.
    binding:
        What decided the level, see `margin.add_on.bounds.bound_add_on`.
    deposit:
        Counterfactual: this much more cash and nothing is missing.
    reduction_fraction:
        Counterfactual: closing this share of every position at its mark, and nothing is missing.
        1 where not even closing all of it would do.
    engine:
        How the engine came to the margins.
    """

    floors: dict[str, float]
    floor_parts: dict[str, tuple[FloorPart, ...]]
    floor: float
    model_by_horizon: dict[int, float | None]
    model_level: float | None
    cap: float
    before_clamp: float | None
    binding: str
    positions: tuple[PositionPart, ...]
    maintenance_margin: float
    add_on: float
    total_requirement: float
    deposit: float
    reduction_fraction: float
    engine: EngineParts
    model_weight: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; what says nothing of an account stays out."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        if self.model_weight == 1.0:
            del plain["model_weight"]
        for part in plain["positions"]:
            for key in ("value", "gamma", "vega"):
                if part[key] is None:
                    del part[key]
        return plain


def explain(
    account: int,
    book: Book,
    requirement: Requirement,
    floors: Mapping[str, Floats],
    terms: Mapping[str, Sequence[FloorTerm]],
    model: ModelLevel | None,
    add_on: AddOn,
    engine: EngineParts,
) -> Explanation:
    """Explain the decision on one account of a book.

    Parameters
    ----------
    account:
        Its index; an account without problems.
    book, requirement, floors, add_on:
        What the decision was made of, for the whole book.
    terms:
        The terms of the floors, from `margin.floors.floor_terms`.
    model:
        The model's level; None where there was no model.
    engine:
        How the engine came to the margins, from `explain_engine`.
    """
    one = slice(account, account + 1)
    level = add_on.level[one]
    total = requirement.maintenance_margin[one] + level
    by_horizon = (
        {}
        if model is None
        else {
            hours: _finite(model.by_horizon[account, k]) for k, hours in enumerate(model.horizons)
        }
    )
    legs = range(requirement.leg_start[account], requirement.leg_start[account + 1])
    return Explanation(
        floors={name: float(floor[account]) for name, floor in floors.items()},
        floor_parts={name: _floor_parts(account, book, terms[name]) for name in floors},
        floor=float(add_on.floor[account]),
        model_by_horizon=by_horizon,
        model_level=_finite(add_on.model_level[account] if model is None else model.level[account]),
        cap=float(add_on.cap[account]),
        before_clamp=_finite(add_on.unclamped[account]),
        binding=BINDINGS[add_on.binding[account]],
        positions=tuple(_part(leg, book, requirement) for leg in legs),
        maintenance_margin=float(requirement.maintenance_margin[account]),
        add_on=float(level[0]),
        total_requirement=float(total[0]),
        deposit=float(deposit_to_meet(level, requirement.headroom[one])[0]),
        reduction_fraction=engine.reduction_fraction,
        engine=engine,
        model_weight=add_on.model_weight,
    )


def explain_engine(
    account: int, requirement: Requirement, ruleset: RuleSet, reduction_fraction: float
) -> EngineParts:
    """How the engine came to the margins of an account without problems.

    Parameters
    ----------
    account:
        Its index.
    requirement, ruleset:
        What the decision was made of.
    reduction_fraction:
        Of the account, from `margin.add_on.reduction`.
    """
    alone = requirement.portfolios.between(account, account + 1)
    parts, worst = explain_margins(alone, 0, ruleset, _WORST)
    legs = slice(requirement.leg_start[account], requirement.leg_start[account + 1])
    charged = math.fsum(requirement.leg_maintenance_margin[legs].tolist())
    return EngineParts(
        parts=parts,
        unallocated=float(requirement.maintenance_margin[account]) - charged,
        worst_scenarios=worst or (),
        reduction_fraction=reduction_fraction,
    )


def _part(leg: int, book: Book, requirement: Requirement) -> PositionPart:
    options = requirement.options
    greeks: dict[str, float] = {}
    if options is not None and options.option[leg]:
        greeks = {key: float(getattr(options, key)[leg]) for key in ("value", "gamma", "vega")}
    return PositionPart(
        instrument=book.leg_instrument[leg],
        notional=float(requirement.leg_notional[leg]),
        unrealised_pnl=float(requirement.leg_unrealised_pnl[leg]),
        initial_margin=float(requirement.leg_initial_margin[leg]),
        maintenance_margin=float(requirement.leg_maintenance_margin[leg]),
        **greeks,
    )


def _floor_parts(account: int, book: Book, terms: Sequence[FloorTerm]) -> tuple[FloorPart, ...]:
    parts = []
    for term in terms:
        amount, by = _portions(account, book, term)
        if amount != 0.0 or by:
            parts.append(FloorPart(term.name, term.reason, amount, by))
    return tuple(parts)


def _portions(account: int, book: Book, term: FloorTerm) -> tuple[float, tuple[Portion, ...]]:
    if term.of == "account":
        return float(term.amount[account]), ()
    if term.of == "position":
        start, subjects = book.leg_start, book.leg_instrument
    else:
        start, subjects = book.balance_start, book.balance_asset
    first, last = int(start[account]), int(start[account + 1])
    amounts = term.amount[first:last].tolist()
    portions = zip(subjects[first:last], amounts, strict=True)
    return sum(amounts), tuple(Portion(name, value) for name, value in portions if value != 0.0)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
