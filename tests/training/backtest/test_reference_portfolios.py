"""Reference portfolios of fixed quantities, and how much margin on them moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from market.core.clock import DAY
from tests.training.backtest.conftest import World
from training.backtest.reference_portfolios import (
    ReferencePortfolios,
    covering_buffer,
    draw_portfolios,
    procyclicality_figures,
)


def test_portfolios_hold_fixed_quantities_of_books_from_the_population(world: World) -> None:
    portfolios = draw_portfolios(
        world.intervals, world.label_market, world.ruleset, world.test, seed=1, count=20
    )
    count, days = portfolios.loss.shape
    rows = portfolios.times.rows
    assert (count, days) == (20, 13)
    closes = world.history.bars.closes[rows.row]
    assert (closes % DAY == 0).all()
    assert (closes + DAY <= world.test[1]).all()
    gross = portfolios.by_day(portfolios.times.gross_notional())[:, 0]
    assert ((gross >= 0.5 - 1e-9) & (gross <= 40.0 + 1e-9)).all()
    for k in range(count):
        at = [k * days, k * days + 4]
        legs = [slice(rows.leg_start[n], rows.leg_start[n + 1]) for n in at]
        quantity = [
            rows.leg_notional[own] / world.history.mark[rows.row[n], rows.leg_symbol[own]]
            for n, own in zip(at, legs, strict=True)
        ]
        assert quantity[1] == pytest.approx(quantity[0], rel=1e-12)
        row, symbol = rows.row[at[1]], rows.leg_symbol[legs[1]]
        move = world.history.mark[row + 24, symbol] - world.history.mark[row, symbol]
        assert portfolios.loss[k, 4] == pytest.approx(-(quantity[1] * move).sum(), rel=1e-9)


def test_covering_buffer_covers_99_per_cent_and_no_less_does(world: World) -> None:
    portfolios = draw_portfolios(
        world.intervals, world.label_market, world.ruleset, world.test, seed=1
    )
    margin = portfolios.by_day(portfolios.times.maintenance_margin)
    buffer = covering_buffer(portfolios, 0.99)

    def covered(k: float) -> float:
        return float((portfolios.loss <= (1.0 + k) * margin + 1e-12).mean())

    assert covered(buffer) >= 0.99 > covered(0.98 * buffer)


def test_procyclicality_by_hand() -> None:
    margin = np.array([0.5, 0.5, 0.5])
    times: Any = SimpleNamespace(
        maintenance_margin=margin, gross_notional=lambda: np.array([10.0, 10.0, 10.0])
    )
    # Day 1 loses most, so the response is from day 1 to day 2.
    portfolios = ReferencePortfolios(times, np.array([[1.0, -3.0, 9.0]]))
    figures = procyclicality_figures(portfolios, np.array([0.0, 0.1, 0.7]))
    assert figures["peak_to_trough"] == pytest.approx(1.2 / 0.5)
    assert figures["n_day_max_increase"] == {"1": pytest.approx(1.0), "5": None, "20": None}
    assert figures["response_to_one_extreme_return"] == pytest.approx(1.2 / 0.6 - 1.0)
    calm = procyclicality_figures(portfolios, np.zeros(3))
    assert calm["peak_to_trough"] == 1.0
    assert calm["response_to_one_extreme_return"] == 0.0
