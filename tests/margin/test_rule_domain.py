"""Contract of every number in a rule set: the whole domain of its formula loads, and its ends work.

`PARAMETERS` names each number with its domain. A number that is new to a rule set fails here until
it is added. At an end, figures are finite and continuous with those right beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from msgspec import inspect

from margin.addon import add_on_cap, bound_add_on, in_stress
from margin.engines import compute_margins
from margin.floors import active_floors, floor_terms
from margin.level_search import required_level
from margin.life_cycle.advance import advance
from margin.life_cycle.states import Figures, States
from margin.liquidation.account import liquidation_of
from margin.liquidation.auction import insolvent_offer, price_factor
from margin.liquidation.fillable_price import fillable_price
from margin.liquidation.insurance_fund import draw
from margin.liquidation.partial import allowed_shortage, liquidation_step
from margin.portfolio import Portfolio, portfolio_from
from margin.portfolios import flatten
from margin.requirement import compute_requirement
from margin.ruleset import RuleSet, load_ruleset, ruleset_from_content
from margin.view import MarketView
from market.book import Account, Balance, Book, Position
from market.clock import DAY, HOUR, Interval
from market.daily_closes import DailyCloses
from market.errors import MargincastError, RuleSetError
from market.price_guard import judge_closes

Floats = npt.NDArray[np.float64]
Probe = Callable[[RuleSet], Floats]

DAYS = 86_400.0


# --- the figures that parameters make -----------------------------------------------------------


def options_book(cash: float, long: bool = False) -> Portfolio:
    """One underlying with settled, settling, short and long expiries, at and away from the
    forward, long and short, a perp, collateral, and prices that are not trusted."""
    times = (0.0, 1.0, 900.0, 5 * DAYS, 30 * DAYS, 200 * DAYS)
    sign = 1.0 if long else -1.0
    options = [
        {"kind": "option", "underlying": "BTC", "seconds_to_expiry": seconds, "strike": strike}
        | {"type": side, "quantity": sign * size, "vol": vol}
        for seconds in times
        for strike, side, size, vol in (
            (100.0, "call", 2.0, 0.6),
            (100.0, "put", 1.0, 0.6),
            (80.0, "put", 3.0, 0.8),
            (130.0, "call", -1.5, 0.7),
            (90.0, "call", 0.5, 0.0),
        )
    ]
    expiry = {"forward": 100.0, "rate": 0.05, "confidence": 0.9}
    return portfolio_from(
        {
            "cash": cash,
            "stable_price": 0.97,
            "underlyings": {
                "BTC": {
                    "spot": 100.0,
                    "spot_confidence": 0.95,
                    "perp_price": 100.5,
                    "perp_confidence": 0.8,
                    "expiries": [{"seconds_to_expiry": seconds, **expiry} for seconds in times],
                }
            },
            "positions": [*options, {"kind": "perp", "underlying": "BTC", "quantity": sign * 4.0}],
            "collateral": [
                {"asset": "BTC", "amount": 2.0, "price": 100.0, "underlying": "BTC"}
                | {"risk_cancelling": True, "confidence": 0.7},
                {"asset": "SOL", "amount": 30.0, "price": 2.0},
            ],
        }
    )


def perps_book(cash: float = 5e4) -> Portfolio:
    quoted = {"spot": 100.0, "perp_price": 100.0, "open_interest": 30e6}
    return portfolio_from(
        {
            "cash": cash,
            "stable_price": 1.0,
            "underlyings": {"BTC": quoted, "ETH": quoted, "X": quoted},
            "positions": [
                {"kind": "perp", "underlying": "BTC", "quantity": 1_234.5, "entry_price": 101.0},
                {"kind": "perp", "underlying": "ETH", "quantity": -777.7},
                {"kind": "perp", "underlying": "X", "quantity": 50.0},
            ],
            "collateral": [
                {"asset": "SOL", "amount": 40.0, "price": 20.0},
                {"asset": "SOL", "amount": -7.0, "price": 20.0},
                {"asset": "BTC", "amount": 1.0, "price": 100.0},
            ],
        }
    )


def _margins(portfolios: list[Portfolio], ruleset: RuleSet, **more: Any) -> Floats:
    flat = replace(flatten(portfolios, ruleset.collateral), **more)
    found = compute_margins(flat, ruleset)
    columns = [*found.initial.values(), *found.maintenance.values(), found.mark_to_market]
    columns += [found.leg_initial, found.leg_maintenance]
    if found.scenario_pnl is not None:
        columns.append(found.scenario_pnl.ravel())
    return np.concatenate(columns)


def option_margins(ruleset: RuleSet) -> Floats:
    return _margins([options_book(1e4), options_book(1e4, long=True)], ruleset)


def perp_margins(ruleset: RuleSet) -> Floats:
    return _margins([perps_book()], ruleset)


def _closes() -> DailyCloses:
    """Two coins of 60 days, one that stands still for a while, and one of two days."""
    rng = np.random.default_rng(5)
    returns = 0.03 * rng.standard_t(4, size=(60, 3))
    returns[20:30, 1] = 0.0
    close = 100.0 * np.exp(returns.cumsum(axis=0))
    close[:-2, 2] = np.nan
    return DailyCloses(("BTC", "ETH", "X"), 20_000 * DAY, close, returns**2)


def simulated_margins(ruleset: RuleSet) -> Floats:
    straddle = options_book(1e4)
    return np.concatenate(
        [_margins([one], ruleset, history=_closes()) for one in (perps_book(), straddle)]
    )


def floors(ruleset: RuleSet) -> Floats:
    symbols = ("BTCUSDT", "ETHUSDT", "XUSDT")
    rho = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])
    fast = rho.copy()
    fast[0, 1] = fast[1, 0] = 0.5
    view = MarketView(
        as_of=0,
        symbols=symbols,
        mark=np.array([100_000.0, 2_000.0, 1.0]),
        age_hours=np.array([5.0, 0.0, np.nan]),
        volatility=np.array([0.005, 0.0, np.nan]),
        adv=np.array([1e6, 1e7, np.nan]),
        correlation=rho,
        fast_correlation=fast,
        long_volatility=np.array([0.003, 0.004, np.nan]),
        stressed_volatility=np.array([0.02, 0.025, np.nan]),
        history_hours=np.array([50_000.0, 100.0, np.nan]),
        suspect=np.array([False, True, False]),
    )
    quantities = ((0.5, -3.0, 70.0), (0.0, 0.0, 9e6), (20.0, -900.0, 0.0))
    accounts = [
        Account(
            str(i),
            1e4,
            tuple(Position(name, quantity) for name, quantity in zip(symbols, own, strict=True)),
            (Balance("BTC", 0.1),),
        )
        for i, own in enumerate(quantities)
    ]
    requirement = compute_requirement(Book.of(accounts), view, ruleset)
    terms = floor_terms(requirement, view, ruleset.floors)
    columns = list(active_floors(requirement, view, ruleset.floors).values())
    columns += [term.amount for own in terms.values() for term in own]
    return np.concatenate(columns)


def add_on(ruleset: RuleSet) -> Floats:
    rules = ruleset.add_on

    def probability(level: Floats, account: npt.NDArray[np.int64]) -> Floats:
        return np.repeat(1.0 / (1.0 + level[:, None] + account[:, None]), 3, axis=1)

    asked = required_level(probability, np.full(3, 1e4), rules.targets, (1, 8, 24)).level
    margin = np.array([100.0, 50.0, 0.0])
    out = []
    for previous in (0.0, 30.0, 1e5):
        for stress in (0.5, 3.0):
            level = bound_add_on(
                asked,
                np.array([5.0, 0.0, 1.0]),
                add_on_cap(margin, rules),
                np.full(3, previous),
                np.array([0.5, 2.0, 100.0]),
                margin,
                in_stress(stress, rules),
                rules,
            )
            out.append(level.level)
    return np.concatenate(out)


def price_guard(ruleset: RuleSet) -> Floats:
    guard = ruleset.price_guard.guard()
    assert guard is not None
    closes = np.array([[100.0], [100.0], [101.0], [150.0], [150.5], [100.0]])
    return judge_closes(closes, guard, Interval("1h")).astype(np.float64).ravel()


def liquidation(ruleset: RuleSet) -> Floats:
    rules = ruleset.liquidations
    portfolio = perps_book(cash=2_000.0)
    out: list[float] = []
    found = liquidation_of(portfolio, ruleset)
    for since in (5.0, np.inf):
        step = liquidation_step(portfolio, ruleset, elapsed_seconds=20.0, since_last_seconds=since)
        out += [*step.shares, step.fee, step.net_after, float(step.restored), float(step.backstop)]
    out += [allowed_shortage(rules.partial, 40.0, 20.0), found.auction_fee]
    if rules.auction:
        out += [price_factor(at, rules.auction) for at in (0.0, 1.0, 900.0, 901.0, 1e6)]
        out += [insolvent_offer(-9.0, -5.0, at, rules.auction).price for at in (0.0, 1.0, 1e6)]
        out += [offer.price for offer in found.auction]
    if rules.fund:
        spread = rules.fund.fill_spread or 0.0
        speed = rules.fund.bankruptcy_adjustment
        out.append(
            fillable_price(
                2.0, 100.0, 10.0, 3.0, 10.0, fill_spread=spread, bankruptcy_adjustment=speed
            )
        )
        most = rules.fund.max_draw
        out.append(draw(-50.0, 40.0, max_draw=most if isinstance(most, float) else 1e9).paid)
    return np.array(out)


def life_cycle(ruleset: RuleSet) -> Floats:
    equity = np.array([-1.0, 20.0, 60.0, 99.0, 103.0, 112.0, 140.0, 500.0])
    states = States.healthy(len(equity))
    count = np.full(len(equity), 2)
    out = []
    for hour, shift in ((0, 0.0), (1, 4.0), (30, 4.0), (31, 40.0), (90, 2.0)):
        figures = Figures(equity + shift, np.full(len(equity), 100.0), np.ones(len(equity)), count)
        states, changes = advance(states, figures, hour * HOUR, ruleset.calls)
        out += [states.state.astype(np.float64), changes.deadline.astype(np.float64)]
    return np.concatenate(out)


# --- rule sets that use every parameter ---------------------------------------------------------


def _on_tiers(**changes: Any) -> dict[str, Any]:
    content = load_ruleset("linear-tiers").content()
    content["tier"] = {
        "brackets": [
            {"maintenance_rate": 0.02, "initial_rate": 0.05, "upper_bound": 1e4},
            {"maintenance_rate": 0.05, "initial_rate": 0.1},
        ],
        "open_interest": {"lower": 20e6, "upper": 50e6},
        "imf_factor": 0.001,
        "quantum": 1e-6,
    }
    content["collateral"] |= {
        "default_haircut": 0.2,
        "haircuts": {"BTC": 0.05},
        "initial_extra_haircuts": {"BTC": 0.05},
        "weights": {
            "SOL": {"initial_asset": 0.8, "maintenance_asset": 0.9, "initial_liability": 1.2}
            | {"maintenance_liability": 1.1, "imf_factor": 0.01}
        },
    }
    return content | changes


def _with_floors() -> dict[str, Any]:
    content = load_ruleset("emir-tiers").content()
    del content["regulation"]
    tables = content["floors"]
    for name in ("volatility", "stressed_buffer", "stressed_weight"):
        tables[name]["enabled"] = True
    return content


def _simulated() -> dict[str, Any]:
    content = load_ruleset("emir-ccp").content()
    del content["regulation"]
    content["simulation"] |= {
        "lookback_days": 40,
        "least_known_share": 0.9,
        "filter": {"least_ratio": 0.5, "most_ratio": 2.0},
        "volatility_half_life_days": 5.0,
    }
    for name in ("buffer", "stressed_weight", "long_volatility"):
        content["simulation"].pop(name, None)
    return content


def _stressed() -> dict[str, Any]:
    content = _simulated()
    content["simulation"]["stressed_weight"] = {"weight": 0.25, "observations": 20}
    return content


def _liquidated() -> dict[str, Any]:
    return _on_tiers(
        liquidation={
            "partial": {"buffer": 0.1},
            "auction": {"start": 0.98, "knee": 0.7, "fast_seconds": 900.0}
            | {"slow_seconds": 3_600.0, "insolvent_seconds": 7_200.0, "fee_rate": 0.01},
            "fund": {"max_draw": 30.0, "fill_spread": 1.5},
        }
    )


def _by_share() -> dict[str, Any]:
    return _on_tiers(
        liquidation={
            "partial": {"method": "share", "share": 0.2, "share_above": 1e4}
            | {"cooldown_seconds": 30.0}
        }
    )


def _ramped() -> dict[str, Any]:
    content = _liquidated()
    content["liquidation"]["partial"] |= {"ramp_start": 0.1, "ramp_seconds": 60.0}
    return content


def _preset(name: str) -> Callable[[], dict[str, Any]]:
    return lambda: load_ruleset(name).content()


def _of_one_underlying() -> dict[str, Any]:
    content = load_ruleset("derive-srm").content()
    content["standard"]["underlyings"] = {"BTC": {}}
    return content


def _coin() -> dict[str, Any]:
    return load_ruleset("deribit-standard").content()


# --- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """A number of a rule set.

    `low` and `high` end its domain, None: unbounded; an `open_` low end is not part of it. `at`
    is where it stands in the content that `base` makes, `beside` what else must change for the
    end to have an effect, or to be allowed. `limit` says why figures at an end differ from those
    right beside it.
    """

    at: str
    probe: Probe
    base: Callable[[], dict[str, Any]]
    low: float | None = 0.0
    high: float | None = None
    open_low: bool = False
    whole: bool = False
    beside: Mapping[str, Any] = field(default_factory=dict)
    limit: str = ""


def scenario(key: str, **more: Any) -> Parameter:
    return Parameter(f"scenario.{key}", option_margins, _preset("derive-pmrm2"), **more)


def standard(key: str, **more: Any) -> Parameter:
    return Parameter(f"standard.{key}", option_margins, _preset("derive-srm"), **more)


def of_underlying(key: str) -> Parameter:
    return Parameter(f"standard.underlyings.BTC.{key}", option_margins, _of_one_underlying)


def tier(key: str, **more: Any) -> Parameter:
    return Parameter(key, perp_margins, _on_tiers, **more)


def simulation(key: str, **more: Any) -> Parameter:
    more = {"base": _simulated} | more
    return Parameter(f"simulation.{key}", simulated_margins, **more)


def floor(key: str, **more: Any) -> Parameter:
    return Parameter(f"floors.{key}", floors, _with_floors, **more)


def added(key: str, **more: Any) -> Parameter:
    return Parameter(f"add_on.{key}", add_on, _preset("linear-tiers"), **more)


def liquidated(key: str, **more: Any) -> Parameter:
    more = {"base": _liquidated} | more
    return Parameter(f"liquidation.{key}", liquidation, **more)


def called(key: str, **more: Any) -> Parameter:
    more = {"base": lambda: _on_tiers(life_cycle={})} | more
    return Parameter(f"life_cycle.{key}", life_cycle, **more)


ANY = {"low": None}
SHARE = {"high": 1.0}
FLAT_SKEW = {"scenario.skew_width_scale": 0.0}
BUFFER = {"buffer": {"buffer": 0.25}}
FIGURES = [
    "depeg_threshold", "depeg_factor", "im_perp", "mm_perp", "perp_threshold", "option_threshold",
    "base_threshold", "oc_factor", "max_spot", "min_spot", "mm_call_spot", "mm_put_spot",
    "mm_put_mtm", "unpaired_im", "unpaired_mm", "mm_offset", "base_factor", "base_im_scale",
    "im_perp_per_unit", "mm_perp_per_unit",
]  # fmt: skip
SCENARIO_CHARGES = [
    "mm_factor", "im_factor", "static_discount_long", "static_discount_short", "vol_range_up",
    "vol_range_down", "min_vol_after_up_shock", "basis_spot_up", "basis_spot_down",
    "basis_add_factor", "basis_mult_factor", "peg_threshold", "peg_factor",
    "oracle_conf_threshold", "oracle_conf_factor", "perp_mm_contingency",
    "perp_im_extra_contingency", "short_option_mm_contingency",
    "short_option_im_extra_contingency", "skew_width_scale", "delta_net_rate",
    "delta_hedged_rate", "dte_floor_days",
]  # fmt: skip
SCENARIO_EXPONENTS = [
    "short_rate_mult", "long_rate_mult", "short_rate_add", "long_rate_add", "short_term_power",
    "long_term_power", "skew_linear_base_cap", "skew_linear_cbase", "skew_abs_base_cap",
    "skew_abs_cbase", "skew_vol_param_static", "skew_vol_param_scale",
]  # fmt: skip

PARAMETERS: dict[str, Parameter] = {
    "GridRow.spot": scenario("grid.0.spot"),
    "GridRow.dampening": scenario("grid.0.dampening"),
    **{f"ScenarioRules.{key}": scenario(key) for key in SCENARIO_CHARGES},
    **{f"ScenarioRules.{key}": scenario(key, **ANY) for key in SCENARIO_EXPONENTS},
    "ScenarioRules.skew_min_kstar": scenario("skew_min_kstar", beside=FLAT_SKEW),
    **{f"StandardRules.{key}": standard(key) for key in FIGURES},
    **{f"UnderlyingFigures.{key}": of_underlying(key) for key in FIGURES},
    "Bracket.maintenance_rate": tier(
        "tier.brackets.1.maintenance_rate",
        **SHARE,
        beside={"tier.brackets.0.maintenance_rate": 0.0, "tier.brackets.1.initial_rate": 1.0},
    ),
    "Bracket.initial_rate": tier(
        "tier.brackets.1.initial_rate",
        **SHARE,
        beside={
            "tier.brackets.0.maintenance_rate": 0.0,
            "tier.brackets.0.initial_rate": 0.0,
            "tier.brackets.1.maintenance_rate": 0.0,
        },
    ),
    "Bracket.upper_bound": tier("tier.brackets.0.upper_bound"),
    "OpenInterestCaps.lower": tier("tier.open_interest.lower"),
    "OpenInterestCaps.upper": tier(
        "tier.open_interest.upper",
        beside={"tier.open_interest.lower": 0.0},
        limit="caps that are both 0 switch the rise off, as at the venue",
    ),
    "TierRules.imf_factor": tier("tier.imf_factor"),
    "TierRules.quantum": tier("tier.quantum"),
    "Brackets.imf_factor": tier(
        "tier.symbols.XUSDT.imf_factor",
        beside={
            "tier.symbols": {
                "XUSDT": {"brackets": [{"maintenance_rate": 0.1, "initial_rate": 0.2}]}
            }
        },
    ),
    "MarketClass.imf_factor": tier(
        "tier.classes.some.imf_factor",
        beside={
            "tier.classes": {
                "some": {
                    "brackets": [{"maintenance_rate": 0.1, "initial_rate": 0.2}],
                    "symbols": ["XUSDT"],
                }
            }
        },
    ),
    "CollateralRules.default_haircut": tier(
        "collateral.default_haircut",
        **SHARE,
        beside={"collateral.haircuts": {}} | {"collateral.initial_extra_haircuts": {}},
    ),
    "CollateralRules.haircuts": tier(
        "collateral.haircuts.BTC", **SHARE, beside={"collateral.initial_extra_haircuts": {}}
    ),
    "CollateralRules.initial_extra_haircuts": tier(
        "collateral.initial_extra_haircuts.BTC",
        **SHARE,
        beside={"collateral.haircuts": {"BTC": 0.0}},
    ),
    "AssetWeights.initial_asset": tier(
        "collateral.weights.SOL.initial_asset",
        **SHARE,
        beside={"collateral.weights.SOL.maintenance_asset": 1.0},
    ),
    "AssetWeights.maintenance_asset": tier(
        "collateral.weights.SOL.maintenance_asset",
        **SHARE,
        beside={"collateral.weights.SOL.initial_asset": 0.0},
    ),
    "AssetWeights.initial_liability": tier(
        "collateral.weights.SOL.initial_liability",
        low=1.0,
        beside={"collateral.weights.SOL.maintenance_liability": 1.0},
    ),
    "AssetWeights.maintenance_liability": tier(
        "collateral.weights.SOL.maintenance_liability",
        low=1.0,
        beside={"collateral.weights.SOL.initial_liability": 1e300},
    ),
    "AssetWeights.imf_factor": tier("collateral.weights.SOL.imf_factor"),
    "SimulationRules.confidence": simulation("confidence", low=0.5, high=1.0),
    "SimulationRules.period_days": simulation("period_days", low=1, high=3_653, whole=True),
    "SimulationRules.lookback_days": simulation("lookback_days", low=1, high=3_653, whole=True),
    "SimulationRules.volatility_half_life_days": simulation("volatility_half_life_days"),
    "SimulationRules.initial_multiple": simulation("initial_multiple", low=1.0),
    "SimulationRules.offset_cap": simulation("offset_cap", **SHARE),
    "SimulationRules.unknown_move": simulation("unknown_move", **SHARE),
    "SimulationRules.least_known_share": simulation("least_known_share", **SHARE),
    "VolatilityFilter.least_ratio": simulation("filter.least_ratio", **SHARE),
    "VolatilityFilter.most_ratio": simulation("filter.most_ratio", low=1.0),
    "StressedObservationRules.weight": simulation(
        "stressed_weight.weight", **SHARE, base=_stressed
    ),
    "StressedObservationRules.observations": simulation(
        "stressed_weight.observations", low=1, high=3_653, whole=True, base=_stressed
    ),
    "Cover.confidence": floor(
        "coverage.listed.confidence",
        low=0.5,
        high=1.0,
        limit="the quantile grows without bound, slower than float64 can follow",
    ),
    "Cover.period_days": floor("coverage.listed.period_days"),
    "CoverageRules.lookback_days": floor("coverage.lookback_days"),
    "CoverageRules.unknown_volatility": floor("coverage.unknown_volatility"),
    "SlippageCurve.half_spread": floor("liquidity.depth_of_others.half_spread"),
    "SlippageCurve.slippage[0]": floor(
        "liquidity.depth_of_others.slippage.0.0", open_low=True, high=None
    ),
    "SlippageCurve.slippage[1]": floor(
        "liquidity.depth_of_others.slippage.0.1",
        beside={"floors.liquidity.depth_of_others.half_spread": 0.0}
        | {"floors.liquidity.depth_of_others.slippage": [[1e3, 0.0]]},
    ),
    "LiquidityRules.half_spread": floor("liquidity.half_spread"),
    "LiquidityRules.impact": floor("liquidity.impact"),
    "LiquidityRules.concentration_share": floor("liquidity.concentration_share"),
    "LiquidityRules.confidence": floor("liquidity.confidence"),
    "LiquidityRules.unknown_volatility": floor("liquidity.unknown_volatility"),
    "LiquidityRules.unknown_participation": floor("liquidity.unknown_participation"),
    "StaleDataRules.confidence": floor("stale_data.confidence"),
    "StaleDataRules.unknown_volatility": floor("stale_data.unknown_volatility"),
    "StaleDataRules.unknown_age_hours": floor("stale_data.unknown_age_hours"),
    "VolatilityRules.unknown_long_volatility": floor("volatility.unknown_long_volatility"),
    "StressedBufferRules.buffer": floor("stressed_buffer.buffer", **SHARE),
    "StressedBufferRules.schedule[0]": floor("stressed_buffer.schedule.0.0"),
    "StressedBufferRules.schedule[1]": floor("stressed_buffer.schedule.1.1", **SHARE),
    "StressedWeightRules.weight": floor("stressed_weight.weight", **SHARE),
    "StressedWeightRules.unknown_stressed_volatility": floor(
        "stressed_weight.unknown_stressed_volatility"
    ),
    "CorrelationRules.offset_cap": floor("correlation.offset_cap", **SHARE),
    "CorrelationRules.full_divergence": floor("correlation.full_divergence"),
    "AddOnRules.p_star": added("p_star.24", **SHARE),
    "AddOnRules.cap_im_multiple": added("cap_im_multiple"),
    "AddOnRules.dead_band": added("dead_band"),
    "AddOnRules.max_step_up_per_hour": added("max_step_up_per_hour"),
    "AddOnRules.release_half_life_h": added("release_half_life_h"),
    "AddOnRules.stress_ratio": added(
        "stress_ratio", beside={"add_on.state_rule": "hold_in_stress"}
    ),
    **{
        f"PriceGuardRules.{key}": Parameter(
            f"price_guard.{key}", price_guard, _preset("linear-tiers")
        )
        for key in ("band", "wick_band", "agreement")
    },
    "PartialRules.buffer": liquidated("partial.buffer"),
    "PartialRules.share": liquidated("partial.share", **SHARE, base=_by_share),
    "PartialRules.share_above": liquidated("partial.share_above", base=_by_share),
    "PartialRules.cooldown_seconds": liquidated("partial.cooldown_seconds", base=_by_share),
    "PartialRules.fee_rate": liquidated("partial.fee_rate", **SHARE),
    "PartialRules.margin_fee_rate": liquidated("partial.margin_fee_rate", **SHARE),
    "PartialRules.multiple_of": liquidated("partial.multiple_of", **SHARE),
    "PartialRules.ramp_start": liquidated("partial.ramp_start", **SHARE, base=_ramped),
    "PartialRules.ramp_seconds": liquidated("partial.ramp_seconds", base=_ramped),
    "PartialRules.small_shortage": liquidated("partial.small_shortage", base=_ramped),
    "LiquidationRules.backstop_share": liquidated("backstop_share", **SHARE),
    "AuctionRules.start": liquidated(
        "auction.start", **SHARE, beside={"liquidation.auction.knee": 0.0}
    ),
    "AuctionRules.knee": liquidated(
        "auction.knee", **SHARE, beside={"liquidation.auction.start": 1.0}
    ),
    "AuctionRules.fast_seconds": liquidated("auction.fast_seconds"),
    "AuctionRules.slow_seconds": liquidated("auction.slow_seconds"),
    "AuctionRules.insolvent_seconds": liquidated("auction.insolvent_seconds"),
    "AuctionRules.buffer": liquidated("auction.buffer"),
    "AuctionRules.fee_rate": liquidated("auction.fee_rate", **SHARE),
    "FundRules.max_draw": liquidated("fund.max_draw"),
    "FundRules.fill_spread": liquidated("fund.fill_spread"),
    "FundRules.bankruptcy_adjustment": liquidated("fund.bankruptcy_adjustment"),
    "LifeCycleRules.warning_share": called("warning_share"),
    "LifeCycleRules.cure_share": called("cure_share"),
    "LifeCycleRules.calm_share": called("calm_share"),
    "LifeCycleRules.stop_out_share": called("stop_out_share", **SHARE),
    "LifeCycleRules.call_hours": called("call_hours"),
    "LifeCycleRules.grace_hours": called("grace_hours"),
}

HUGE = 1e300


def ruleset_with(parameter: Parameter, value: float) -> RuleSet:
    content = copy.deepcopy(parameter.base())
    for path, other in parameter.beside.items():
        _put(content, path, copy.deepcopy(other))
    _put(content, parameter.at, int(value) if parameter.whole else value)
    return ruleset_from_content(content)


def _put(content: Any, path: str, value: object) -> None:
    *way, last = path.split(".")
    for key in way:
        if isinstance(content, list):
            content = content[int(key)]
            continue
        content = content.setdefault(key, {})
    if isinstance(content, list):
        content[int(last)] = value
    else:
        content[last] = value


def _numbers(kind: inspect.Type, name: str, seen: set[type]) -> Iterator[tuple[str, inspect.Type]]:
    """Every number in a type, by struct and field."""
    if isinstance(kind, inspect.FloatType | inspect.IntType):
        yield name, kind
    elif isinstance(kind, inspect.StructType):
        if kind.cls in seen:
            return
        seen.add(kind.cls)
        for one in kind.fields:
            yield from _numbers(one.type, f"{kind.cls.__name__}.{one.name}", seen)
    elif isinstance(kind, inspect.UnionType):
        for inner in kind.types:
            yield from _numbers(inner, name, seen)
    elif isinstance(kind, inspect.DictType):
        yield from _numbers(kind.value_type, name, seen)
    elif isinstance(kind, inspect.VarTupleType):
        yield from _numbers(kind.item_type, name, seen)
    elif isinstance(kind, inspect.TupleType):
        for i, inner in enumerate(kind.item_types):
            yield from _numbers(inner, f"{name}[{i}]", seen)


DECLARED = dict(_numbers(inspect.type_info(RuleSet), "", set()))


def test_every_number_of_a_rule_set_has_a_domain_here() -> None:
    assert set(PARAMETERS) == set(DECLARED)


@pytest.mark.parametrize("name", PARAMETERS)
def test_declared_bounds_are_the_domain_of_the_formula(name: str) -> None:
    kind, parameter = DECLARED[name], PARAMETERS[name]
    assert isinstance(kind, inspect.FloatType | inspect.IntType)
    assert (kind.gt if parameter.open_low else kind.ge) == parameter.low
    assert kind.le == parameter.high
    assert (kind.ge if parameter.open_low else kind.gt) is None
    assert kind.lt is None
    assert isinstance(kind, inspect.IntType) == parameter.whole


@pytest.mark.parametrize("name", PARAMETERS)
def test_values_beyond_an_end_are_refused_with_the_key_and_the_end(name: str) -> None:
    parameter = PARAMETERS[name]
    step = 1 if parameter.whole else 1e-9
    for end, beyond in ((parameter.low, -step), (parameter.high, step)):
        if end is None:
            continue
        key = next(part for part in reversed(parameter.at.split(".")) if not part.isdigit())
        value = end if parameter.open_low else end + beyond
        with pytest.raises(RuleSetError, match=rf"(>|<)=? {end}\b.*{key}"):
            ruleset_with(parameter, value)


@pytest.mark.parametrize("name", PARAMETERS)
def test_figures_at_an_end_are_finite_and_continuous(name: str) -> None:
    parameter = PARAMETERS[name]
    for end, inward in ((parameter.low, 1.0), (parameter.high, -1.0)):
        if end is None or (parameter.open_low and inward > 0.0):
            continue
        at = parameter.probe(ruleset_with(parameter, end))
        assert np.isfinite(at).all()
        if parameter.whole or parameter.limit:
            continue
        near = end + inward * (1e-18 if end == 0.0 else 1e-12)
        beside = parameter.probe(ruleset_with(parameter, near))
        np.testing.assert_allclose(at, beside, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PARAMETERS)
def test_probe_sees_the_parameter(name: str) -> None:
    """An end that changes nothing would be tested by nothing."""
    parameter = PARAMETERS[name]
    low = 0.0 if parameter.low is None else parameter.low
    values = [low if not parameter.open_low else 1.0]
    values += [1.0, 3.0, 0.5, 40.0, 1e4, 1e9] if parameter.high is None else [parameter.high]
    found = []
    for value in values:
        if parameter.whole and value != int(value):
            continue
        try:
            found.append(parameter.probe(ruleset_with(parameter, value)))
        except RuleSetError:
            continue
    assert any(
        one.shape != found[0].shape or not np.array_equal(one, found[0]) for one in found[1:]
    )


@pytest.mark.parametrize("name", [n for n, p in PARAMETERS.items() if p.high is None])
def test_extreme_values_give_figures_or_one_clear_error(name: str) -> None:
    parameter = PARAMETERS[name]
    for value in (HUGE, -HUGE) if parameter.low is None else (HUGE,):
        try:
            ruleset = ruleset_with(parameter, value)
        except RuleSetError as error:
            assert parameter.at.split(".")[-1] in str(error) or "haircut" in str(error)
            continue
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                found = parameter.probe(ruleset)
        except MargincastError:
            continue
        assert not np.isnan(found).all()
