"""Draw the book of a venue: accounts as they stand after what prices did since they opened.

An account opens at a past close with the equity, leverage and coins of its kind, every position at
the mark of that close, and holds its book since. Where the venue would have closed it by now
(`ClientLimits`) the next draw takes its place, as a new client does. So some accounts are short of
margin at the end, and for no other reason than the prices: nothing of the rules or of a model is
known here.

Coins are chosen without replacement, with chances in proportion to the square root of turnover;

quantity = ± leverage * weight * equity / mark, weights exponential, normalised to sum 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from market.accounts.account_files import Event
from market.accounts.book import Account, Balance, Book, Position
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import HOUR
from market.core.errors import ConfigError, DataError
from market.simulator.clients.client_kinds import ClientKind, ClientKinds, ClientLimits
from market.sources.base import AccountUpdates

_THIN_COINS = 3
_MOST_DRAWS = 100
"""Draws after which the place of an account that the venue closed each time stays empty."""


class OpenedAccount(NamedTuple):
    """An account as it opened, and the row of the close at which it did."""

    row: int
    account: Account
    equity: float


@dataclass(frozen=True, slots=True)
class ClientBook:
    """Drawn accounts, sorted by the row at which they opened, then by id."""

    opened: tuple[OpenedAccount, ...]

    def __len__(self) -> int:
        return len(self.opened)

    def snapshots(self, closes: Ints) -> Iterator[AccountUpdates]:
        """The books that open at each close, by rising time, as account files hold them."""
        rows = sorted({found.row for found in self.opened})
        by_row: dict[int, list[Account]] = {row: [] for row in rows}
        for found in self.opened:
            by_row[found.row].append(found.account)
        for row in rows:
            yield AccountUpdates(int(closes[row]), Book.of(by_row[row]))

    def events(self, closes: Ints) -> list[Event]:
        """The deposit with which each account opened."""
        return [
            Event(int(closes[found.row]), found.account.account_id, "deposit", found.equity)
            for found in self.opened
        ]


@dataclass(frozen=True, slots=True)
class PastMarket:
    """What clients traded on.

    Attributes
    ----------
    symbols:
        Names of the S columns, like BTCUSDT.
    closes:
        Nanoseconds, int64, shape (T,), rising in even steps.
    mark:
        Mark at each close, shape (T, S); NaN where there is none: the last one before it counts.
    eligible:
        Coins that can be traded at each close, shape (T, S).
    turnover:
        USD a day of each coin, shape (S,).
    """

    symbols: tuple[str, ...]
    closes: Ints
    mark: Floats
    eligible: Bools
    turnover: Floats


def draw_client_book(
    clients: ClientKinds, accounts: int, seed: int, market: PastMarket
) -> ClientBook:
    """Draw a book as it stands at the last close.

    Parameters
    ----------
    clients:
        Kinds and limits.
    accounts:
        Number of accounts, 1 or more, split by the shares of the kinds.
    seed:
        Not negative. Each account has random numbers of its own.
    market:
        The past.

    Raises
    ------
    ConfigError
        `accounts` or `seed` is out of its range.
    DataError
        Fewer than two closes, or no coin could be traded.
    """
    if accounts < 1 or seed < 0:
        raise ConfigError(
            f"{accounts} accounts with seed {seed} cannot be drawn; give 1 or more, and 0 or more"
        )
    if len(market.closes) < 2 or not market.eligible.any():
        raise DataError(
            f"no client can trade on {len(market.closes)} closes without an eligible coin; give a "
            "longer market"
        )
    past = _Past(market, clients.limits)
    drawn = []
    counts = clients.counts(accounts)
    for k, (kind, count) in enumerate(zip(clients.kinds, counts, strict=True)):
        digits = max(3, len(str(count)))
        for number in range(1, count + 1):
            entropy = np.random.SeedSequence([seed, k, number])
            random = np.random.Generator(np.random.Philox(entropy))
            found = past.client(kind, f"{kind.name}-{number:0{digits}d}", random)
            if found is not None:
                drawn.append(found)
    drawn.sort(key=lambda found: (found.row, found.account.account_id))
    return ClientBook(tuple(drawn))


class _Past:
    """A market that accounts are drawn from."""

    def __init__(self, market: PastMarket, limits: ClientLimits) -> None:
        self._market = market
        self._limits = limits
        self._mark = _filled(market.mark)
        step = int(market.closes[1] - market.closes[0])
        self._rows_an_hour = HOUR / step
        self._thin = np.argsort(market.turnover, kind="stable")[:_THIN_COINS]

    def client(
        self, kind: ClientKind, account_id: str, random: np.random.Generator
    ) -> OpenedAccount | None:
        """The first draw that the venue has not closed; None where it closed all of them."""
        for _ in range(_MOST_DRAWS):
            found = self._draw(kind, account_id, random)
            if found is not None and not self._closed(found):
                return found
        return None

    def _draw(
        self, kind: ClientKind, account_id: str, random: np.random.Generator
    ) -> OpenedAccount | None:
        """One draw; None where no coin of the kind could be traded at its opening."""
        last = len(self._mark) - 1
        age = int(random.exponential(kind.mean_days * 24.0) * self._rows_an_hour)
        row = last - min(age, last)
        low, high = math.log(kind.equity.least), math.log(kind.equity.most)
        equity = round(math.exp(random.uniform(low, high)), 2)
        leverage = kind.leverage.median * math.exp(kind.leverage.log_sigma * random.normal())
        leverage = min(max(leverage, kind.leverage.least), kind.leverage.most)
        candidates = np.flatnonzero(self._market.eligible[row])
        if kind.thin:
            candidates = candidates[np.isin(candidates, self._thin)]
        count = min(int(random.integers(kind.coins.least, kind.coins.most + 1)), len(candidates))
        if not count:
            return None
        liquidity = np.sqrt(self._market.turnover[candidates])
        chosen = random.choice(candidates, count, replace=False, p=liquidity / liquidity.sum())
        coins = np.sort(chosen)
        weights = random.exponential(size=count)
        signs = np.where(random.random(count) < kind.long_probability, 1.0, -1.0)
        # Both sides of a hedge are notional.
        scale = leverage * equity / (weights.sum() * (1.0 + kind.hedge))
        positions = []
        for coin, weight, sign in zip(
            coins.tolist(), weights.tolist(), signs.tolist(), strict=True
        ):
            symbol, price = self._market.symbols[coin], float(self._mark[row, coin])
            entry = _significant(price, 6)
            quantity = _significant(sign * scale * weight / price, 4)
            positions.append(Position(f"{symbol}-PERP", quantity, entry))
            if kind.hedge:
                positions.append(Position(symbol, _significant(-kind.hedge * quantity, 4), entry))
        cash, balances = equity, []
        if kind.collateral is not None:
            asset = str(random.choice(kind.collateral.assets))
            column = self._column(asset)
            if column is not None and self._market.eligible[row, column]:
                price = float(self._mark[row, column])
                amount = _significant(kind.collateral.share * equity / price, 4)
                balances.append(Balance(asset, amount))
                cash = round(equity - amount * price, 2)
        account = Account(account_id, cash, tuple(positions), tuple(balances))
        return OpenedAccount(row, account, equity)

    def _closed(self, found: OpenedAccount) -> bool:
        """Whether the venue closed it between its opening and the last close."""
        mark = self._mark[found.row :]
        equity = np.full(len(mark), found.account.cash)
        gross = np.zeros(len(mark))
        for position in found.account.positions:
            price = mark[:, self._columns(position.instrument)]
            equity += position.quantity * (price - (position.entry_price or 0.0))
            gross += abs(position.quantity) * price
        for balance in found.account.collateral:
            equity += balance.amount * mark[:, self._columns(f"{balance.asset}USDT")]
        if (gross >= self._limits.close_out_leverage * equity).any():
            return True
        short = gross >= self._limits.call_leverage * equity
        covered = np.flatnonzero(~short)
        # Rows since the last cover, at each row: the length of a shortfall so far.
        longest = np.diff(np.r_[-1, covered, len(mark)]).max() - 1
        return bool(longest > self._limits.hours_to_cure * self._rows_an_hour)

    def _columns(self, instrument: str) -> int:
        return self._market.symbols.index(instrument.removesuffix("-PERP"))

    def _column(self, asset: str) -> int | None:
        symbol = f"{asset}USDT"
        return self._market.symbols.index(symbol) if symbol in self._market.symbols else None


def _filled(mark: Floats) -> Floats:
    """Marks with the last one held where there is none; NaN before the first."""
    rows = np.where(np.isnan(mark), -1, np.arange(len(mark))[:, np.newaxis])
    last = np.maximum.accumulate(rows, axis=0)
    held: Floats = np.where(last < 0, np.nan, np.take_along_axis(mark, np.maximum(last, 0), axis=0))
    return held


def _significant(number: float, digits: int) -> float:
    """A number with so many significant digits, as a client would type it."""
    return float(f"{number:.{digits}g}")
