"""The population sampler: accounts to score where a venue has no account history.

A population has `count` slots. Each slot holds one account after another, each for `life_hours`; an
account draws its book at opening and holds it to its end (what owners may do meanwhile:
`market.simulator.account_behaviour`), so leverage is refreshed weekly while every account has days
of continuous history. Slots are staggered: openings spread evenly over the hours of a life.

An account is drawn by hashing (seed, slot, epoch), with the epoch counted from 1970. No generator
is carried from one account to the next, so any part of a span samples exactly the accounts that
the whole span would, in any order.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta
from numba import njit

from market.accounts.book import Book
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import HOUR, format_time
from market.core.errors import ConfigError, DataError
from market.simulator.behaviour_rates import Behaviour
from market.simulator.counter_rng import mix, slot_key, uniform

MAX_COUNT = 100_000
"""Largest number of accounts open at a time; slots are written with five digits."""

_FOLDER = Path(__file__).with_name("populations")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")

_PositiveFloat = Annotated[float, Meta(gt=0.0, le=1e12)]


class Leverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gross notional over equity at opening: log-normal with `median` and `log_sigma`, clipped to
    [`least`, `most`]."""

    median: _PositiveFloat
    log_sigma: Annotated[float, Meta(ge=0.0, le=10.0)]
    least: _PositiveFloat
    most: _PositiveFloat


class CoinCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Number of coins in a book: uniform from `least` to `most`."""

    least: Annotated[int, Meta(ge=1)]
    most: Annotated[int, Meta(ge=1, le=64)]


class Legs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How gross notional is split: `weights` normalised to sum 1; each leg is long with
    `long_probability`, else short."""

    weights: Literal["exponential"]
    long_probability: Annotated[float, Meta(ge=0.0, le=1.0)]


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Distribution that books are drawn from.

    Attributes
    ----------
    name:
        Name of the file in ``market/simulator/populations``.
    life_hours:
        Hours that an account is open.
    equity:
        Equity at opening in the settlement currency, all of it cash.
    leverage, coins, legs:
        What a book holds.
    behaviour:
        What owners do with it; None where a book is held as it was drawn.
    """

    name: str
    life_hours: Annotated[int, Meta(ge=1, le=87_600)]
    equity: _PositiveFloat
    leverage: Leverage
    coins: CoinCount
    legs: Legs
    behaviour: Behaviour | None = None

    @property
    def sha256(self) -> str:
        """Identity of the figures, whatever the layout of the file."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @classmethod
    def load(cls, name: str) -> Population:
        """Read a population by its name; raises `ConfigError` where it is unknown or malformed."""
        path = _FOLDER / f"{name}.toml"
        if not _NAME.fullmatch(name) or not path.is_file():
            known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.toml")))
            raise ConfigError(f"accounts.population {name!r} is not known; choose one of {known}")
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Population:
        """Read and check a population file.

        Raises
        ------
        ConfigError
            The file is missing or no TOML, has an unknown or missing key, or a figure is
            impossible.
        """
        try:
            population = msgspec.convert(tomllib.loads(path.read_text("utf-8")), cls)
        except (OSError, ValueError, msgspec.ValidationError) as error:
            raise ConfigError(f"population file {path} cannot be used: {error}") from error
        leverage, coins = population.leverage, population.coins
        if not leverage.least <= leverage.median <= leverage.most:
            raise ConfigError(
                f"population file {path}: leverage has least {leverage.least}, median "
                f"{leverage.median} and most {leverage.most}; they must rise"
            )
        if coins.least > coins.most:
            raise ConfigError(
                f"population file {path}: coins has least {coins.least} above most {coins.most}"
            )
        if population.name != path.stem:
            raise ConfigError(
                f"population file {path} is named {population.name!r} inside; both must agree"
            )
        return population


@dataclass(frozen=True, slots=True)
class SampledAccounts:
    """N sampled accounts with L legs, sorted by slot, then by epoch (so by account id).

    Attributes
    ----------
    slot, epoch:
        Who: int64, shape (N,).
    opening_row, end_row:
        Rows of the decision times at which the account is open: from its opening to before its
        end, int64, shape (N,). The book is drawn at the opening's mark and so known at it.
    cash:
        Settlement currency at opening, shape (N,); equity too, as every leg enters at its mark.
    leg_start:
        The legs of account i are rows ``leg_start[i]:leg_start[i + 1]``, int64, shape (N + 1,).
    leg_symbol:
        Column of the mark, int64, shape (L,); rising within an account.
    leg_quantity:
        Signed, units of the underlying, shape (L,).
    leg_entry_price:
        Mark at opening, shape (L,).
    """

    slot: Ints
    epoch: Ints
    opening_row: Ints
    end_row: Ints
    cash: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_quantity: Floats
    leg_entry_price: Floats

    def __len__(self) -> int:
        return len(self.slot)

    def account_id(self, account: int) -> str:
        """Id of an account by its index, like ``s00012-002890``."""
        return f"s{self.slot[account]:05d}-{self.epoch[account]:06d}"

    def open_at(self, row: int) -> Ints:
        """Indices of the accounts open at a row of the decision times, rising, int64."""
        return np.flatnonzero((self.opening_row <= row) & (row < self.end_row))

    def book_at(self, row: int, symbols: Sequence[str]) -> Book:
        """The book of all accounts open at a row, sorted by account id; see `book_of`."""
        return self.book_of(self.open_at(row), symbols)

    def book_of(self, accounts: Ints, symbols: Sequence[str]) -> Book:
        """The books of chosen accounts, in the order given.

        Parameters
        ----------
        accounts:
            Index of each account, int64, shape (n,).
        symbols:
            Names of the columns of the mark; a leg is the perpetual ``<symbol>-PERP``.
        """
        counts = np.diff(self.leg_start)[accounts]
        leg_start = np.zeros(len(accounts) + 1, dtype=np.int64)
        np.cumsum(counts, out=leg_start[1:])
        shift = np.repeat(self.leg_start[accounts] - leg_start[:-1], counts)
        legs = np.arange(leg_start[-1]) + shift
        return Book(
            account_ids=tuple(self.account_id(int(account)) for account in accounts),
            cash=self.cash[accounts],
            leg_start=leg_start,
            leg_instrument=tuple(f"{symbols[symbol]}-PERP" for symbol in self.leg_symbol[legs]),
            leg_quantity=self.leg_quantity[legs],
            leg_entry_price=self.leg_entry_price[legs],
            balance_start=np.zeros(len(accounts) + 1, dtype=np.int64),
            balance_asset=(),
            balance_amount=np.empty(0),
        )


def sample_population(
    population: Population,
    count: int,
    seed: int,
    decision_times: Ints,
    mark: Floats,
    eligible: Bools,
) -> SampledAccounts:
    """Draw the accounts that open on a grid of decision times.

    quantity = leverage · weight · sign · equity / mark, all drawn at opening and held to the end.

    An account that opened before the first row is not sampled, because its marks are unknown: the
    number of open accounts rises to `count` over the first `life_hours` rows of an hourly grid with
    eligible coins, so give that much warm-up. Where fewer coins are eligible than drawn the book
    holds as many as there are; where none is, the account is left out.

    Parameters
    ----------
    population:
        What to draw from. Its figures do not enter the hash: two populations that differ in one
        figure are drawn with common random numbers.
    count:
        Slots, 1 to `MAX_COUNT`; accounts open at any time. Slot i is the same for every count.
    seed:
        Not negative, below 2**63.
    decision_times:
        Nanoseconds, int64, shape (T,), rising in even steps that divide an hour, on that grid.
    mark:
        Shape (T, S); NaN where there is none.
    eligible:
        Coins that may be drawn: with a price and enough history, shape (T, S).

    Returns
    -------
    SampledAccounts
        Symbols are chosen uniformly among the eligible, by column: another order of the columns
        is another sample.

    Raises
    ------
    ConfigError
        `count` or `seed` is out of its range.
    DataError
        The grid is uneven or off the hour, shapes disagree, or an eligible coin has no positive
        mark.

    References
    ----------
    Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators", for the hash.
    """
    if not 1 <= count <= MAX_COUNT:
        raise ConfigError(f"accounts.count is {count}; expected 1 to {MAX_COUNT}")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"accounts.seed is {seed}; expected 0 to 2**63 - 1")
    step = _check_grid(decision_times)
    _check_mark(decision_times, mark, eligible)

    slot, epoch, opening = _openings(population.life_hours, count, seed, decision_times)
    opening_row = (opening - decision_times[0]) // step
    end_row = np.minimum(opening_row + population.life_hours * HOUR // step, len(decision_times))

    legs, symbol, quantity = _draw(
        np.uint64(seed),
        slot.astype(np.uint64),
        epoch.astype(np.uint64),
        opening_row,
        np.ascontiguousarray(mark, dtype=np.float64),
        np.ascontiguousarray(eligible, dtype=np.bool_),
        _Books(
            population.coins.least,
            population.coins.most,
            np.log(population.leverage.median),
            population.leverage.log_sigma,
            population.leverage.least,
            population.leverage.most,
            population.legs.long_probability,
            population.equity,
        ),
    )
    opened = legs > 0
    held = np.arange(symbol.shape[1]) < legs[opened, np.newaxis]
    leg_symbol = symbol[opened][held]
    leg_start = np.zeros(int(opened.sum()) + 1, dtype=np.int64)
    np.cumsum(legs[opened], out=leg_start[1:])
    return SampledAccounts(
        slot=slot[opened],
        epoch=epoch[opened],
        opening_row=opening_row[opened],
        end_row=end_row[opened],
        cash=np.full(len(leg_start) - 1, population.equity),
        leg_start=leg_start,
        leg_symbol=leg_symbol,
        leg_quantity=quantity[opened][held],
        leg_entry_price=mark[np.repeat(opening_row[opened], legs[opened]), leg_symbol],
    )


def _check_grid(decision_times: Ints) -> int:
    """The step of the grid in nanoseconds."""
    if len(decision_times) < 2:
        raise DataError(
            f"sampled accounts need at least 2 decision times, given {len(decision_times)}"
        )
    steps = np.diff(decision_times)
    step = int(steps[0])
    if step <= 0 or HOUR % step or (steps != step).any():
        raise DataError(
            f"decision times must rise in even steps that divide an hour; given steps of "
            f"{int(steps.min())} to {int(steps.max())} ns: reindex to a regular grid first"
        )
    if decision_times[0] < 0 or decision_times[0] % step:
        raise DataError(
            f"decision times begin at {format_time(int(decision_times[0]))}; expected a multiple "
            f"of their step of {step} ns since 1970"
        )
    return step


def _check_mark(decision_times: Ints, mark: Floats, eligible: Bools) -> None:
    if mark.ndim != 2 or len(mark) != len(decision_times) or eligible.shape != mark.shape:
        raise DataError(
            f"mark {mark.shape} and eligible {eligible.shape} must both be (T, S) with "
            f"T = {len(decision_times)} decision times"
        )
    priced = np.isfinite(mark) & (mark > 0.0)
    faulty = np.argwhere(eligible & ~priced)
    if len(faulty):
        row, column = faulty[0]
        raise DataError(
            f"symbol {column} is eligible at {format_time(int(decision_times[row]))} with mark "
            f"{mark[row, column]}; a coin may be drawn only where it has a positive mark"
        )


def _openings(
    life_hours: int, count: int, seed: int, decision_times: Ints
) -> tuple[Ints, Ints, Ints]:
    """Slot, epoch and time of every opening on the grid, by slot and then epoch.

    Account (slot, epoch) opens at epoch · life + offset(slot) since 1970.
    """
    life = life_hours * HOUR
    offset = _offsets(np.uint64(seed), count, np.uint64(life_hours)) * HOUR
    first = -((offset - decision_times[0]) // life)
    last = (decision_times[-1] - offset) // life
    openings = last - first + 1
    slot = np.repeat(np.arange(count, dtype=np.int64), openings)
    start = np.cumsum(openings) - openings
    epoch = np.arange(len(slot), dtype=np.int64) - start[slot] + first[slot]
    return slot, epoch, epoch * life + offset[slot]


# What a number is for: no two uses of one key share one. numba mixes uint64 with int64 to float64,
# so every operand is uint64.
_OFFSET, ACCOUNT = np.uint64(0), np.uint64(1)
_COINS, _LEVERAGE_1, _LEVERAGE_2, _PICK, _WEIGHT, _SIDE = (
    np.uint64(purpose) for purpose in range(6)
)
_ZERO = np.uint64(0)


@njit(cache=True)
def _offsets(seed: np.uint64, count: int, life_hours: np.uint64) -> Ints:
    """Hour within a life at which the accounts of each slot open, int64, shape (count,)."""
    offsets = np.empty(count, dtype=np.int64)
    for slot in range(count):
        offsets[slot] = np.int64(mix(slot_key(seed, np.uint64(slot)), _OFFSET) % life_hours)
    return offsets


class _Books(NamedTuple):
    """Distribution of the books: `Population` as the kernel wants it."""

    least_coins: int
    most_coins: int
    log_median: float
    log_sigma: float
    least_leverage: float
    most_leverage: float
    long_probability: float
    equity: float


@njit(cache=True)
def _draw(
    seed: np.uint64,
    slot: npt.NDArray[np.uint64],
    epoch: npt.NDArray[np.uint64],
    opening_row: Ints,
    mark: Floats,
    eligible: Bools,
    books: _Books,
) -> tuple[Ints, Ints, Floats]:
    """Number of legs (N,), and symbol and signed quantity (N, most_coins) of each account."""
    accounts, symbols = len(slot), eligible.shape[1]
    legs = np.zeros(accounts, dtype=np.int64)
    chosen = np.zeros((accounts, books.most_coins), dtype=np.int64)
    quantity = np.zeros((accounts, books.most_coins))
    rank = np.empty(symbols)
    for n in range(accounts):
        row = opening_row[n]
        key = mix(mix(slot_key(seed, slot[n]), ACCOUNT), epoch[n])
        available = 0
        for s in range(symbols):
            rank[s] = np.inf
            if eligible[row, s]:
                rank[s] = uniform(key, _PICK, np.uint64(s))
                available += 1
        spread = books.most_coins - books.least_coins + 1
        coins = books.least_coins + int(uniform(key, _COINS, _ZERO) * spread)
        coins = min(coins, available)
        if coins == 0:
            continue
        # The coins of lowest rank are a uniform choice without replacement; sorted for a fixed
        # order of summation.
        picked = np.sort(np.argsort(rank, kind="mergesort")[:coins])
        normal = np.sqrt(-2.0 * np.log(uniform(key, _LEVERAGE_1, _ZERO))) * np.cos(
            2.0 * np.pi * uniform(key, _LEVERAGE_2, _ZERO)
        )
        leverage = np.exp(books.log_median + books.log_sigma * normal)
        leverage = min(max(leverage, books.least_leverage), books.most_leverage)
        total = 0.0
        for k in range(coins):
            weight = -np.log(uniform(key, _WEIGHT, np.uint64(k)))
            quantity[n, k] = weight
            total += weight
        for k in range(coins):
            long = uniform(key, _SIDE, np.uint64(k)) < books.long_probability
            notional = leverage * books.equity * quantity[n, k] / total
            chosen[n, k] = picked[k]
            quantity[n, k] = (notional if long else -notional) / mark[row, picked[k]]
        legs[n] = coins
    return legs, chosen, quantity
