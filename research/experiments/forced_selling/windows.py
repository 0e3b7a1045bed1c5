"""Windows of a market, and the book of a venue at the first hour of each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from features.registry import ADV
from features.state.market_state import MarketFeatures, MarketState
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.arrays import Bools, Floats, Ints
from market.simulator.population import Population, sample_population

HOURS = 168
"""Length of a window, and of an account's life."""

RESERVE = 1.1
"""What an account that can pay holds elsewhere, over its equity at opening: the median top-up of
the population behaving-v1."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Assumptions of the study.

    Attributes
    ----------
    budget:
        Average level over notional in ordinary weeks.
    size:
        Notional of the book over a day's volume.
    permanent:
        Share of the impact that stays in the price.
    call_hours:
        Hours to meet a call; 0: at the same close.
    able:
        Share of accounts that hold a reserve to pay calls with.
    impact:
        Multiple of the impact that the rule set's figures give.
    accounts:
        Sampled a seed: half of them balanced, half candidates of the one-sided part.
    crowded:
        Number of symbols that the one-sided part is in: those traded most.
    """

    budget: float = 0.05
    size: float = 0.25
    permanent: float = 2.0 / 3.0
    call_hours: int = 0
    able: float = 0.5
    impact: float = 1.0
    accounts: int = 400
    crowded: int = 3


@dataclass(frozen=True, slots=True)
class VenueMarket:
    """A market over its whole history.

    Attributes
    ----------
    history, features:
        Marks and market features on the same grid.
    usable:
        Which symbols can be held at each row, shape (T, S).
    """

    history: MarketHistory
    features: MarketFeatures
    usable: Bools


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of a market in which the same S symbols can be held.

    Attributes
    ----------
    bars, mark:
        Of each hour; marks of shape (T, S), 0 where a symbol cannot be held.
    observed:
        Features of each hour, one row each.
    state:
        The state of the market before the first hour.
    held:
        Which symbols can be held throughout, shape (S,).
    """

    name: str
    row: int
    bars: BarPanel
    mark: Floats
    observed: list[MarketFeatures]
    state: MarketState
    held: Bools

    def figure(self, hour: int, column: str) -> Floats:
        """An observed market column where a symbol is held, else 0; shape (S,)."""
        return np.where(self.held, self.observed[hour].column(column)[0], 0.0)


@dataclass(frozen=True, slots=True)
class VenueBook:
    """K accounts: quantities (K, S), cash with which equity is ``cash + quantity @ mark``, and
    what each could pay on calls."""

    quantity: Floats
    cash: Floats
    reserve: Floats


def windows(market: VenueMarket, rows: Mapping[str, int]) -> list[Window]:
    """Windows from each row on, by name and in order of time, with the state of the market before
    them."""
    bars, mark, at = market.history.bars, market.history.mark, 0
    found = list[Window]()
    state = MarketState(bars.symbols, bars.interval)
    for name, row in sorted(rows.items(), key=lambda item: item[1]):
        state.advance(bars.rows(at, row))
        at, end = row, row + HOURS + 1
        held = market.usable[row] & ~np.isnan(mark[row:end]).any(axis=0)
        found.append(
            Window(
                name,
                row,
                bars.rows(row, end),
                np.where(held, mark[row:end], 0.0),
                [market.features.at(t, int(bars.closes[t])) for t in range(row, end)],
                copy.deepcopy(state),
                held,
            )
        )
    return found


def crowded(window: Window, settings: Settings) -> Ints:
    """Columns of the symbols that the one-sided part of the book is in."""
    volume = window.figure(0, ADV)
    count = min(settings.crowded, int(window.held.sum()))
    return np.argsort(-volume, kind="stable")[:count].astype(np.int64)


def draw_book(
    window: Window,
    market: VenueMarket,
    maintenance_rate: float,
    settings: Settings,
    seed: int,
    share: float,
) -> VenueBook:
    """Accounts of reference-v1 where they stand at the window's first hour, in venue size.

    The balanced part is long or short with equal chance. The one-sided part is long one of the
    crowded symbols at the leverage drawn. Accounts are weighted so that each symbol's notional is
    the same share of its daily volume, and that of the one-sided part `share` of the whole.
    Accounts in breach at the first hour are left out. The balanced part is the same under every
    share.
    """
    population = Population.load("reference-v1")
    legs = msgspec.structs.replace(population.legs, long_probability=0.5)
    population = msgspec.structs.replace(population, legs=legs)
    part = slice(window.row - HOURS, window.row + 1)
    opening = market.history.mark[part]
    drawn = sample_population(
        population,
        settings.accounts,
        seed,
        market.history.bars.closes[part],
        opening,
        market.usable[part] & window.held,
    )
    count, mark, volume = len(drawn), window.mark[0], window.figure(0, ADV)
    owner = np.repeat(np.arange(count), np.diff(drawn.leg_start))
    entered = drawn.leg_quantity * drawn.leg_entry_price
    cash = drawn.cash - np.bincount(owner, entered, count)
    quantity = np.zeros((count, len(mark)))
    quantity[owner, drawn.leg_symbol] = drawn.leg_quantity

    top, one_sided = crowded(window, settings), drawn.slot % 2 == 1
    crowd = np.flatnonzero(one_sided)
    symbol = top[np.arange(len(crowd)) % len(top)]
    notional = np.bincount(owner, np.abs(entered), count)[crowd]
    quantity[crowd] = 0.0
    quantity[crowd, symbol] = notional / opening[drawn.opening_row[crowd], symbol]
    cash[crowd] = drawn.cash[crowd] - notional

    notional = np.abs(quantity) * mark
    # A crowded symbol may have had no price when an account opened: its quantity is then NaN.
    kept = cash + quantity @ mark >= maintenance_rate * notional.sum(axis=1)
    kept &= np.isin(np.arange(count), drawn.open_at(HOURS))
    whole = settings.size * volume
    crowding = np.zeros(len(mark))
    crowding[top] = share * whole.sum() * volume[top] / volume[top].sum()
    weight = np.zeros(count)
    for members, target in ((~one_sided, (1.0 - share) * whole), (one_sided, crowding)):
        chosen = np.flatnonzero(kept & members)
        weight[chosen] = fitted_weights(notional[chosen], target)
    able = np.random.default_rng(seed).random(count) < settings.able
    kept &= weight > 0.0
    scale = weight[kept]
    reserve = RESERVE * population.equity * able[kept] * scale
    return VenueBook(quantity[kept] * scale[:, None], cash[kept] * scale, reserve)


def fitted_weights(notional: Floats, target: Floats) -> Floats:
    """Weights of accounts of notional (n, S) under which that by symbol is the target (S,).

    Multiplicative updates, at least 0; nearest in relative entropy where no weights fit.

    References
    ----------
    Lucy (1974), "An iterative technique for the rectification of observed distributions".
    """
    gross = notional.sum(axis=1, keepdims=True)
    share = np.divide(notional, gross, out=np.zeros_like(notional), where=gross > 0.0)
    weight = np.ones(len(notional))
    for _ in range(200):
        now = weight @ notional
        weight *= share @ np.divide(target, now, out=np.zeros_like(now), where=now > 0.0)
    return weight
