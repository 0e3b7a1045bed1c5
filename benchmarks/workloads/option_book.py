"""A book of option portfolios, as arrays: what the bench of portfolio margin computes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import (
    OPTION,
    CollateralBalances,
    Expiries,
    Portfolios,
    Underlyings,
)

Floats = npt.NDArray[np.float64]

OPTIONS = 10
"""Options of each portfolio."""

SPOT = 60_000.0
DAYS = np.array([1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 120.0, 200.0])


def sample_portfolios(count: int, seed: int = 1) -> Portfolios:
    """Portfolios of ten options in eight expiries of one coin, strikes around the spot."""
    rng = np.random.default_rng(seed)
    legs = count * OPTIONS
    expiry = np.sort(rng.integers(0, len(DAYS), (count, OPTIONS)), axis=1).ravel()
    empty = np.zeros(0)
    return Portfolios(
        cash=rng.uniform(0.0, 1e5, count),
        stable_price=np.ones(count),
        start=np.arange(0, legs + 1, OPTIONS),
        name=("BTC-OPTION",) * legs,
        kind=np.full(legs, OPTION, dtype=np.int8),
        underlying=np.zeros(legs, dtype=np.int64),
        expiry=expiry,
        quantity=rng.normal(0.0, 1.0, legs),
        strike=SPOT * np.exp(rng.normal(0.0, 0.2, legs)),
        vol=rng.uniform(0.4, 1.2, legs),
        call=rng.random(legs) < 0.5,
        unrealised=np.zeros(legs),
        position_leg=np.arange(legs),
        underlyings=Underlyings(
            ("BTC",),
            np.array([SPOT]),
            np.ones(1),
            np.array([SPOT]),
            np.ones(1),
            np.array([np.nan]),
        ),
        expiries=Expiries(
            np.zeros(len(DAYS), dtype=np.int64),
            DAYS * 86_400.0,
            SPOT * (1.0 + 0.05 * DAYS / 365.0),
            np.full(len(DAYS), 0.04),
            np.ones(len(DAYS)),
            np.ones(len(DAYS)),
        ),
        collateral=CollateralBalances(
            np.zeros(count + 1, dtype=np.int64),
            (),
            np.zeros(0, dtype=np.int64),
            empty,
            empty,
            empty,
            empty,
            empty,
            np.zeros(0, dtype=np.bool_),
            np.zeros(0, dtype=np.bool_),
        ),
    )


def chunks_of(portfolios: Portfolios, size: int) -> Iterator[Portfolios]:
    """The portfolios in their order, `size` at a time."""
    for begin in range(0, len(portfolios), size):
        yield portfolios.between(begin, min(begin + size, len(portfolios)))


def growing_book(count: int, chunk: int) -> Iterator[Portfolios]:
    """`count` portfolios in chunks made on the way, each with quantities of its own."""
    first = sample_portfolios(chunk)
    for begin in range(0, count, chunk):
        rng = np.random.default_rng(begin)
        part = first.between(0, min(chunk, count - begin))
        yield replace(part, quantity=rng.normal(0.0, 1.0, len(part.quantity)))
