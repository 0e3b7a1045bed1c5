"""Contract of every number in a rule set: the whole domain of its formula loads, and its ends work.

`PARAMETERS` names each number with its domain. A number that is new to a rule set fails here until
it is added. At an end, figures are finite and continuous with those right beside it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from msgspec import inspect

from margin.book.case_portfolio import Portfolio
from margin.cases.margin_cases import run_case
from margin.engines.registry import ruleset_type
from margin.rules.add_on import PStarReasoning
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.core.errors import MargincastError, RuleSetError

Floats = npt.NDArray[np.float64]
Probes = dict[str, Callable[[RuleSet], Floats]]
Contents = dict[str, Callable[[], dict[str, Any]]]


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
    probe: str
    base: str
    low: float | None = 0.0
    high: float | None = None
    open_low: bool = False
    whole: bool = False
    beside: Mapping[str, Any] = field(default_factory=dict)
    limit: str = ""


def scenario(key: str, **more: Any) -> Parameter:
    return Parameter(f"scenario.{key}", "options", "derive-pmrm2", **more)


def standard(key: str, **more: Any) -> Parameter:
    return Parameter(f"standard.{key}", "options", "derive-srm", **more)


def of_underlying(key: str) -> Parameter:
    at = f"standard.underlyings.BTC.{key}"
    return Parameter(at, "options", "one underlying", beside=TRUSTED)


def tier(key: str, **more: Any) -> Parameter:
    return Parameter(key, "perps", "tiers", **more)


def simulation(key: str, **more: Any) -> Parameter:
    more = {"base": "simulated"} | more
    return Parameter(f"simulation.{key}", "simulation", **more)


def floor(key: str, **more: Any) -> Parameter:
    return Parameter(f"floors.{key}", "floors", "floors", **more)


def added(key: str, **more: Any) -> Parameter:
    return Parameter(f"add_on.{key}", "add_on", "linear-tiers", **more)


def liquidated(key: str, **more: Any) -> Parameter:
    more = {"base": "liquidated"} | more
    return Parameter(f"liquidation.{key}", "liquidation", **more)


def called(key: str, **more: Any) -> Parameter:
    more = {"base": "life cycle"} | more
    return Parameter(f"life_cycle.{key}", "life_cycle", **more)


def enforced(key: str, **more: Any) -> Parameter:
    return Parameter(f"enforcement.{key}", "enforcement", "enforcement", **more)


ANY = {"low": None}
SHARE = {"high": 1.0}
TRUSTED = {"standard.perp_threshold": 0.9, "standard.option_threshold": 0.9}
"""Below which every confidence of `options_book` lies."""
WIDE_CAP = {"add_on.cap_im_multiple": 1e5}
ACKNOWLEDGED = {"enforcement.deadlines_from": "acknowledgement"}
SHORT_DISCOUNT = {"scenario.static_discount_short": 0.5}
FLAT_SKEW = {"scenario.skew_width_scale": 0.0}
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
    "long_rate_mult", "long_rate_add", "short_term_power", "long_term_power",
    "skew_linear_base_cap", "skew_linear_cbase", "skew_abs_base_cap",
    "skew_abs_cbase", "skew_vol_param_static", "skew_vol_param_scale",
]  # fmt: skip

PARAMETERS: dict[str, Parameter] = {
    "GridRow.spot": scenario("grid.0.spot"),
    "GridRow.dampening": scenario("grid.0.dampening"),
    **{f"ScenarioRules.{key}": scenario(key) for key in SCENARIO_CHARGES},
    **{f"ScenarioRules.{key}": scenario(key, **ANY) for key in SCENARIO_EXPONENTS},
    **{
        f"ScenarioRules.{key}": scenario(key, **ANY, beside=SHORT_DISCOUNT)
        for key in ("short_rate_mult", "short_rate_add")
    },
    "ScenarioRules.skew_min_kstar": scenario("skew_min_kstar", beside=FLAT_SKEW),
    **{f"StandardRules.{key}": standard(key, beside=TRUSTED) for key in FIGURES},
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
        "stressed_weight.weight", **SHARE, base="stressed observations"
    ),
    "StressedObservationRules.observations": simulation(
        "stressed_weight.observations", low=1, high=3_653, whole=True, base="stressed observations"
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
    "SlippageCurve.half_spread": floor(
        "liquidity.depth_of_others.half_spread", beside={"floors.liquidity.impact": 0.0}
    ),
    "SlippageCurve.slippage[0]": floor(
        "liquidity.depth_of_others.slippage.0.0",
        open_low=True,
        beside={"floors.liquidity.impact": 0.0}
        | {"floors.liquidity.depth_of_others.slippage": [[1e3, 0.01]]},
    ),
    "SlippageCurve.slippage[1]": floor(
        "liquidity.depth_of_others.slippage.0.1",
        beside={"floors.liquidity.depth_of_others.half_spread": 0.0}
        | {"floors.liquidity.depth_of_others.slippage": [[1e3, 0.0]]},
    ),
    "LiquidityRules.half_spread": floor(
        "liquidity.half_spread", beside={"floors.liquidity": {"impact": 0.0}}
    ),
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
    "AddOnRules.p_star": added("p_star.24", **SHARE, beside={**WIDE_CAP, "add_on.p_star": {}}),
    "AddOnRules.cap_im_multiple": added("cap_im_multiple"),
    "AddOnRules.dead_band": added("dead_band"),
    "AddOnRules.max_step_up_per_hour": added("max_step_up_per_hour"),
    "AddOnRules.release_half_life_h": added("release_half_life_h", beside=WIDE_CAP),
    "AddOnRules.stress_ratio": added(
        "stress_ratio", beside={**WIDE_CAP, "add_on.state_rule": "hold_in_stress"}
    ),
    **{
        f"ProcyclicalityLimits.{key}": Parameter(
            f"add_on.procyclicality.{key}", "procyclicality", "linear-tiers"
        )
        for key in (
            "peak_to_trough",
            "increase_1d",
            "increase_5d",
            "increase_20d",
            "response_to_one_extreme_return",
        )
    },
    **{
        f"PriceGuardRules.{key}": Parameter(f"price_guard.{key}", "price_guard", "linear-tiers")
        for key in ("band", "wick_band", "agreement", "cash_band", "vol_band")
    },
    "PriceGuardRules.hard_band": Parameter(
        "price_guard.hard_band", "price_guard", "linear-tiers", low=1.0, open_low=True
    ),
    "PartialRules.buffer": liquidated("partial.buffer"),
    "PartialRules.share": liquidated("partial.share", **SHARE, base="liquidated by share"),
    "PartialRules.share_above": liquidated("partial.share_above", base="liquidated by share"),
    "PartialRules.cooldown_seconds": liquidated(
        "partial.cooldown_seconds", base="liquidated by share"
    ),
    "PartialRules.fee_rate": liquidated("partial.fee_rate", **SHARE),
    "PartialRules.margin_fee_rate": liquidated("partial.margin_fee_rate", **SHARE),
    "PartialRules.multiple_of": liquidated("partial.multiple_of", **SHARE),
    "PartialRules.ramp_start": liquidated("partial.ramp_start", **SHARE, base="liquidated slowly"),
    "PartialRules.ramp_seconds": liquidated("partial.ramp_seconds", base="liquidated slowly"),
    "PartialRules.small_shortage": liquidated("partial.small_shortage", base="liquidated slowly"),
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
    "FundRules.balance": liquidated("fund.balance"),
    "FundRules.max_draw": liquidated("fund.max_draw"),
    "FundRules.fill_spread": liquidated("fund.fill_spread"),
    "FundRules.bankruptcy_adjustment": liquidated("fund.bankruptcy_adjustment"),
    "LifeCycleRules.warning_share": called("warning_share"),
    "LifeCycleRules.cure_share": called("cure_share"),
    "LifeCycleRules.calm_share": called("calm_share"),
    "LifeCycleRules.stop_out_share": called("stop_out_share", **SHARE),
    "LifeCycleRules.call_hours": called("call_hours"),
    "LifeCycleRules.grace_hours": called("grace_hours"),
    "CallTypeRules.call_hours": enforced("maintenance_margin.call_hours"),
    "CallTypeRules.grace_hours": enforced("maintenance_margin.grace_hours"),
    "CallTypeRules.cure_share": enforced("maintenance_margin.cure_share"),
    "EnforcementRules.recall_share": enforced("recall_share"),
    "EnforcementRules.dispute_hours": enforced("dispute_hours"),
    "EnforcementRules.instruction_seconds": enforced("instruction_seconds"),
    "EnforcementRules.acknowledgement_hours": enforced(
        "acknowledgement_hours", open_low=True, beside=ACKNOWLEDGED
    ),
    "ApprovalLimit.automatic_below": enforced("approval.add_on.automatic_below"),
    "ApprovalRules.pending_hours": enforced("approval.pending_hours", open_low=True),
    "ApprovalRules.longest_hours": enforced("approval.longest_hours", open_low=True),
    "PromotionRules.max_requirement_change": Parameter(
        "promotion.max_requirement_change", "promotion", "promotion"
    ),
}

HUGE = 1e300
PAGE = Path(__file__).parents[4] / "docs" / "rule-parameters.md"


def ruleset_with(contents: Contents, parameter: Parameter, value: float) -> RuleSet:
    make = contents.get(parameter.base)
    content = load_ruleset(parameter.base).content() if make is None else copy.deepcopy(make())
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
        if kind.cls in seen or kind.cls is PStarReasoning:  # a record: no figure depends on it
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


DECLARED = dict(_numbers(inspect.type_info(ruleset_type()), "", set()))


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
def test_page_states_the_domain(name: str) -> None:
    parameter = PARAMETERS[name]
    low = (
        "(-∞" if parameter.low is None else f"{'(' if parameter.open_low else '['}{parameter.low:g}"
    )
    high = "∞)" if parameter.high is None else f"{parameter.high:g}]"
    table, key = parameter.at.split(".")[0], name.split(".")[1].split("[")[0]
    rows = [
        row
        for row in PAGE.read_text(encoding="utf-8").splitlines()
        if row.startswith(f"| `{table}` |") and re.search(rf"[`.]{key}[` ]", row)
    ]
    assert any(f"| {low}, {high} |" in row for row in rows)


@pytest.mark.parametrize("name", PARAMETERS)
def test_values_beyond_an_end_are_refused_with_the_key_and_the_end(
    name: str, contents: Contents
) -> None:
    parameter = PARAMETERS[name]
    step = 1 if parameter.whole else 1e-9
    for end, beyond in ((parameter.low, -step), (parameter.high, step)):
        if end is None:
            continue
        key = name.split(".")[1].split("[")[0]
        value = end if parameter.open_low else end + beyond
        with pytest.raises(RuleSetError, match=rf"(>|<)=? {end}\b.*{key}"):
            ruleset_with(contents, parameter, value)


@pytest.mark.parametrize("name", PARAMETERS)
def test_figures_at_an_end_are_finite_and_continuous(
    name: str, contents: Contents, probes: Probes
) -> None:
    parameter = PARAMETERS[name]
    for end, inward in ((parameter.low, 1.0), (parameter.high, -1.0)):
        if end is None or (parameter.open_low and inward > 0.0):
            continue
        at = probes[parameter.probe](ruleset_with(contents, parameter, end))
        assert np.isfinite(at).all()
        if parameter.whole or parameter.limit:
            continue
        near = end + inward * (1e-18 if end == 0.0 else 1e-12)
        beside = probes[parameter.probe](ruleset_with(contents, parameter, near))
        np.testing.assert_allclose(at, beside, rtol=1e-6, atol=1e-4 + 1e-9 * np.abs(at).max())


@pytest.mark.parametrize("name", PARAMETERS)
def test_probe_sees_the_parameter(name: str, contents: Contents, probes: Probes) -> None:
    """An end that changes nothing would be tested by nothing."""
    parameter = PARAMETERS[name]
    low = 0.0 if parameter.low is None else parameter.low
    values = [low if not parameter.open_low else 1.0]
    values += [1.0, 3.0, 0.5, 40.0, 1e4, 1e9, 1e-3] if parameter.high is None else [parameter.high]
    found = []
    for value in values:
        if parameter.whole and value != int(value):
            continue
        try:
            found.append(probes[parameter.probe](ruleset_with(contents, parameter, value)))
        except RuleSetError:
            continue
    assert any(
        one.shape != found[0].shape or not np.array_equal(one, found[0]) for one in found[1:]
    )


@pytest.mark.parametrize("name", [n for n, p in PARAMETERS.items() if p.high is None])
def test_extreme_values_give_figures_or_one_clear_error(
    name: str, contents: Contents, probes: Probes
) -> None:
    parameter = PARAMETERS[name]
    for value in (HUGE, -HUGE) if parameter.low is None else (HUGE,):
        try:
            ruleset = ruleset_with(contents, parameter, value)
            with np.errstate(over="ignore", invalid="ignore"):  # as those who call the engines do
                found = probes[parameter.probe](ruleset)
        except MargincastError:
            continue
        assert not np.isnan(found).all()


ENGINE_PARAMETERS = [
    name
    for name, one in PARAMETERS.items()
    if one.at.split(".")[0] in ("scenario", "standard", "tier")
]


def case_of(portfolio: Portfolio, ruleset: RuleSet, preset: str) -> dict[str, Any]:
    """The answer to a case whose rule set has the parameters of `ruleset`."""
    parameters = ruleset.content()[ruleset.table]
    own = {"engine": ruleset.engine, "name": preset, "parameters": parameters}
    if "grid" in parameters:
        own["grid"] = parameters.pop("grid")
    content = msgspec.to_builtins(portfolio) | {"history": HISTORY}
    line = json.dumps({"id": 1, "portfolio": content, "ruleset": own})
    answer: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(run_case(line.encode())))
    return answer


HISTORY = {
    "until": "2024-10-04T00:00:00Z",
    "closes": {"BTC": [100.0 + (7 * day) % 13 for day in range(80)]},
}


@pytest.mark.parametrize("name", ENGINE_PARAMETERS)
def test_cases_accept_the_same_domain(
    name: str, contents: Contents, books: list[Portfolio], perps: Portfolio
) -> None:
    """The ends give figures; an extreme value gives figures or an error of the case, no null."""
    parameter = PARAMETERS[name]
    preset = {"tiers": "linear-tiers", "one underlying": "derive-srm"}.get(
        parameter.base, parameter.base
    )
    held = [perps] if parameter.at.startswith("tier") else books
    low = -HUGE if parameter.low is None else parameter.low
    for value in (low, HUGE if parameter.high is None else parameter.high):
        try:
            ruleset = ruleset_with(contents, parameter, value)
        except RuleSetError:
            assert value == HUGE
            continue
        for portfolio in held:
            got = case_of(portfolio, ruleset, preset)
            if abs(value) == HUGE and "error" in got:
                assert "exceed what float64 can hold" in got["error"]
                continue
            assert "error" not in got, got
            figures = [got["initial_net_margin"], got["maintenance_net_margin"]]
            figures += [*got["components"]["initial"].values(), *got.get("scenario_pnl", [])]
            assert all(isinstance(figure, float) for figure in figures)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("confidence", 1.0),
        ("volatility_half_life_days", 0.0),
        ("initial_multiple", 1.0),
        ("offset_cap", 0.0),
        ("unknown_move", 1.0),
        ("least_known_share", 1.0),
        ("filter", {"least_ratio": 0.0, "most_ratio": 1.0}),
        ("period_days", 3_653),
        ("lookback_days", 3_653),
    ],
)
def test_cases_accept_the_ends_of_a_simulation(
    key: str, value: object, books: list[Portfolio]
) -> None:
    """Those that the articles of EMIR allow, which `emir-ccp` claims to keep."""
    content = load_ruleset("emir-ccp").content()
    content["simulation"][key] = value
    for portfolio in books:
        got = case_of(portfolio, ruleset_from_content(content), "emir-ccp")
        assert "error" not in got, got
        assert got["initial_net_margin"] <= got["maintenance_net_margin"]
