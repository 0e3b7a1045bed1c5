"""The scenario engine against the venue's own cases, and against the rules written out slowly.

The slow form takes one figure at a time, with QuantLib's Black formula: it is made for reading.
"""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import QuantLib as ql  # noqa: N813

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Expiry, Holding, Portfolio, Underlying, check_portfolio
from margin.cases.margin_cases import run_cases
from margin.engines.registry import compute_margins, engine_of
from margin.engines.scenario.rules import GridRow, ScenarioRules
from margin.rules.ruleset import load_ruleset, ruleset_from_content

YEAR = 365 * 86_400
SECONDS = (0.0, 60.0, 1_799.0, 1_800.0, 20_000.0, 30.0 * 86_400.0, 2_592_001.0, 200.0 * 86_400.0)
STRIKES = (20.0, 90.0, 100.0, 101.5, 130.0, 400.0)


@pytest.mark.realdata
def test_every_published_case_is_reproduced(data_dir: Path, tmp_path: Path) -> None:
    """Derive v2-core, public cases of PMRM2: margins, mark-to-market and every scenario."""
    cases = data_dir.parent / "vectors" / "derive_pmrm2.jsonl"
    assert run_cases(cases, tmp_path / "out.jsonl") == 0
    given = [json.loads(line) for line in cases.read_text().splitlines()]
    got = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(given) > 30
    for case, result in zip(given, got, strict=True):
        assert result["id"] == case["id"]
        within = {"rel": case["tolerance"]["relative"], "abs": case["tolerance"]["absolute"]}
        for key, expected in case["expected"].items():
            assert result[key] == pytest.approx(expected, **within), (case["id"], key)
        for level in ("initial", "maintenance"):
            parts = math.fsum(result["components"][level].values())
            assert parts == pytest.approx(result[f"{level}_net_margin"], rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("preset", ["derive-pmrm2", "deribit-portfolio-like", "paradex-portfolio"])
def test_engine_is_the_rules_written_out(preset: str) -> None:
    content = load_ruleset(preset).content()
    content["scenario"] |= {"delta_net_rate": 0.0, "delta_hedged_rate": 0.0}
    ruleset = ruleset_from_content(content)
    rng = np.random.default_rng(3)
    portfolios = [random_portfolio(rng) for _ in range(60)]
    for portfolio in portfolios:
        check_portfolio(portfolio)
    flat = flatten(portfolios, ruleset.collateral)
    margins = compute_margins(flat, ruleset)
    assert margins.scenario_pnl is not None
    for i, portfolio in enumerate(portfolios):
        scale = 1e-11 * (1.0 + sum(abs(one.quantity) for one in portfolio.positions) * 400.0)
        expected = slow_pnl(portfolio, ruleset.engine_rules(ScenarioRules))
        np.testing.assert_allclose(margins.scenario_pnl[i], expected, rtol=1e-9, atol=scale)
        initial, maintenance = slow_margins(portfolio, ruleset.engine_rules(ScenarioRules))
        assert margins.initial_net[i] == pytest.approx(initial, rel=1e-9, abs=scale)
        assert margins.maintenance_net[i] == pytest.approx(maintenance, rel=1e-9, abs=scale)
        ranked = engine_of(ruleset).worst_scenarios(flat, i, ruleset, 100)
        assert ranked is not None
        basis = next(one.pnl for one in ranked if one.name == "basis contingency")
        assert basis == pytest.approx(
            slow_basis(portfolio, ruleset.engine_rules(ScenarioRules)), rel=1e-9, abs=scale
        )


@pytest.mark.parametrize(
    "ends",
    [
        {"dte_floor_days": 0.0},
        {"dte_floor_days": 0.0, "vol_range_up": 0.0, "vol_range_down": 0.0},
        {"short_term_power": 0.0, "long_term_power": -0.5},
        {"static_discount_long": 0.0, "static_discount_short": 0.0},
        {"long_rate_add": -0.2, "short_rate_mult": -3.0, "static_discount_short": 0.8},
        {"skew_min_kstar": 0.0, "skew_width_scale": 0.0},
        {"skew_min_kstar": 0.0, "skew_vol_param_static": 0.0, "skew_vol_param_scale": 0.0},
        {"skew_min_kstar": 0.0, "skew_width_scale": 0.0, "skew_linear_base_cap": 0.0}
        | {"skew_linear_cbase": 0.0},
        {"min_vol_after_up_shock": 0.0, "vol_range_down": 9.0},
        {"basis_spot_up": 0.0, "basis_spot_down": 0.0},
        {"oracle_conf_threshold": 1.0},
        {"oracle_conf_threshold": 0.0},
        {"mm_factor": 0.0, "im_factor": 0.0, "peg_factor": 0.0},
        {"grid": [{"spot": 0.0, "vol": vol} for vol in ("up", "none", "down", "linear", "abs")]},
        {"grid": [{"spot": 1.3, "vol": "up", "dampening": 0.0}]},
    ],
)
def test_ends_of_parameters_are_the_limits_of_the_rules(ends: dict[str, Any]) -> None:
    content = load_ruleset("derive-pmrm2").content()
    content["scenario"] |= {"peg_threshold": 0.95} | ends
    ruleset = ruleset_from_content(content)
    rng = np.random.default_rng(8)
    portfolios = [at_the_money(random_portfolio(rng)) for _ in range(25)]
    margins = compute_margins(flatten(portfolios, ruleset.collateral), ruleset)
    assert margins.scenario_pnl is not None
    for i, portfolio in enumerate(portfolios):
        scale = 1e-11 * (1.0 + sum(abs(one.quantity) for one in portfolio.positions) * 400.0)
        expected = slow_pnl(portfolio, ruleset.engine_rules(ScenarioRules))
        np.testing.assert_allclose(margins.scenario_pnl[i], expected, rtol=1e-9, atol=scale)
        initial, maintenance = slow_margins(portfolio, ruleset.engine_rules(ScenarioRules))
        assert margins.initial_net[i] == pytest.approx(initial, rel=1e-9, abs=scale)
        assert margins.maintenance_net[i] == pytest.approx(maintenance, rel=1e-9, abs=scale)


def at_the_money(portfolio: Portfolio) -> Portfolio:
    """Every forward at a strike: the log-moneyness of some options is exactly 0."""
    underlying = portfolio.underlyings["U"]
    expiries = tuple(msgspec.structs.replace(one, forward=100.0) for one in underlying.expiries)
    moved = msgspec.structs.replace(underlying, expiries=expiries)
    return msgspec.structs.replace(portfolio, underlyings={"U": moved})


def random_portfolio(rng: np.random.Generator) -> Portfolio:
    """One underlying, options of up to four expiries (settling and settled ones too), perps."""
    chosen = rng.choice(SECONDS, size=rng.integers(1, 5), replace=False)
    expiries = tuple(
        Expiry(
            seconds_to_expiry=float(seconds),
            forward=float(rng.uniform(95.0, 108.0)),
            rate=float(rng.uniform(-0.05, 0.2)),
            forward_confidence=float(rng.choice([1.0, 0.5])),
            vol_confidence=float(rng.choice([1.0, 0.3])),
        )
        for seconds in chosen
    )
    positions: list[Any] = [
        Holding(
            kind="option",
            underlying="U",
            seconds_to_expiry=float(seconds),
            strike=strike,
            type=side,
            quantity=float(rng.normal(0.0, 3.0)),
            vol=float(rng.choice([0.0, 0.2, 0.7, 2.0])),
        )
        for seconds in chosen
        for strike in STRIKES
        for side in ("call", "put")
        if rng.random() < 0.4
    ]
    if rng.random() < 0.6:
        positions.append(
            Holding(
                kind="perp",
                underlying="U",
                quantity=float(rng.normal(0.0, 5.0)),
                unrealised_pnl=float(rng.normal(0.0, 50.0)),
                unrealised_funding=float(rng.normal()),
            )
        )
    underlying = Underlying(
        spot=100.0,
        spot_confidence=float(rng.choice([1.0, 0.54])),
        perp_price=100.5,
        perp_confidence=float(rng.choice([1.0, 0.2])),
        expiries=expiries,
    )
    stable = float(rng.choice([1.0, 0.9]))
    return Portfolio(
        float(rng.normal(0.0, 1_000.0)), stable, {"U": underlying}, tuple(positions), ()
    )


def slow_pnl(portfolio: Portfolio, rules: ScenarioRules) -> list[float]:
    """Profit and loss of every scenario, in grid order."""
    return [_row(portfolio, rules, row) for row in rules.grid]


def slow_basis(portfolio: Portfolio, rules: ScenarioRules) -> float:
    """The basis contingency."""
    out = 0.0
    for expiry, options in _by_expiry(portfolio):
        today = _value(expiry, options, 1.0, "none", rules)
        moved = [
            _value(expiry, options, spot, "none", rules) - today
            for spot in (rules.basis_spot_up, rules.basis_spot_down)
        ]
        factor = rules.basis_add_factor + rules.basis_mult_factor * expiry.seconds_to_expiry / YEAR
        out += min(*moved, 0.0) * factor
    return out


def slow_margins(portfolio: Portfolio, rules: ScenarioRules) -> tuple[float, float]:
    """Net initial and maintenance margin of a portfolio without collateral, of one underlying."""
    (underlying,) = portfolio.underlyings.values()
    worst = min(*slow_pnl(portfolio, rules), slow_basis(portfolio, rules))
    held = portfolio.cash
    held += sum(
        _value(expiry, options, 1.0, "none", rules) for expiry, options in _by_expiry(portfolio)
    )
    perps = [position for position in portfolio.positions if position.kind == "perp"]
    held += sum((one.unrealised_pnl or 0.0) + one.unrealised_funding for one in perps)
    size = abs(sum(one.quantity for one in perps))
    spot = underlying.spot
    naked = _naked(portfolio)
    maintenance = rules.perp_mm_contingency * size * spot
    maintenance += rules.short_option_mm_contingency * naked * spot
    extra = rules.perp_im_extra_contingency * size * spot
    extra += rules.short_option_im_extra_contingency * naked * spot
    trusted = underlying.spot_confidence
    if size:
        trusted = min(trusted, underlying.perp_confidence)
    extra += _oracle(trusted, size * spot, rules)
    for expiry, options in _by_expiry(portfolio):
        own = min(expiry.confidence, expiry.forward_confidence, expiry.vol_confidence)
        amount = sum(abs(one.quantity) for one in options) * spot
        extra += _oracle(min(trusted, own), amount, rules)
    factor = rules.im_factor
    factor += max(0.0, rules.peg_threshold - portfolio.stable_price) * rules.peg_factor
    return (
        held + factor * worst - maintenance - extra,
        held + rules.mm_factor * worst - maintenance,
    )


def _oracle(confidence: float, amount: float, rules: ScenarioRules) -> float:
    if confidence >= rules.oracle_conf_threshold:
        return 0.0
    return (1.0 - confidence) * rules.oracle_conf_factor * amount


def _naked(portfolio: Portfolio) -> float:
    out = 0.0
    for _, options in _by_expiry(portfolio):
        for strike in {one.strike for one in options}:
            at = [one for one in options if one.strike == strike]
            c = sum(one.quantity for one in at if one.type == "call")
            p = sum(one.quantity for one in at if one.type == "put")
            out += max(0.0, -(c + p)) if c * p < 0 else max(0.0, -c) + max(0.0, -p)
    return out


def _row(portfolio: Portfolio, rules: ScenarioRules, row: GridRow) -> float:
    (underlying,) = portfolio.underlyings.values()
    out = 0.0
    for position in portfolio.positions:
        if position.kind == "perp":
            price = underlying.perp_price or math.nan
            out += position.quantity * price * (row.spot - 1.0) * row.dampening
    for expiry, options in _by_expiry(portfolio):
        tau, rate = expiry.seconds_to_expiry / YEAR, max(expiry.rate, 0.0)
        x = _value(expiry, options, row.spot, row.vol, rules)
        if x >= 0.0:
            growth = rate * rules.long_rate_mult + rules.long_rate_add
            x *= rules.static_discount_long * math.exp(-tau * growth)
        else:
            growth = rate * rules.short_rate_mult + rules.short_rate_add
            static = rules.static_discount_short / math.exp(-tau * growth)
            x *= min(math.exp(tau * rate), static)
        change = x - _value(expiry, options, 1.0, "none", rules)
        out += (-abs(change) if row.vol in ("linear", "abs") else change) * row.dampening
    return out


def _by_expiry(portfolio: Portfolio) -> list[tuple[Expiry, list[Holding]]]:
    (underlying,) = portfolio.underlyings.values()
    options = [position for position in portfolio.positions if position.kind == "option"]
    options.sort(key=lambda one: one.seconds_to_expiry or 0.0)
    return [
        (_expiry(underlying, seconds), list(group))
        for seconds, group in groupby(options, key=lambda one: one.seconds_to_expiry)
    ]


def _expiry(underlying: Underlying, seconds: float | None) -> Expiry:
    return next(one for one in underlying.expiries if one.seconds_to_expiry == seconds)


def _value(
    expiry: Expiry, options: list[Holding], spot: float, vol: str, rules: ScenarioRules
) -> float:
    seconds = expiry.seconds_to_expiry
    fixed = expiry.forward * max(0.0, 1_800.0 - seconds) / 1_800.0
    forward = (expiry.forward - fixed) * spot + fixed
    tau = seconds / YEAR
    discount = math.exp(-tau * max(expiry.rate, 0.0))
    return sum(
        option.quantity * _black(option, forward, _vol(option, expiry, vol, rules), tau, discount)
        for option in options
    )


def _black(option: Holding, forward: float, vol: float, tau: float, discount: float) -> float:
    strike = option.strike or math.nan
    if tau == 0.0 or forward == 0.0:  # nothing is left to move
        side = 1.0 if option.type == "call" else -1.0
        return discount * max(0.0, side * (forward - strike))
    kind = ql.Option.Call if option.type == "call" else ql.Option.Put
    value: float = ql.blackFormula(kind, strike, forward, vol * math.sqrt(tau), discount)
    return value


def _vol(option: Holding, expiry: Expiry, move: str, rules: ScenarioRules) -> float:
    vol, seconds = option.vol or 0.0, expiry.seconds_to_expiry
    days = seconds / 86_400.0
    power = rules.short_term_power if days <= 30.0 else rules.long_term_power
    floored = max(days, rules.dte_floor_days)
    if floored == 0.0:
        return vol  # settled: the vol does not matter
    reach = math.pow(30.0 / floored, power)
    if move == "up":
        return max(vol * (1.0 + rules.vol_range_up * reach), rules.min_vol_after_up_shock)
    if move == "down":
        return vol * max(0.0, 1.0 - rules.vol_range_down * reach)
    if move == "none":
        return vol
    root = math.sqrt(seconds / YEAR)
    k = math.log((option.strike or math.nan) / expiry.forward)
    base, slope = rules.skew_linear_base_cap, rules.skew_linear_cbase
    if move == "abs":
        k, base, slope = abs(k), rules.skew_abs_base_cap, rules.skew_abs_cbase
    cap = base + slope * root
    width = root * rules.skew_width_scale
    width = max(
        rules.skew_min_kstar,
        width * (rules.skew_vol_param_static + root * rules.skew_vol_param_scale),
    )
    if width == 0.0:  # an infinitely steep skew goes to its cap, and has 0 in its middle
        change = cap * (k > 0.0) - cap * (k < 0.0)
    else:
        change = min(cap, k * cap / width) if k >= 0.0 else max(-cap, k * cap / width)
    return vol * max(0.0, 1.0 + change)
