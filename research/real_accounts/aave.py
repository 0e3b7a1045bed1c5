"""Rebuild borrowers of Aave from its liquidations and from health factors, as account files.

A borrower with one volatile collateral C and a debt D in stablecoins is a long position of C with
negative cash, and is liquidated at ``D = C · threshold`` (`aave-v2.toml`). Two kinds of borrower:

- **Implied** (`implied_borrowers`): the tables name liquidations and no state before them. A
  liquidation repays up to half of the debt, so D is taken as twice what was repaid, and
  ``C = D / threshold`` at the price then; that book is held unchanged for `HELD_HOURS` before. So
  these accounts tell how a liquidation looks in the hours before **if the borrower did nothing**,
  and there are none that stayed healthy.
- **Recorded** (`recorded_borrowers`): ten borrowers' holdings, about every 18.5 hours, of which
  those with priced collateral and a stable debt can be followed. All failed in the end.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market.accounts.account_files import CLOSED, AccountHistory, Event, write_accounts
from market.accounts.book import Account, Book, Position
from market.core.clock import DAY, HOUR
from market.core.errors import DataError
from market.sources.base import AccountUpdates
from research.real_accounts.hyperliquid import LIQUIDATION, Rebuilt

V2_FOLDER, BTC_FOLDER = "accounts_aave_v2_2020_2022", "accounts_aave_btc_collateral"
HEALTH_FOLDER, PRICES = "accounts_aave_health_factor", "prices_1h_tokens_coingecko"

THRESHOLDS: Mapping[str, float] = {
    "WETH": 0.825,
    "WBTC": 0.75,
    "LINK": 0.75,
    "UNI": 0.70,
    "AAVE": 0.65,
}
"""Liquidation thresholds of the volatile collateral that is followed."""

SYMBOLS: Mapping[str, str] = {
    "WETH": "ETHUSDT",
    "WBTC": "BTCUSDT",
    "LINK": "LINKUSDT",
    "UNI": "UNIUSDT",
    "AAVE": "AAVEUSDT",
}
STABLES: Mapping[str, float] = {
    "USDC": 0.85,
    "DAI": 0.80,
    "TUSD": 0.80,
    "USDT": 0.0,
    "GUSD": 0.0,
    "BUSD": 0.0,
    "SUSD": 0.0,
}
"""Coins that count as a dollar, with their liquidation thresholds; 0 is no collateral."""

BONUS: Mapping[str, float] = {"WETH": 0.05, "WBTC": 0.065, "LINK": 0.10, "UNI": 0.10, "AAVE": 0.15}
"""What a liquidator gets beyond what is repaid; used where only the seized amount is known."""

DECIMALS: Mapping[str, int] = {"USDC": 6, "USDT": 6, "GUSD": 2, "WBTC": 8}
CLOSE_FACTOR = 0.5
"""Largest share of a debt that one liquidation repays."""

HELD_HOURS = 96
"""How long before its liquidation an implied borrower is followed."""

EPISODE = DAY
"""Liquidations of one borrower within this time of the one before belong together."""

_OTHER_SHARE = 0.05
"""Largest share of what cannot be followed in a recorded borrower's collateral or debt."""
_LEAST_DEBT_USD = 10.0


class Episode(NamedTuple):
    """The first liquidation of an episode: time in nanoseconds, borrower, collateral token, its
    price, and debt in USD."""

    time: int
    user: str
    token: str
    price: float
    debt: float


def v2_episodes(data: Path) -> tuple[list[Episode], dict[str, int]]:
    """Episodes of the Aave v2 table, and its liquidations by what became of them.

    Raises
    ------
    DataError
        A file or column is missing.
    """
    columns = (
        *("user", "collateral_symbol", "collateral_price_usd", "debt_symbol"),
        "debt_amount_raw",
    )
    rows = _rows(data / V2_FOLDER / "liquidations.parquet", columns)
    prices = token_prices(data / PRICES / "token_prices.parquet")
    counts: Counter[str] = Counter()
    found: list[Episode] = []
    newest: dict[str, int] = {}
    for time, user, token, price, debt, raw in rows:
        before, newest[user] = newest.get(user), time
        if before is not None and time - before <= EPISODE:
            counts["later of an episode"] += 1
        elif token not in THRESHOLDS:
            counts["collateral not followed"] += 1
        elif debt not in STABLES:
            counts["debt not a stablecoin"] += 1
        else:
            quoted = price if price and price > 0.0 else prices.at(token, time)
            if quoted is None:
                counts["no price"] += 1
                continue
            repaid = float(raw) / 10.0 ** DECIMALS.get(debt, 18)
            counts["followed"] += 1
            found.append(Episode(time, user, token, quoted, repaid / CLOSE_FACTOR))
    return found, dict(counts)


def btc_episodes(data: Path) -> tuple[list[Episode], dict[str, int]]:
    """Episodes of bitcoin collateral on Aave v2 and v3; the debt is unknown and taken as USD."""
    columns = ("liquidatee", "collateral_amount_btc", "collateral_amount_usd")
    rows = _rows(data / BTC_FOLDER / "liquidations.parquet", columns)
    counts: Counter[str] = Counter()
    found: list[Episode] = []
    newest: dict[str, int] = {}
    for time, user, seized, usd in rows:
        before, newest[user] = newest.get(user), time
        if before is not None and time - before <= EPISODE:
            counts["later of an episode"] += 1
        elif not (seized > 0.0 and usd > 0.0):
            counts["nothing seized"] += 1
        else:
            counts["followed"] += 1
            debt = usd / (1.0 + BONUS["WBTC"]) / CLOSE_FACTOR
            found.append(Episode(time, user, "WBTC", usd / seized, debt))
    return found, dict(counts)


def choose(episodes: Iterable[Episode], count: int) -> list[Episode]:
    """At most so many episodes by a hash of borrower and time, in order of time."""
    drawn = sorted(episodes, key=lambda e: hashlib.sha256(f"{e.user}/{e.time}".encode()).digest())
    return sorted(drawn[:count])


def implied_borrowers(episodes: Iterable[Episode], out: Path) -> AccountHistory:
    """Write account files of the borrowers that liquidations imply, one account an episode.

    Raises
    ------
    DataError
        There is no episode.
    """
    states: dict[int, list[Account]] = defaultdict(list)
    events: list[Event] = []
    count: Counter[str] = Counter()
    for episode in episodes:
        count[episode.user] += 1
        name = f"{episode.user}/{count[episode.user]}"
        quantity = episode.debt / (THRESHOLDS[episode.token] * episode.price)
        position = Position(SYMBOLS[episode.token], quantity, episode.price)
        cash = quantity * episode.price - episode.debt
        states[episode.time - HELD_HOURS * HOUR].append(Account(name, cash, (position,)))
        events.append(Event(episode.time, name, LIQUIDATION, episode.debt))
        events.append(Event(episode.time, name, CLOSED))
    return _write(out, states, events)


def recorded_borrowers(data: Path, out: Path) -> Rebuilt:
    """Write account files of the borrowers with recorded holdings.

    A snapshot with over 5% of its collateral or debt in tokens that cannot be followed, or with
    less than 10 USD of debt, ends what is known of the account until the next one.

    Raises
    ------
    DataError
        A file or column is missing, or no snapshot can be followed.
    """
    folder = data / HEALTH_FOLDER
    factor = {
        (time, user): float(value)
        for time, user, value in _rows(
            folder / "health_factor_series.parquet", ("user", "health_factor")
        )
    }
    tokens: dict[tuple[int, str], list[tuple[str, str, float, float]]] = defaultdict(list)
    columns = ("user", "token", "side", "amount_raw", "price_usd")
    for time, user, token, side, raw, price in _rows(
        folder / "health_factor_positions.parquet", columns
    ):
        known = token.upper()  # sUSD is SUSD in the table of liquidations
        amount = float(raw) / 10.0 ** DECIMALS.get(known, 18)
        tokens[time, user].append((known, side, amount, float(price)))

    states: dict[int, list[Account]] = defaultdict(list)
    events: list[Event] = []
    counts: Counter[str] = Counter()
    errors: list[float] = []
    for (time, user), held in sorted(tokens.items()):
        account, reason = borrower(user.lower(), held)
        counts[reason] += 1
        if account is None:
            events.append(Event(time, user.lower(), CLOSED))
            continue
        states[time].append(account)
        recorded = factor.get((time, user), 0.0)
        if recorded > 0.0:
            errors.append(health_factor(held) / recorded - 1.0)
    everyone = {user.lower() for _, user in tokens}
    newest: dict[str, int] = {}
    for time, user, debt in _rows(
        data / V2_FOLDER / "liquidations.parquet", ("user", "debt_symbol")
    ):
        before, newest[user] = newest.get(user), time
        if user in everyone and (before is None or time - before > EPISODE):
            events.append(Event(time, user, LIQUIDATION))
            counts[f"liquidation, debt in {debt}"] += 1
    history = _write(out, states, events)
    off = np.abs(np.array(errors))
    return Rebuilt(
        history,
        {
            "borrowers": len(everyone),
            "snapshots": dict(counts),
            "health_factor_error": {
                "snapshots": len(off),
                "median": float(np.median(off)),
                "q90": float(np.quantile(off, 0.9)),
            },
        },
    )


def borrower(
    account_id: str, held: Iterable[tuple[str, str, float, float]]
) -> tuple[Account | None, str]:
    """A borrower from (token, side, amount, price in USD) and ``followed``; or None and why not."""
    collateral = debt = other_collateral = other_debt = cash = 0.0
    positions = []
    for token, side, amount, price in held:
        value = amount * price
        if side == "debt":
            debt += value
            cash -= value
            other_debt += 0.0 if token in STABLES else value
            continue
        collateral += value
        if token in THRESHOLDS:
            positions.append(Position(SYMBOLS[token], amount, price))
        elif STABLES.get(token, 0.0) > 0.0:
            cash += value * STABLES[token]
        else:
            other_collateral += value
    if debt < _LEAST_DEBT_USD:
        return None, "no debt"
    if other_debt > _OTHER_SHARE * debt:
        return None, "debt not a stablecoin"
    if other_collateral > _OTHER_SHARE * collateral or not positions:
        return None, "collateral not followed"
    # Linear positions count from their entry: their value then is part of the cash.
    cash += sum(p.quantity * (p.entry_price or 0.0) for p in positions)
    return Account(account_id, cash, tuple(positions)), "followed"


def health_factor(held: Iterable[tuple[str, str, float, float]]) -> float:
    """``Σ collateral · threshold / Σ debt`` with the thresholds above; NaN without debt."""
    weighted = debt = 0.0
    for token, side, amount, price in held:
        if side == "debt":
            debt += amount * price
        else:
            weighted += amount * price * THRESHOLDS.get(token, STABLES.get(token, 0.0))
    return weighted / debt if debt else float("nan")


class TokenPrices:
    """Prices of tokens at irregular times."""

    def __init__(self, by_token: Mapping[str, tuple[list[int], list[float]]]) -> None:
        self._by_token = {
            token: (np.array(times, dtype=np.int64), np.array(prices))
            for token, (times, prices) in by_token.items()
        }

    def at(self, token: str, time: int, age: int = 2 * HOUR) -> float | None:
        """Newest price of a token at a time; None if there is none that is young enough."""
        if token not in self._by_token:
            return None
        times, prices = self._by_token[token]
        i = int(np.searchsorted(times, time, side="right")) - 1
        return float(prices[i]) if i >= 0 and time - times[i] <= age else None


def token_prices(path: Path) -> TokenPrices:
    """Hourly prices of the tokens that are followed."""
    found: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for time, symbol, price in _rows(path, ("symbol", "price_usd")):
        if symbol in THRESHOLDS:
            found[symbol][0].append(time)
            found[symbol][1].append(price)
    return TokenPrices(found)


def _write(out: Path, states: Mapping[int, list[Account]], events: list[Event]) -> AccountHistory:
    if not states:
        raise DataError(f"no borrower can be followed; {out} is not written")
    snapshots = (AccountUpdates(time, Book.of(states[time])) for time in sorted(states))
    return write_accounts(out, snapshots, events)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterable[tuple[Any, ...]]:
    """Rows of a file by time: ts in nanoseconds, then the columns."""
    try:
        table = pq.read_table(path, columns=["ts", *columns]).sort_by("ts")
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read with columns ts, {', '.join(columns)}: {error}; give the "
            "folder of the recorded data with --data"
        ) from error
    stamps = table["ts"].cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64())
    rest = (table[column].to_pylist() for column in columns)
    return zip(stamps.to_pylist(), *rest, strict=True)
