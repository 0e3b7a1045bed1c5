"""What the rules say about the accounts of a book: the figures that floors and add-on read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.segment_sums import row_entries
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


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
        """That of so many accounts without any."""
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
        Since the older of the quotes that an option's forward and vol come from; 0 for others.
    """

    option: Bools
    value: Floats
    gamma: Floats
    vega: Floats
    age_hours: Floats

    @classmethod
    def none(cls, legs: int) -> OptionLegs:
        """Of so many positions of which none is an option."""
        return cls(np.zeros(legs, dtype=np.bool_), *(np.zeros(legs) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class LegPrices:
    """How good the prices of L positions are, every array of shape (L,).

    Attributes
    ----------
    age_hours:
        Age of the price that values the position, of an option that of its underlying; NaN where
        it is not known.
    suspect:
        Whether a newer price waits for confirmation.
    """

    age_hours: Floats
    suspect: Bools


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """Equity, margins and exposures of N accounts with L positions, settlement currency.

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
    leg_prices:
        Age of the positions' prices.
    problems:
        Why an account has no figures, by its index: the first thing found wrong with it. All
        its figures are NaN; the other accounts are not touched.
    collateral:
        The balances inside `equity`.
    options:
        What positions are beyond their exposure; None where there is no option among them.
    """

    equity: Floats
    initial_margin: Floats
    maintenance_margin: Floats
    headroom: Floats
    gross_notional: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_notional: Floats
    leg_prices: LegPrices
    problems: dict[int, DataError]
    collateral: Collateral
    options: OptionLegs | None

    def __len__(self) -> int:
        return len(self.equity)

    def take(self, index: Ints) -> AccountFigures:
        """Figures of chosen accounts, in the order given."""
        leg_start, legs = row_entries(self.leg_start, index)
        start, balances = row_entries(self.collateral.start, index)
        held, options = self.collateral, self.options
        problems = self.problems
        return AccountFigures(
            equity=self.equity[index],
            initial_margin=self.initial_margin[index],
            maintenance_margin=self.maintenance_margin[index],
            headroom=self.headroom[index],
            gross_notional=self.gross_notional[index],
            leg_start=leg_start,
            leg_symbol=self.leg_symbol[legs],
            leg_notional=self.leg_notional[legs],
            leg_prices=LegPrices(self.leg_prices.age_hours[legs], self.leg_prices.suspect[legs]),
            problems={
                i: problems[account]
                for i, account in (enumerate(index.tolist()) if problems else ())
                if account in problems
            },
            collateral=Collateral(
                start,
                held.symbol[balances],
                held.value[balances],
                held.haircut[balances],
                None if held.premium is None else held.premium[balances],
            ),
            options=None
            if options is None
            else OptionLegs(
                options.option[legs],
                options.value[legs],
                options.gamma[legs],
                options.vega[legs],
                options.age_hours[legs],
            ),
        )


def concatenate_figures(parts: Sequence[AccountFigures]) -> AccountFigures:
    """Figures of one or more groups of accounts over the same symbols, one after the other."""

    def joined(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts])

    held = [part.collateral for part in parts]
    premiums = None
    if any(one.premium is not None for one in held):
        premiums = np.concatenate(
            [np.zeros(len(one.value)) if one.premium is None else one.premium for one in held]
        )
    options = None
    if any(part.options is not None for part in parts):
        legs = [part.options or OptionLegs.none(len(part.leg_symbol)) for part in parts]
        options = OptionLegs(
            np.concatenate([own.option for own in legs]),
            *(
                np.concatenate([getattr(own, name) for own in legs])
                for name in ("value", "gamma", "vega", "age_hours")
            ),
        )
    first = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    return AccountFigures(
        equity=joined("equity"),
        initial_margin=joined("initial_margin"),
        maintenance_margin=joined("maintenance_margin"),
        headroom=joined("headroom"),
        gross_notional=joined("gross_notional"),
        leg_start=_joined_offsets([part.leg_start for part in parts]),
        leg_symbol=np.concatenate([part.leg_symbol for part in parts]),
        leg_notional=joined("leg_notional"),
        leg_prices=LegPrices(
            np.concatenate([part.leg_prices.age_hours for part in parts]),
            np.concatenate([part.leg_prices.suspect for part in parts]),
        ),
        problems={
            begin + i: problem
            for begin, part in zip(first, parts, strict=False)
            for i, problem in part.problems.items()
        },
        collateral=Collateral(
            _joined_offsets([one.start for one in held]),
            np.concatenate([one.symbol for one in held]),
            np.concatenate([one.value for one in held]),
            np.concatenate([one.haircut for one in held]),
            premiums,
        ),
        options=options,
    )


def _joined_offsets(starts: Sequence[Ints]) -> Ints:
    counts = np.concatenate([np.diff(start) for start in starts])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
