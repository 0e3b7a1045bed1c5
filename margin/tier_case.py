"""A margin case under the tier engine: one portfolio, given with its prices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from margin.ruleset import (
    CollateralRules,
    RuleSet,
    list_rulesets,
    load_ruleset,
    ruleset_from_content,
)
from margin.tier import TierTable
from market.errors import CaseError

Floats = npt.NDArray[np.float64]

_PARAMETERS = ("brackets", "symbols")


class _Underlying(Struct, frozen=True):
    spot: float
    perp_price: float | None = None


class _Position(Struct, frozen=True):
    kind: str
    underlying: str
    quantity: float
    entry_price: float | None = None
    unrealised_pnl: float | None = None
    unrealised_funding: float = 0.0


class _Collateral(Struct, frozen=True):
    asset: str
    amount: float
    price: float
    maintenance_haircut: float | None = None
    initial_extra_haircut: float = 0.0


class _Portfolio(Struct, frozen=True):
    cash: float
    stable_price: float
    underlyings: dict[str, _Underlying]
    positions: tuple[_Position, ...]
    collateral: tuple[_Collateral, ...]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Figures of one case, unrounded.

    Attributes
    ----------
    mark_to_market:
        Cash + unrealised profit and loss + collateral before haircuts.
    initial, maintenance:
        Signed components; they sum, in order, to the net margin.
    ruleset_sha256:
        The rules that were applied, overrides included.
    """

    mark_to_market: float
    initial: dict[str, float]
    maintenance: dict[str, float]
    ruleset_sha256: str


def tier_case(portfolio: object, ruleset: str | Mapping[str, Any]) -> CaseResult:
    """Margin one portfolio with tier brackets.

    Net margin = cash + unrealised profit and loss and funding + collateral after haircuts −
    tier margin. Positions are ``perp`` (at the underlying's `perp_price`) and ``spot`` (at its
    `spot`), both linear; profit and loss is `unrealised_pnl` if given, else
    ``quantity * (price - entry_price)``, else 0: entry at the mark. Collateral is worth
    ``amount * price / stable_price``, the rule set's cash assets 1 each; a haircut on the line
    goes before the rule set's. An underlying X takes the brackets of symbol X, else XUSDT.

    Parameters
    ----------
    portfolio:
        Decoded JSON.
    ruleset:
        Name of a preset, or ``{"name", "parameters"}``: parameters ``brackets`` and ``symbols``
        override the preset's; a name that is no preset needs ``brackets``.

    Raises
    ------
    CaseError
        A key is missing or impossible, or a position is of another kind.
    RuleSetError
        The parameters make no valid rule set.
    """
    try:
        given = msgspec.convert(portfolio, _Portfolio)
    except msgspec.ValidationError as error:
        raise CaseError(f"portfolio: {error}") from error
    if not given.stable_price > 0:
        raise CaseError(f"stable_price is {given.stable_price}; expected a price above 0")
    rules = _effective_rules(ruleset)

    prices = [_price(position, given.underlyings) for position in given.positions]
    held = list(zip(given.positions, prices, strict=True))
    pnl = total(_unrealised_pnl(position, price) for position, price in held)
    notional = np.array([position.quantity * price for position, price in held], dtype=np.float64)
    symbols = tuple(_bracket_symbol(position.underlying, rules) for position in given.positions)
    table = TierTable.build(rules, symbols)
    row = np.arange(len(symbols), dtype=np.int64)

    values = [_value(item, given.stable_price, rules.collateral) for item in given.collateral]
    haircuts = [_haircuts(item, rules.collateral) for item in given.collateral]

    def components(level: int, margins: Floats) -> dict[str, float]:
        # A haircut never makes a debt smaller.
        lost = [max(0.0, v) * haircut[level] for v, haircut in zip(values, haircuts, strict=True)]
        return {
            "cash": given.cash,
            "unrealised_pnl": pnl,
            "collateral": total(values),
            "collateral_haircut": 0.0 - total(lost),
            "tier_margin": 0.0 - total(margins.tolist()),
        }

    return CaseResult(
        mark_to_market=total([given.cash, pnl, *values]),
        initial=components(0, table.initial(notional, row)),
        maintenance=components(1, table.maintenance(notional, row)),
        ruleset_sha256=rules.sha256,
    )


def total(values: Iterable[float]) -> float:
    """The correctly rounded sum; raises `CaseError` where it is not a finite number."""
    try:
        amount = math.fsum(values)
    except (OverflowError, ValueError):
        amount = math.inf
    if not math.isfinite(amount):
        raise CaseError("the figures exceed what float64 can hold; check the sizes given")
    return amount


def _price(position: _Position, underlyings: Mapping[str, _Underlying]) -> float:
    underlying = underlyings.get(position.underlying)
    if underlying is None:
        raise CaseError(
            f"a position is in underlying {position.underlying!r}; "
            f"portfolio.underlyings has {', '.join(underlyings) or 'none'}"
        )
    if position.kind == "spot":
        key, price = "spot", underlying.spot
    elif position.kind == "perp":
        key = "perp_price"
        if underlying.perp_price is None:
            raise CaseError(
                f"underlying {position.underlying!r} holds a perp and is missing "
                "required key perp_price"
            )
        price = underlying.perp_price
    else:
        raise CaseError(
            f"position kind {position.kind!r} is not margined by the tier engine; "
            "expected perp or spot"
        )
    if not price > 0:
        raise CaseError(
            f"underlying {position.underlying!r} has {key} {price}; expected a price above 0"
        )
    return price


def _unrealised_pnl(position: _Position, price: float) -> float:
    """Unrealised profit and loss, funding included."""
    if position.unrealised_pnl is None:
        entry = price if position.entry_price is None else position.entry_price
        return position.quantity * (price - entry) + position.unrealised_funding
    if position.entry_price is not None:
        raise CaseError(
            f"a position in {position.underlying!r} gives both entry_price and unrealised_pnl; "
            "give one of them"
        )
    return position.unrealised_pnl + position.unrealised_funding


def _value(item: _Collateral, stable_price: float, rules: CollateralRules) -> float:
    """Value of a collateral balance before its haircut."""
    if item.asset in rules.cash_assets:
        return item.amount
    if not item.price > 0:
        raise CaseError(
            f"collateral {item.asset!r} has price {item.price}; expected a price above 0"
        )
    return item.amount * item.price / stable_price


def _haircuts(item: _Collateral, rules: CollateralRules) -> tuple[float, float]:
    """Haircuts for initial and for maintenance margin."""
    maintenance = item.maintenance_haircut
    if maintenance is None:
        maintenance = rules.haircut(item.asset)
    initial = maintenance + item.initial_extra_haircut
    # Inputs such as 0.8 + 0.2 may end a rounding error above 1.
    if not (0 <= maintenance <= 1 and 0 <= item.initial_extra_haircut <= 1 + 1e-9 - maintenance):
        raise CaseError(
            f"collateral {item.asset!r} has maintenance_haircut {maintenance} and "
            f"initial_extra_haircut {item.initial_extra_haircut}; expected shares, at most 1 in sum"
        )
    return initial, maintenance


def _bracket_symbol(underlying: str, rules: RuleSet) -> str:
    return underlying if underlying in rules.tier.symbols else f"{underlying}USDT"


def _effective_rules(ruleset: str | Mapping[str, Any]) -> RuleSet:
    if isinstance(ruleset, str):
        return _preset(ruleset)
    name = ruleset.get("name")
    if not isinstance(name, str) or not name:
        raise CaseError("ruleset is missing required key name: a preset, or a name of your own")
    if ruleset.get("grid"):
        raise CaseError("ruleset has a grid, which the tier engine does not use; leave it out")
    if "parameters" not in ruleset:
        raise CaseError(
            "ruleset is missing required key parameters; give {} for the preset's own, or the "
            "preset's name alone"
        )
    parameters = ruleset["parameters"]
    if not isinstance(parameters, Mapping) or set(parameters) - set(_PARAMETERS):
        raise CaseError(
            f"ruleset parameters are {parameters!r}; the tier engine knows {', '.join(_PARAMETERS)}"
        )
    if name in list_rulesets():
        content = _preset(name).content()
    elif "brackets" in parameters:
        content = {
            "name": name,
            "version": "given",
            "engine": "tier",
            "source": "given",
            "tier": {},
        }
    else:
        return _preset(name)
    content["tier"] |= parameters
    return ruleset_from_content(content, origin=name)


def _preset(name: str) -> RuleSet:
    if name not in list_rulesets():
        raise CaseError(
            f"ruleset {name!r} is no preset; choose one of {', '.join(list_rulesets())}, or give "
            'an object {"engine": "tier", "name", "parameters": {"brackets": [...]}}'
        )
    return load_ruleset(name)
