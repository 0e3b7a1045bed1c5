"""What the rules say about accounts: the figures that floors, features and add-on read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from margin.book.portfolio_batch import Portfolios, row_entries
from market.core.arrays import Bools, Floats, Ints
from market.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Collateral:
    """B balances of N accounts.

    Attributes
    ----------
    start:
        Offsets of each account's balances, shape (N + 1,).
    symbol:
        Row of each asset's price in the view's symbols, shape (B,); −1 for a cash asset, and
        where there is no price.
    value:
        Amount at the mark, before haircuts, settlement currency, shape (B,); negative for a
        debt, NaN where there is no price.
    haircut:
        Share of a positive value that does not count, shape (B,); 0 for cash assets.
    premium:
        Share of a debt that is required on top of it, shape (B,); None where no debt has one.
    """

    start: Ints
    symbol: Ints
    value: Floats
    haircut: Floats
    premium: Floats | None = None

    @classmethod
    def none(cls, accounts: int) -> Collateral:
        """The collateral of N accounts that have none."""
        start = np.zeros(accounts + 1, dtype=np.int64)
        return cls(start, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))

    def counted(self) -> Floats:
        """What each balance counts for, shape (B,): a debt in full, and with its premium."""
        with np.errstate(over="ignore", invalid="ignore"):  # a problem of the account
            debt = self.value if self.premium is None else self.value * (1.0 + self.premium)
            return np.where(self.value < 0, debt, self.value * (1.0 - self.haircut))


@dataclass(frozen=True, slots=True)
class OptionLegs:
    """What L positions are beyond their delta exposure, every array of shape (L,).

    Attributes
    ----------
    option:
        Whether it is an option.
    value, gamma, vega:
        Settlement currency, see `margin.valuation.exposures.Exposures`: 0 of spot and perps, NaN
        where a position cannot be valued.
    age_hours:
        Age of the older of the quotes of an option's forward and vol; 0 for others.
    """

    option: Bools
    value: Floats
    gamma: Floats
    vega: Floats
    age_hours: Floats

    @classmethod
    def none(cls, legs: int) -> OptionLegs:
        """The legs of L positions that are no options."""
        return cls(np.zeros(legs, dtype=np.bool_), *(np.zeros(legs) for _ in range(4)))


def _empty() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the rules say about N accounts with L positions, settlement currency.

    Attributes
    ----------
    equity:
        Cash + collateral after haircuts + unrealised profit and loss, shape (N,).
    initial_margin, maintenance_margin:
        Shape (N,): summed apart from equity.
    headroom:
        ``equity - maintenance_margin``, shape (N,).
    gross_notional:
        Sum of absolute `leg_notional`, shape (N,): options with their delta exposure.
    leg_start:
        Offsets of each account's positions, shape (N + 1,).
    leg_symbol:
        Row of each position in the view's symbols, −1 where it cannot be valued, shape (L,).
    leg_notional:
        Signed, shape (L,); NaN where it cannot be valued: quantity times mark of spot and perps,
        the delta exposure of an option (`margin.valuation.exposures.Exposures.delta`), which is
        what hedges it in its underlying.
    leg_age_hours:
        Age of the price that values the position, of an option that of its underlying, shape
        (L,); NaN where it is not known.
    leg_suspect:
        Whether a newer price of the position waits for confirmation, shape (L,).
    problems:
        Why an account has no figures, by its index: its first error. All its figures are NaN; the
        other accounts are not touched.
    collateral:
        The balances inside `equity`.
    options:
        What positions are beyond their exposure; None where there is no option among them.
    leg_unrealised_pnl, leg_initial_margin, leg_maintenance_margin:
        Shape (L,). The unrealised profit of an option is 0: it counts at its value. Empty where
        the engine did not margin portfolios.
    priced:
        The portfolios that the engine margined; None where there are none.
    """

    equity: Floats
    initial_margin: Floats
    maintenance_margin: Floats
    headroom: Floats
    gross_notional: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_notional: Floats
    leg_age_hours: Floats
    leg_suspect: Bools
    problems: dict[int, DataError]
    collateral: Collateral
    options: OptionLegs | None = None
    leg_unrealised_pnl: Floats = field(default_factory=_empty)
    leg_initial_margin: Floats = field(default_factory=_empty)
    leg_maintenance_margin: Floats = field(default_factory=_empty)
    priced: Portfolios | None = None

    def __len__(self) -> int:
        return len(self.equity)

    @property
    def portfolios(self) -> Portfolios:
        """The portfolios that the engine margined; raises `DataError` where there are none."""
        if self.priced is None:
            raise DataError("the requirement has no portfolios; compute it from a book")
        return self.priced

    def take(self, accounts: Ints) -> Requirement:
        """The requirement of chosen accounts, in the order given, without margins of the legs."""
        start, legs = row_entries(self.leg_start, accounts)
        collateral, options, problems = self.collateral, self.options, self.problems
        balance_start, balances = row_entries(collateral.start, accounts)
        premium = collateral.premium
        return Requirement(
            **{name: getattr(self, name)[accounts] for name in _OF_ACCOUNTS},
            **{name: getattr(self, name)[legs] for name in _OF_LEGS},
            leg_start=start,
            problems={
                i: problems[account]
                for i, account in (enumerate(accounts.tolist()) if problems else ())
                if account in problems
            },
            collateral=Collateral(
                balance_start,
                collateral.symbol[balances],
                collateral.value[balances],
                collateral.haircut[balances],
                None if premium is None else premium[balances],
            ),
            options=None
            if options is None
            else OptionLegs(*(getattr(options, name)[legs] for name in _OF_OPTIONS)),
        )


_OF_ACCOUNTS = ("equity", "initial_margin", "maintenance_margin", "headroom", "gross_notional")
_OF_LEGS = ("leg_symbol", "leg_notional", "leg_age_hours", "leg_suspect")
_OF_OPTIONS = ("option", "value", "gamma", "vega", "age_hours")


def concatenate_requirements(parts: Sequence[Requirement]) -> Requirement:
    """The requirements of one or more groups of accounts over the same symbols, one after the
    other, without margins of the legs."""
    collateral = [part.collateral for part in parts]
    premium = None
    if any(one.premium is not None for one in collateral):
        premium = np.concatenate(
            [np.zeros(len(one.value)) if one.premium is None else one.premium for one in collateral]
        )
    options = None
    if any(part.options is not None for part in parts):
        legs = [part.options or OptionLegs.none(len(part.leg_symbol)) for part in parts]
        options = OptionLegs(*(_concatenate(legs, name) for name in _OF_OPTIONS))
    first = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    return Requirement(
        **{name: _concatenate(parts, name) for name in (*_OF_ACCOUNTS, *_OF_LEGS)},
        leg_start=_concatenate_offsets([part.leg_start for part in parts]),
        problems={
            begin + i: problem
            for begin, part in zip(first, parts, strict=False)
            for i, problem in part.problems.items()
        },
        collateral=Collateral(
            _concatenate_offsets([one.start for one in collateral]),
            _concatenate(collateral, "symbol"),
            _concatenate(collateral, "value"),
            _concatenate(collateral, "haircut"),
            premium,
        ),
        options=options,
    )


def _concatenate(parts: Sequence[object], name: str) -> Any:
    return np.concatenate([getattr(part, name) for part in parts])


def _concatenate_offsets(starts: Sequence[Ints]) -> Ints:
    counts = np.concatenate([np.diff(start) for start in starts])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
