"""Which account-times a data set keeps: a uniform draw, and one that is denser near the barrier.

One hash of seed, account and time decides both. It is the account-time's number u, uniform in
[0, 1) and blind to what became of the account:

- the uniform draw keeps ``u < r``, r a share of the span;
- the draw near the barrier keeps ``u < q s`` with ``q = 0.008 + 0.5 p``, p the first-passage
  probability over `BARRIER_HOURS` hours, so an account-time that may well be called is sixty times
  as likely to be drawn as a safe one. Its weight is the inverse of ``min(1, q s)``, and a weighted
  sum over the draw has the sum over all account-times as its expectation.

The scale s is the priority ``u / q`` of the first account-time that finds no place within the
limit of rows (priority sampling): the limit is kept exactly, and the weighted sums stay unbiased.
Draws of one seed are nested: a smaller limit keeps a subset.

References
----------
Horvitz and Thompson (1952), "A generalization of sampling without replacement from a finite
universe"; Duffield, Lund and Thorup (2007), "Priority sampling for estimation of arbitrary subset
sums", J. ACM 54 (6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from features.account.prior import first_passage
from features.registry import MARKET_COLUMNS, PRIOR_VOLATILITIES
from features.state.market_state import MarketFeatures
from market.core.arrays import Bools, Floats, Ints
from training.labels.book_intervals import BookIntervals

BASE_CHANCE = 0.008
BARRIER_CHANCE = 0.5
"""``q = BASE_CHANCE + BARRIER_CHANCE * p``."""

BARRIER_HOURS = 24

_SLACK = 1.5
"""Rows in memory before those beyond the limit are let go, as a multiple of the limit."""

Columns = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class Draws:
    """Which draws are made of each decision row, T rows.

    Attributes
    ----------
    uniform_share:
        r of each row, shape (T,).
    barrier:
        Whether the draw near the barrier is made too, shape (T,).
    barrier_rows:
        At most so many account-times are kept in the rows where it is, those of the uniform draw
        there included.
    """

    uniform_share: Floats
    barrier: Bools
    barrier_rows: int

    @classmethod
    def uniform(cls, rows: int, share: float) -> Draws:
        """The same share of every row, and nothing else."""
        return cls(np.full(rows, share), np.zeros(rows, dtype=np.bool_), 0)


class Exposures(NamedTuple):
    """What the first passage of N books of linear positions is computed from.

    Attributes
    ----------
    start, symbol, quantity:
        Positions in compressed sparse rows: offsets (N + 1,), market column and size.
    mark:
        Shape (T, S).
    volatility:
        The prior's estimates, hourly, shape (T, S, P).
    correlation:
        Shape (T, S, S).
    """

    start: Ints
    symbol: Ints
    quantity: Floats
    mark: Floats
    volatility: Floats
    correlation: Floats

    @classmethod
    def of(cls, intervals: BookIntervals, mark: Floats, features: MarketFeatures) -> Exposures:
        """The positions of books that hold no options: an option counts as its amount of coins."""
        book = intervals.book
        columns = [MARKET_COLUMNS.index(name) for name in PRIOR_VOLATILITIES]
        return cls(
            book.leg_start,
            positions(intervals),
            book.leg_quantity,
            mark,
            np.ascontiguousarray(features.values[:, :, columns]),
            features.correlation,
        )


def positions(intervals: BookIntervals) -> Ints:
    """Market column of every position of the books, collateral left out."""
    start = intervals.book.leg_start
    first = np.repeat(intervals.symbol_start[:-1] - start[:-1], np.diff(start))
    symbol: Ints = intervals.symbol[np.arange(len(first)) + first]
    return symbol


@dataclass(slots=True)
class Reservoir:
    """Account-times that are kept, of any number that is offered in chunks.

    Attributes
    ----------
    draws:
        What is kept.
    exposures:
        Of the books.
    bound:
        No account-time of a higher priority has a place.
    """

    draws: Draws
    exposures: Exposures
    bound: float = math.inf
    _parts: list[Columns] = field(default_factory=list)
    _count: int = 0

    def thresholds(self) -> Floats:
        """Numbers u at and above which an account-time of a row need not be offered, shape (T,)."""
        highest = (BASE_CHANCE + BARRIER_CHANCE) * self.bound
        barrier = np.where(self.draws.barrier, highest, 0.0)
        return np.maximum(self.draws.uniform_share, barrier)

    def offer(self, number: Floats, columns: Columns) -> None:
        """Account-times with their numbers u, shape (N,), and columns of which the first three are
        interval, row and headroom."""
        interval, row, headroom = columns[:3]
        uniform = number < self.draws.uniform_share[row]
        barrier = self.draws.barrier[row]
        chance = np.full(len(row), np.nan)
        _chances(self.exposures, interval, row, headroom, number, barrier, self.bound, chance)
        # `chance` stays NaN where it cannot matter.
        kept = np.flatnonzero(uniform | ~np.isnan(chance))
        self._parts.append((number[kept], chance[kept], *(column[kept] for column in columns)))
        self._count += int(barrier[kept].sum())
        if self._count > _SLACK * self.draws.barrier_rows:
            self._let_go()

    def close(self) -> tuple[Columns, Floats, Bools]:
        """What is kept: its columns, weights, and whether the uniform draw has it; (N,) each.

        Where only the uniform draw is made of a row, the weight is 0 if the other one is made of
        any row, else 1 / r.
        """
        self._let_go()
        ((number, chance, *columns),) = self._parts
        row = columns[1]
        uniform = number < self.draws.uniform_share[row]
        weight = np.zeros(len(row))
        if self.draws.barrier.any():
            drawn = number < chance * self.bound
            weight[drawn] = 1.0 / np.minimum(1.0, chance[drawn] * self.bound)
        else:
            weight = 1.0 / np.minimum(1.0, self.draws.uniform_share[row])
        return tuple(columns), weight, uniform

    def _let_go(self) -> None:
        """Lower the bound until no more than the limit have a place, and drop the others."""
        columns = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        self._parts.clear()
        number, chance, row = columns[0], columns[1], columns[3]
        barrier = self.draws.barrier[row]
        uniform = number < self.draws.uniform_share[row]
        places = max(0, self.draws.barrier_rows - int((barrier & uniform).sum()))
        priority = number / chance
        waiting = barrier & ~uniform & (priority < self.bound)
        if int(waiting.sum()) > places:
            self.bound = float(np.partition(priority[waiting], places)[places])
        kept = np.flatnonzero(uniform | (priority < self.bound))
        self._parts.append(tuple(column[kept] for column in columns))
        self._count = int(barrier[kept].sum())


@njit(cache=True, error_model="numpy", nogil=True)
def _chances(exposures, interval, row, headroom, number, barrier, bound, out):  # type: ignore[no-untyped-def]
    """Fill in q where ``number < q * bound``; the estimate without diversification, which is no
    lower, decides most of the others."""
    for i in range(len(row)):
        n, k = interval[i], row[i]
        if not barrier[i]:
            continue
        highest = _chance(headroom[i], _undiversified(exposures, n, k))
        if number[i] < highest * bound:
            chance = _chance(headroom[i], _prior_volatility(exposures, n, k))
            if number[i] < chance * bound:
                out[i] = chance


@njit(cache=True, error_model="numpy")
def _chance(headroom, volatility):  # type: ignore[no-untyped-def]
    p = first_passage(headroom, volatility * math.sqrt(BARRIER_HOURS))
    if np.isnan(p):
        return BASE_CHANCE
    return BASE_CHANCE + BARRIER_CHANCE * p


@njit(cache=True, error_model="numpy")
def _undiversified(exposures, n, k):  # type: ignore[no-untyped-def]
    """The book's volatility if all its positions fell together, settlement currency; never below
    `_prior_volatility`, but for rounding. NaN of a symbol is left out."""
    variance = 0.0
    estimates = exposures.volatility.shape[2]
    for p in range(estimates):
        total = 0.0
        for leg in range(exposures.start[n], exposures.start[n + 1]):
            s = exposures.symbol[leg]
            value = exposures.quantity[leg] * exposures.mark[k, s] * exposures.volatility[k, s, p]
            if not np.isnan(value):
                total += abs(value)
        variance += total * total
    return 1.000001 * math.sqrt(variance / estimates)


@njit(cache=True, error_model="numpy")
def _prior_volatility(exposures, n, k):  # type: ignore[no-untyped-def]
    """`features.account.aggregates.PRIOR_VOLATILITY` of a book of linear positions."""
    variance = 0.0
    estimates = exposures.volatility.shape[2]
    first, last = exposures.start[n], exposures.start[n + 1]
    for p in range(estimates):
        own = 0.0
        for a in range(first, last):
            i = exposures.symbol[a]
            x = exposures.quantity[a] * exposures.mark[k, i] * exposures.volatility[k, i, p]
            own += x * x
            for b in range(first, a):
                j = exposures.symbol[b]
                y = exposures.quantity[b] * exposures.mark[k, j] * exposures.volatility[k, j, p]
                own += 2.0 * x * y * exposures.correlation[k, i, j]
        variance += max(0.0, own)
    return math.sqrt(variance / estimates)
