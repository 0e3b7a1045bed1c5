"""Forced selling: without impact feedback changes nothing, and sales agree with a plain loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import research.experiments.forced_selling.study
from features.registry import ADV
from features.state.market_state import MarketState
from margin.rules.ruleset import load_ruleset
from market.bars.history import MarketHistory
from market.bars.panel import CLOSE, HIGH, LOW, OPEN
from market.core.clock import DAY, INTERVALS, format_time
from market.core.errors import DataError, RuleSetError
from market.simulator.simulated_market import simulate_bars
from pipelines.config.config import load_config
from pipelines.data.loaders import read_market
from research.experiments.forced_selling.__main__ import main
from research.experiments.forced_selling.levels import (
    FIXED,
    FLAT,
    NONE,
    Terms,
    make_plans,
    solve_scalar,
)
from research.experiments.forced_selling.simulate import impact, moved_bar, simulate
from research.experiments.forced_selling.study import stress_rows, study, tables
from research.experiments.forced_selling.windows import (
    HOURS,
    Settings,
    VenueBook,
    VenueMarket,
    Window,
    crowded,
    draw_book,
    windows,
)
from training.evaluation.stress import StressWindow

RULES = load_ruleset("linear-tiers")
TERMS, PLANS = Terms.of(RULES), make_plans(RULES)
SETTINGS = Settings(accounts=120)
ROW = 500
VOLATILITY_LEVELS = ("volatility of 12 h", "forecast, paced, held in stress")


@pytest.fixture(scope="module")
def market() -> VenueMarket:
    panel = simulate_bars(5, 40, 4, INTERVALS["1h"])
    features = MarketState(panel.symbols, panel.interval).advance(panel)
    history = MarketHistory.from_panel(panel)
    return VenueMarket(history, features, features.usable(panel.interval) & history.decidable())


@pytest.fixture(scope="module")
def window(market: VenueMarket) -> Window:
    return windows(market, {"a": ROW})[0]


@pytest.fixture
def few_weeks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(research.experiments.forced_selling.study, "WEEKS", 4)


def drawn(market: VenueMarket, window: Window, settings: Settings, share: float) -> VenueBook:
    return draw_book(window, market, TERMS.maintenance_rate, settings, 3, share)


def run(
    market: VenueMarket,
    window: Window,
    level: str,
    settings: Settings = SETTINGS,
    share: float = 0.3,
    feedback: bool = True,
) -> dict[str, float]:
    book = drawn(market, window, settings, share)
    scalar = 2.5 if level == FLAT else 8.0
    return simulate(window, book, PLANS[level], scalar, TERMS, settings, feedback)


@pytest.mark.parametrize("level", [NONE, FLAT, *VOLATILITY_LEVELS])
def test_without_impact_both_runs_sell_the_same(
    market: VenueMarket, window: Window, level: str
) -> None:
    settings = replace(SETTINGS, impact=0.0)
    static = run(market, window, level, settings, feedback=False)
    assert static["forced"] > 0.0
    assert run(market, window, level, settings) == static


@pytest.mark.parametrize("call_hours", [0, 5])
def test_sales_agree_with_a_plain_loop(window: Window, call_hours: int) -> None:
    """One account long one symbol under a flat level, with a reserve, without impact."""
    column = int(np.flatnonzero(window.held)[0])
    price = window.mark[:, column]
    quantity, cash, reserve = 1.0, -0.93 * price[0], 0.005 * price[0]
    settings = replace(SETTINGS, impact=0.0, call_hours=call_hours)
    one = np.zeros((1, len(window.held)))
    one[0, column] = quantity
    book = VenueBook(one, np.array([cash]), np.array([reserve]))
    found = simulate(window, book, PLANS[FLAT], 2.5, TERMS, settings, False)

    forced, in_breach, paid, unmet = 0.0, 0.0, 0.0, 0
    half_spread, level = RULES.floors.liquidity.half_spread, 2.5 * 0.02
    for hour, mark in enumerate(price.tolist()):
        value = quantity * mark
        short = max(0.0, (0.02 + level) * value - cash - value)
        deposit = short if hour == 0 else min(short, reserve)
        cash, reserve = cash + deposit, max(0.0, reserve - deposit)
        paid += deposit if hour else 0.0
        unmet = unmet + 1 if short > deposit else 0
        breach = cash + value < 0.02 * value
        if value > 0.0 and (breach or unmet > call_hours):
            share = min(1.0, max(0.0, 1.0 - (cash + value) / (1.1 * (0.02 + level) * value)))
            forced += share * quantity * price[0]
            in_breach += share * quantity * price[0] if breach else 0.0
            cash += share * value * (1.0 - half_spread)
            quantity *= 1.0 - share
    assert forced > 0.0
    for name, value in (("forced", forced), ("in_breach", in_breach), ("paid", paid)):
        assert found[name] == pytest.approx(value / price[0], rel=1e-9)


def test_uncovered_loss_is_what_an_account_owes_after_its_sale(window: Window) -> None:
    column = int(np.flatnonzero(window.held)[0])
    price = window.mark[:, column]
    one = np.zeros((1, len(window.held)))
    one[0, column] = -1.0
    jump = replace(
        window, mark=window.mark * np.where(np.arange(HOURS + 1) > 10, 2.0, 1.0)[:, None]
    )
    book = VenueBook(one, np.array([1.5 * price[0]]), np.zeros(1))
    settings = replace(SETTINGS, impact=0.0)
    found = simulate(jump, book, PLANS[NONE], 0.0, TERMS, settings, False)
    owed = 2.0 * price[11] * (1.0 + RULES.floors.liquidity.half_spread) - 1.5 * price[0]
    assert found["uncovered"] == pytest.approx(owed / price[0], rel=1e-9)
    assert found["forced"] == found["in_breach"] == pytest.approx(1.0)


def test_impact_is_the_square_root_law(window: Window) -> None:
    volume = window.figure(0, ADV)
    one = impact(window, 0, 0.01 * volume, TERMS)
    assert (one[window.held] > 0.0).all()
    np.testing.assert_allclose(impact(window, 0, 0.04 * volume, TERMS), 2.0 * one)
    np.testing.assert_allclose(impact(window, 0, -0.01 * volume, TERMS), -one)


def test_the_price_falls_further_with_concentration_and_size(
    market: VenueMarket, window: Window
) -> None:
    falling = replace(window, mark=window.mark * np.exp(-0.002 * np.arange(HOURS + 1))[:, None])
    falls = [run(market, falling, FLAT, share=share)["extra_fall"] for share in (0.0, 0.3, 0.6)]
    assert falls == sorted(falls, reverse=True)
    assert falls[2] < falls[1] < 0.0
    larger = run(market, falling, FLAT, replace(SETTINGS, size=4.0 * SETTINGS.size))
    assert larger["extra_fall"] < falls[1]
    assert larger["forced"] >= run(market, falling, FLAT, feedback=False)["forced"]


def test_a_fixed_level_stays_the_share_of_the_first_hour(window: Window) -> None:
    one = np.zeros((1, len(window.held)))
    one[0, np.flatnonzero(window.held)[0]] = 1.0
    book = VenueBook(one, np.zeros(1), np.zeros(1))
    fixed, free = (
        simulate(window, book, PLANS[name], 8.0, TERMS, SETTINGS, False)
        for name in (FIXED, "forecast")
    )
    assert fixed["highest_level"] == pytest.approx(fixed["first_level"], rel=1e-9)
    assert free["first_level"] == fixed["first_level"]
    assert free["highest_level"] > 1.01 * free["first_level"]


def test_same_seed_same_result(market: VenueMarket, window: Window) -> None:
    again = windows(market, {"a": ROW})[0]
    assert run(market, window, VOLATILITY_LEVELS[0]) == run(market, again, VOLATILITY_LEVELS[0])


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_book_has_the_size_and_the_one_sided_share(
    market: VenueMarket, window: Window, share: float
) -> None:
    book = drawn(market, window, SETTINGS, share)
    notional = book.quantity * window.mark[0]
    whole = SETTINGS.size * window.figure(0, ADV)
    top = crowded(window, SETTINGS)
    extra = np.zeros(len(whole))
    extra[top] = share * whole.sum() * whole[top] / whole[top].sum()
    np.testing.assert_allclose(
        np.abs(notional).sum(axis=0), (1.0 - share) * whole + extra, rtol=1e-3
    )
    margin = TERMS.maintenance_rate * np.abs(notional).sum(axis=1)
    assert (book.cash + notional.sum(axis=1) >= margin).all()


@pytest.mark.parametrize("level", [FLAT, *VOLATILITY_LEVELS])
def test_levels_have_the_budget_on_average(market: VenueMarket, level: str) -> None:
    weeks = [(w, drawn(market, w, SETTINGS, 0.0)) for w in windows(market, {"a": 400, "b": 600})]
    scalar = solve_scalar(PLANS[level], weeks, TERMS, 0.04)
    assert scalar > 0.0
    if level == FLAT:
        assert scalar * TERMS.maintenance_rate == pytest.approx(0.04, rel=1e-5)
    double = solve_scalar(PLANS[level], weeks, TERMS, 0.05)
    assert double > scalar


def test_a_moved_bar_stays_a_bar(window: Window) -> None:
    bar = window.bars.rows(0, 1)
    before, moved = np.full(4, -0.01), np.full(4, -0.05)
    values = moved_bar(bar, before, moved).values
    np.testing.assert_allclose(values[0, :, OPEN], bar.values[0, :, OPEN] * np.exp(-0.01))
    np.testing.assert_allclose(values[0, :, CLOSE], bar.values[0, :, CLOSE] * np.exp(-0.05))
    assert (values[0, :, LOW] <= values[0][:, [OPEN, CLOSE]].min(axis=1)).all()
    assert (values[0, :, HIGH] >= values[0][:, [OPEN, CLOSE]].max(axis=1)).all()


def test_rules_with_several_rates_are_refused() -> None:
    with pytest.raises(RuleSetError, match="no single margin rate"):
        Terms.of(load_ruleset("derive-pmrm2"))


def test_a_market_without_stress_windows_is_refused(market: VenueMarket) -> None:
    with pytest.raises(DataError, match="no stress window"):
        stress_rows(market)


def test_bars_that_are_not_hourly_are_refused(market: VenueMarket) -> None:
    panel = replace(market.history.bars, interval=INTERVALS["5m"])
    finer = replace(market, history=replace(market.history, bars=panel))
    with pytest.raises(DataError, match="hour by hour"):
        study(finer, RULES, SETTINGS, [1], [0.0], {"a": ROW})


def test_study_pairs_every_run(market: VenueMarket, few_weeks: None) -> None:
    report = study(market, RULES, SETTINGS, [1], [0.0, 0.3], {"a": ROW, "b": 700})
    assert len(report["runs"]) == 2 * 2 * 2 * len(PLANS)
    flat = [row for row in report["summary"] if row["level"] == FLAT]
    for row in flat:
        assert row["without"]["forced_to_flat"] == (1.0, (1.0, 1.0))
    text = tables(report)
    assert len(text.splitlines()) == 2 * (len(PLANS) + 5) + 4 + 2 * 2
    assert "30% of the book on one side" in text


def test_command_writes_the_figures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    few_weeks: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "m.toml"
    config.write_text("[simulate]\ndays = 40\nsymbols = 4\n")
    closes = read_market(load_config(config)).history.bars.closes
    event = StressWindow("shock", format_time(int(closes[0]) // DAY * DAY + 25 * DAY))
    monkeypatch.setattr(research.experiments.forced_selling.study, "STRESS_WINDOWS", (event,))
    out = tmp_path / "out.json"
    main([str(config), "--json", str(out), "--seeds", "1", "--accounts", "60"])
    assert json.loads(out.read_text())["windows"] == ["shock"]
    assert "0% of the book on one side" in capsys.readouterr().out
