"""Accounts and books of accounts.

`Account` is the readable form of one account; `Book` holds many in flat arrays (compressed sparse
rows), which is what the margin engine, the features and the scorer work on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from market.core.arrays import Floats, Ints

SETTLEMENT_CURRENCY = "USD"
"""What accounts settle in: `Account.cash` is an amount of it."""


@dataclass(frozen=True, slots=True)
class Position:
    """A signed quantity of one instrument, in units of the underlying; entry price or None."""

    instrument: str
    quantity: float
    entry_price: float | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """An amount of a collateral asset, in units of that asset."""

    asset: str
    amount: float


@dataclass(frozen=True, slots=True)
class Account:
    """One account: cash in the settlement currency, positions and collateral."""

    account_id: str
    cash: float
    positions: tuple[Position, ...] = ()
    collateral: tuple[Balance, ...] = ()


@dataclass(frozen=True)
class Book:
    """N accounts in flat arrays.

    The positions of account i are rows ``leg_start[i]:leg_start[i + 1]`` of the ``leg_*`` arrays;
    its collateral likewise with ``balance_*``.

    Attributes
    ----------
    account_ids:
        Length N.
    cash:
        Settlement currency, shape (N,).
    leg_start, balance_start:
        Offsets, int64, shape (N + 1,).
    leg_instrument:
        Identifier of each position, length L.
    leg_quantity:
        Signed, units of the underlying, shape (L,).
    leg_entry_price:
        Shape (L,); NaN means: entry at the mark, so no unrealised profit or loss.
    balance_asset:
        Identifier of each collateral asset, length B.
    balance_amount:
        Units of the asset, shape (B,).
    """

    account_ids: tuple[str, ...]
    cash: Floats
    leg_start: Ints
    leg_instrument: tuple[str, ...]
    leg_quantity: Floats
    leg_entry_price: Floats
    balance_start: Ints
    balance_asset: tuple[str, ...]
    balance_amount: Floats

    def __len__(self) -> int:
        return len(self.account_ids)

    @cached_property
    def held(self) -> tuple[tuple[str, ...], Ints]:
        """Identifiers of the instruments, each once, and of each position its place among them,
        int64, shape (L,)."""
        names = tuple(dict.fromkeys(self.leg_instrument))
        place = {name: k for k, name in enumerate(names)}
        code = np.fromiter(
            map(place.__getitem__, self.leg_instrument), np.int64, len(self.leg_instrument)
        )
        return names, code

    def accounts(self) -> tuple[Account, ...]:
        """The readable form, one `Account` each; the inverse of `of`."""
        entries = [None if price != price else price for price in self.leg_entry_price.tolist()]
        legs = [
            Position(*leg)
            for leg in zip(self.leg_instrument, self.leg_quantity.tolist(), entries, strict=True)
        ]
        balances = [
            Balance(*balance)
            for balance in zip(self.balance_asset, self.balance_amount.tolist(), strict=True)
        ]
        return tuple(
            Account(
                account_id,
                cash,
                tuple(legs[self.leg_start[i] : self.leg_start[i + 1]]),
                tuple(balances[self.balance_start[i] : self.balance_start[i + 1]]),
            )
            for i, (account_id, cash) in enumerate(
                zip(self.account_ids, self.cash.tolist(), strict=True)
            )
        )

    def take(self, index: Ints) -> Book:
        """Chosen accounts, in the order given; one may be chosen several times."""
        leg_start, legs = _entries(self.leg_start, index)
        balance_start, balances = _entries(self.balance_start, index)
        return Book(
            account_ids=tuple([self.account_ids[i] for i in index.tolist()]),
            cash=self.cash[index],
            leg_start=leg_start,
            leg_instrument=tuple([self.leg_instrument[leg] for leg in legs.tolist()]),
            leg_quantity=self.leg_quantity[legs],
            leg_entry_price=self.leg_entry_price[legs],
            balance_start=balance_start,
            balance_asset=tuple([self.balance_asset[b] for b in balances.tolist()]),
            balance_amount=self.balance_amount[balances],
        )

    @classmethod
    def joined(cls, parts: Sequence[Book]) -> Book:
        """The accounts of one or more books, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            account_ids=tuple(name for part in parts for name in part.account_ids),
            cash=np.concatenate([part.cash for part in parts]),
            leg_start=_joined_offsets([part.leg_start for part in parts]),
            leg_instrument=tuple(name for part in parts for name in part.leg_instrument),
            leg_quantity=np.concatenate([part.leg_quantity for part in parts]),
            leg_entry_price=np.concatenate([part.leg_entry_price for part in parts]),
            balance_start=_joined_offsets([part.balance_start for part in parts]),
            balance_asset=tuple(name for part in parts for name in part.balance_asset),
            balance_amount=np.concatenate([part.balance_amount for part in parts]),
        )

    @classmethod
    def of(cls, accounts: Sequence[Account]) -> Book:
        """Flatten accounts, keeping their order."""
        legs = [position for account in accounts for position in account.positions]
        balances = [balance for account in accounts for balance in account.collateral]
        return cls(
            account_ids=tuple(account.account_id for account in accounts),
            cash=np.array([account.cash for account in accounts], dtype=np.float64),
            leg_start=_offsets([len(account.positions) for account in accounts]),
            leg_instrument=tuple(leg.instrument for leg in legs),
            leg_quantity=np.array([leg.quantity for leg in legs], dtype=np.float64),
            leg_entry_price=np.array(
                [np.nan if leg.entry_price is None else leg.entry_price for leg in legs],
                dtype=np.float64,
            ),
            balance_start=_offsets([len(account.collateral) for account in accounts]),
            balance_asset=tuple(balance.asset for balance in balances),
            balance_amount=np.array([balance.amount for balance in balances], dtype=np.float64),
        )


def _entries(start: Ints, index: Ints) -> tuple[Ints, Ints]:
    counts = start[index + 1] - start[index]
    chosen = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return chosen, np.arange(chosen[-1]) + np.repeat(start[index] - chosen[:-1], counts)


def _joined_offsets(starts: Sequence[Ints]) -> Ints:
    counts = np.concatenate([np.diff(start) for start in starts])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _offsets(counts: list[int]) -> Ints:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
