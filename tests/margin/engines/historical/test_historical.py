"""Historical simulation: losses, measures, netting, stand-ins and measures of Article 28(1).

The oracle is a plain re-implementation with numpy sorts, one portfolio and one scenario at a time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.case_batch import flatten
from margin.book.case_portfolio import (
    CollateralBalance,
    Expiry,
    History,
    Holding,
    Portfolio,
    Underlying,
)
from margin.book.portfolio_batch import Portfolios
from margin.cases.margin_cases import run_case
from margin.engines.historical.losses import tail_length
from margin.engines.historical.positions import shocked_positions
from margin.engines.historical.rules import SimulationRules
from margin.engines.historical.scenarios import ewma_volatility, historical_scenarios
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins, engine_of, ruleset_type
from margin.pricing.black76 import black76_price
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.exposures import leg_exposures
from market.bars.daily_closes import DailyCloses
from market.core.clock import DAY
from market.core.errors import CaseError

Floats = npt.NDArray[np.float64]

NAMES = ("BTC", "ETH", "SOL")
SPOT = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}


def history(days: int = 460, seed: int = 3, names: tuple[str, ...] = NAMES) -> DailyCloses:
    """Closes of correlated coins with clustered volatility; the variances are those of 24 hours."""
    rng = np.random.default_rng(seed)
    scale = 0.03 * np.exp(0.6 * np.sin(np.arange(days) / 25.0))[:, None]
    hourly = rng.standard_t(4, size=(days, 24, len(names)))
    hourly = 0.7 * hourly[:, :, :1] + 0.5 * hourly
    hourly *= (scale / math.sqrt(24.0))[:, None]
    returns = hourly.sum(axis=1)
    return DailyCloses(
        names, 20_000 * DAY, 100.0 * np.exp(returns.cumsum(axis=0)), (hourly**2).sum(axis=1)
    )


def rules(**changes: Any) -> RuleSet:
    """`emir-ccp` without its claim; None takes a table away."""
    content = load_ruleset("emir-ccp").content()
    del content["regulation"]
    own = content["simulation"]
    for name in ("buffer", "long_volatility", "stressed_weight"):
        del own[name]
    for key, value in changes.items():
        if value is None:
            own.pop(key, None)
        else:
            own[key] = value
    return msgspec.convert(content, ruleset_type())


def portfolio(*positions: Holding, collateral: tuple[CollateralBalance, ...] = ()) -> Portfolio:
    """An account with 1000 in cash, and expiries of 30 days everywhere."""
    expiry = 30 * 86_400.0
    return Portfolio(
        cash=1_000.0,
        stable_price=1.0,
        underlyings={
            name: Underlying(
                spot=spot,
                perp_price=1.001 * spot,
                expiries=(Expiry(expiry, 1.01 * spot, 0.03),),
            )
            for name, spot in SPOT.items()
        },
        positions=positions,
        collateral=collateral,
    )


def perp(name: str, value: float) -> Holding:
    return Holding(kind="perp", underlying=name, quantity=value / SPOT[name])


def option(name: str, value: float, moneyness: float = 1.0, side: Any = "call") -> Holding:
    return Holding(
        kind="option",
        underlying=name,
        quantity=value / SPOT[name],
        seconds_to_expiry=30 * 86_400.0,
        strike=moneyness * SPOT[name],
        type=side,
        vol=0.6,
    )


def engine_margins(
    ruleset: RuleSet, *accounts: Portfolio, closes: DailyCloses | None = None
) -> tuple[Portfolios, Margins]:
    flat = replace(
        flatten(accounts, ruleset.collateral), history=history() if closes is None else closes
    )
    return flat, compute_margins(flat, ruleset)


def simulated(ruleset: RuleSet, *positions: Holding, closes: DailyCloses | None = None) -> float:
    """Maintenance margin of one portfolio without what is not simulated."""
    _, found = engine_margins(ruleset, portfolio(*positions), closes=closes)
    return float(found.mark_to_market[0] - found.maintenance_net[0])


# The oracle.


def oracle_profit(position: Holding, growth: float) -> float:
    spot = SPOT[position.underlying]
    if position.kind == "perp":
        return position.quantity * 1.001 * spot * growth
    if position.kind == "spot":
        return position.quantity * spot * growth
    years = 30.0 / 365.0
    assert position.strike is not None
    assert position.vol is not None
    values = [
        black76_price(
            1.01 * spot * (1.0 + g),
            position.strike,
            years,
            position.vol,
            position.type == "call",
            0.03,
        )
        for g in (growth, 0.0)
    ]
    return float(position.quantity * (values[0] - values[1]))


def oracle_measure(profits: Floats, own: Any) -> float:
    losses = np.sort(-profits)[::-1]
    worst = losses[: max(1, math.floor((len(losses) + 1) * (1.0 - own.confidence) + 1e-9))]
    return max(0.0, float(worst.mean() if own.measure == "es" else worst[-1]))


def oracle_scenarios(closes: DailyCloses, own: Any, target: str | None) -> Floats:
    """Relative moves, by loops and pandas-like definitions; target: newest, long or none."""
    weights = 0.5 ** (np.arange(len(closes)) / own.volatility_half_life_days)
    volatility = np.array(
        [
            np.sqrt(
                (weights[: d + 1, None] * closes.variance[d::-1]).sum(0) / weights[: d + 1].sum()
            )
            for d in range(len(closes))
        ]
    )
    aim = {"newest": volatility[-1], "long": np.sqrt(closes.variance.mean(0)), None: None}[target]
    rows = []
    for d in range(len(closes) - own.lookback_days, len(closes)):
        move = np.log(closes.close[d] / closes.close[d - own.period_days])
        if aim is not None:
            ratio = aim / volatility[d - own.period_days]
            move = move * np.minimum(
                np.maximum(ratio, own.filter.least_ratio), own.filter.most_ratio
            )
        rows.append(np.exp(move) - 1.0)
    return np.array(rows)


def oracle_margin(positions: tuple[Holding, ...], growth: Floats, own: Any) -> float:
    names = sorted({position.underlying for position in positions})
    profits = {
        name: np.array(
            [
                sum(
                    oracle_profit(position, float(row[NAMES.index(name)]))
                    for position in positions
                    if position.underlying == name
                )
                for row in growth
            ]
        )
        for name in names
    }
    joint = oracle_measure(np.sum([profits[name] for name in names], axis=0), own)
    alone = sum(oracle_measure(profits[name], own) for name in names)
    return float(max(joint, alone - own.offset_cap * (alone - joint)))


BOOKS = {
    "long": (perp("BTC", 5_000.0),),
    "spread": (perp("BTC", 5_000.0), perp("ETH", -4_000.0)),
    "linear and options": (
        perp("BTC", 2_000.0),
        Holding(kind="spot", underlying="ETH", quantity=-1.0),
        option("BTC", -3_000.0, 1.1),
        option("ETH", 2_000.0, 0.9, "put"),
    ),
    "short straddle": (option("SOL", -900.0), option("SOL", -900.0, 1.0, "put")),
    "long strangle": (option("ETH", 900.0, 1.2), option("ETH", 900.0, 0.8, "put")),
}


@pytest.mark.parametrize("measure", ["var", "es"])
@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("book", BOOKS)
def test_the_margin_is_that_of_a_plain_sort(book: str, filtered: bool, measure: str) -> None:
    ruleset = rules(measure=measure, **({} if filtered else {"filter": None}))
    own = ruleset.engine_rules(SimulationRules)
    growth = oracle_scenarios(history(), own, "newest" if filtered else None)
    expected = oracle_margin(BOOKS[book], growth, own)
    assert expected > 0.0
    assert simulated(ruleset, *BOOKS[book]) == pytest.approx(expected, rel=1e-9)


def test_the_scenarios_of_numpy_quantile_agree_where_the_definitions_meet() -> None:
    """(n + 1) * 0.99 is whole at n = 399: the loss of rank 396 has numpy's ``weibull`` quantile."""
    ruleset = rules(measure="var", filter=None, lookback_days=399)
    growth = oracle_scenarios(history(), ruleset.engine_rules(SimulationRules), None)[:, 0]
    expected = np.quantile(-5_000.0 * 1.001 * growth, 0.99, method="weibull")
    assert simulated(ruleset, perp("BTC", 5_000.0)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("scenarios", "confidence", "length"),
    [(99, 0.99, 1), (199, 0.99, 2), (98, 0.99, 1), (10, 0.99, 1), (365, 0.99, 3), (365, 0.995, 1)],
)
def test_the_tail_holds_as_many_losses_as_the_confidence_leaves_out(
    scenarios: int, confidence: float, length: int
) -> None:
    assert tail_length(scenarios, confidence) == length


# The measures of Article 28(1).


def test_the_long_volatility_is_a_floor() -> None:
    closes = history()
    own = rules(long_volatility={}).engine_rules(SimulationRules)
    parts = [
        oracle_margin(BOOKS["spread"], oracle_scenarios(closes, own, target), own)
        for target in ("newest", "long")
    ]
    found = simulated(rules(long_volatility={}), *BOOKS["spread"], closes=closes)
    assert parts[0] != parts[1]
    assert found == pytest.approx(max(parts), rel=1e-9)


def test_the_buffer_is_whole_in_calm_and_gone_in_stress() -> None:
    base = simulated(rules(), *BOOKS["spread"])
    calm = {"buffer": 0.25, "schedule": [[50.0, 1.0], [60.0, 0.0]]}
    stress = {"buffer": 0.25, "schedule": [[0.01, 1.0], [0.02, 0.0]]}
    assert simulated(rules(buffer=calm), *BOOKS["spread"]) == pytest.approx(1.25 * base)
    assert simulated(rules(buffer=stress), *BOOKS["spread"]) == base


def test_stressed_observations_weigh_in_and_never_take_away() -> None:
    closes = history()
    plain, weighed = rules(), rules(stressed_weight={"weight": 0.25, "observations": 60})
    own = plain.engine_rules(SimulationRules)
    weights = 0.5 ** (np.arange(len(closes)) / own.volatility_half_life_days)
    long = np.sqrt(closes.variance.mean(0))
    stress = {
        d: float(
            np.median(
                np.sqrt(
                    (weights[: d + 1, None] * closes.variance[d::-1]).sum(0)
                    / weights[: d + 1].sum()
                )
                / long
            )
        )
        for d in range(int(own.volatility_half_life_days) - 1, len(closes))
    }
    wild = sorted(stress, key=lambda d: -stress[d])[:60]
    growth = np.array([closes.close[d] / closes.close[d - 2] - 1.0 for d in sorted(wild)])
    margin = simulated(plain, *BOOKS["spread"], closes=closes)
    stressed = oracle_margin(BOOKS["spread"], growth, own)
    expected = 0.75 * margin + 0.25 * max(margin, stressed)
    assert simulated(weighed, *BOOKS["spread"], closes=closes) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rate", [-2.0, -0.05, 0.0, 0.05])
def test_options_have_the_value_by_which_exposures_and_trades_mark_them(rate: float) -> None:
    ruleset = load_ruleset("emir-ccp")
    held = portfolio(option("BTC", 3_000.0, 1.1), option("ETH", -2_000.0, 0.9, "put"))
    expiries = {
        name: msgspec.structs.replace(
            one, expiries=(Expiry(30 * 86_400.0, 1.01 * SPOT[name], rate),)
        )
        for name, one in held.underlyings.items()
    }
    flat, found = engine_margins(ruleset, msgspec.structs.replace(held, underlyings=expiries))
    marked = leg_exposures(flat, discounted=engine_of(ruleset).discounts_options).value
    assert shocked_positions(flat).option_values(2) == pytest.approx(marked, rel=1e-12)
    assert found.equity[0] == pytest.approx(1_000.0 + marked.sum(), rel=1e-12)


# Properties.

sizes = st.floats(-9_000.0, 9_000.0).map(lambda value: round(value, 2))
books = st.lists(
    st.one_of(
        st.builds(perp, st.sampled_from(NAMES), sizes),
        st.builds(option, st.sampled_from(NAMES), sizes, st.sampled_from([0.8, 1.0, 1.2])),
    ),
    min_size=1,
    max_size=5,
)
ES, VAR = rules(measure="es"), rules(measure="var")


@given(books)
@settings(max_examples=40, deadline=None)
def test_components_legs_and_parts_add_up(positions: list[Holding]) -> None:
    ruleset = rules(long_volatility={})
    flat, found = engine_margins(ruleset, portfolio(*positions))
    taken = found.mark_to_market - found.maintenance_net
    assert taken[0] >= 0.0
    scale = 1e-9 * (1.0 + sum(abs(p.quantity) * SPOT[p.underlying] for p in positions))
    assert found.leg_maintenance.sum() == pytest.approx(taken[0], abs=scale)
    assert found.leg_initial.sum() == pytest.approx(
        found.mark_to_market[0] - found.initial_net[0], abs=scale
    )
    parts = engine_of(ruleset).parts(flat, 0, ruleset)
    assert sum(p.maintenance for p in parts) == pytest.approx(found.maintenance_net[0], abs=scale)
    assert sum(p.initial for p in parts) == pytest.approx(found.initial_net[0], abs=scale)


@given(books)
@settings(max_examples=40, deadline=None)
def test_var_is_at_most_es_and_es_grows_with_size(positions: list[Holding]) -> None:
    twice = [msgspec.structs.replace(p, quantity=2.0 * p.quantity) for p in positions]
    es = simulated(ES, *positions)
    scale = 1e-9 * (1.0 + sum(abs(p.quantity) * SPOT[p.underlying] for p in positions))
    assert simulated(VAR, *positions) <= es + scale
    assert simulated(ES, *twice) == pytest.approx(2.0 * es, abs=scale)


@given(books, books)
@settings(max_examples=40, deadline=None)
def test_es_of_the_whole_is_at_most_that_of_its_halves(
    one: list[Holding], other: list[Holding]
) -> None:
    scale = 1e-9 * (1.0 + sum(abs(p.quantity) * SPOT[p.underlying] for p in one + other))
    assert simulated(ES, *one, *other) <= simulated(ES, *one) + simulated(ES, *other) + scale


@given(books, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_and_splitting_of_positions_change_nothing(positions: list[Holding], r: Any) -> None:
    halves = [
        msgspec.structs.replace(p, quantity=0.5 * p.quantity) for p in positions for _ in range(2)
    ]
    r.shuffle(halves)
    whole, split = simulated(ES, *positions), simulated(ES, *halves)
    assert split == pytest.approx(whole, rel=1e-12, abs=1e-9)


def test_a_book_gives_each_portfolio_the_bits_it_has_alone() -> None:
    accounts = [portfolio(*positions) for positions in BOOKS.values()]
    _, together = engine_margins(ES, *accounts)
    for i, account in enumerate(accounts):
        _, alone = engine_margins(ES, account)
        assert together.maintenance_net[i] == alone.maintenance_net[0]
        assert together.initial_net[i] == alone.initial_net[0]


def test_netting_saves_at_most_the_share_that_is_allowed() -> None:
    """BTC against a coin that moves with it to the last bit: joint losses are nothing."""
    closes = history()
    same = replace(closes, close=closes.close[:, [0, 0, 0]], variance=closes.variance[:, [0, 0, 0]])
    hedged = (perp("BTC", 5_000.0), perp("ETH", -5_000.0))
    apart = sum(simulated(ES, position, closes=same) for position in hedged)
    assert simulated(ES, *hedged, closes=same) == pytest.approx(0.2 * apart, rel=1e-9)
    free = rules(offset_cap=1.0)
    assert simulated(free, *hedged, closes=same) == pytest.approx(0.0, abs=1e-9)


# What is not known.


def test_too_short_a_history_takes_the_flat_shock_and_nets_with_nothing() -> None:
    closes = history()
    close = closes.close.copy()
    close[:200, 2] = np.nan
    young = replace(closes, close=close)
    alone = simulated(ES, perp("SOL", 900.0), closes=young)
    assert alone == pytest.approx(0.4 * 900.9)
    both = simulated(ES, perp("BTC", -5_000.0), perp("SOL", 900.0), closes=young)
    assert both == pytest.approx(simulated(ES, perp("BTC", -5_000.0), closes=young) + alone)


def test_what_a_short_history_knows_to_be_worse_counts() -> None:
    closes = history()
    close = closes.close.copy()
    close[:200, 2] = np.nan
    close[-1, 2] = 0.3 * close[-3, 2]
    fallen = replace(closes, close=close)
    plain = rules(filter=None)
    assert simulated(plain, perp("SOL", 1_000.0), closes=fallen) == pytest.approx(0.7 * 1_001.0)


@pytest.mark.parametrize("days", [0, 1, 2, 3, 30])
def test_hardly_any_days_are_no_history(days: int) -> None:
    closes = history(max(days, 1))
    if days == 0:
        closes = replace(closes, close=closes.close[:0], variance=closes.variance[:0])
    assert simulated(ES, perp("BTC", -1_000.0), closes=closes) >= 400.0


def test_an_underlying_without_any_history_takes_the_flat_shock() -> None:
    closes = history(names=("BTC", "ETH"))
    assert simulated(ES, perp("SOL", -900.0), closes=closes) == pytest.approx(0.4 * 900.9)


def test_a_short_straddle_without_history_loses_at_the_end_of_the_shock() -> None:
    closes = history(names=("BTC",))
    straddle = BOOKS["short straddle"]
    worst = max(-sum(oracle_profit(p, g) for p in straddle) for g in (-0.4, 0.4))
    assert simulated(ES, *straddle, closes=closes) == pytest.approx(worst, rel=1e-9)


def test_days_without_a_price_are_left_out_of_the_scenarios() -> None:
    closes = history()
    close = closes.close.copy()
    close[-40, 0] = np.nan
    plain = rules(filter=None)
    moves = np.log(close[2:, 0] / close[:-2, 0])[-365:]
    moves = moves[np.isfinite(moves)]
    assert len(moves) == 363
    expected = oracle_measure(1_001.0 * np.expm1(moves), plain.engine_rules(SimulationRules))
    found = simulated(plain, perp("BTC", 1_000.0), closes=replace(closes, close=close))
    assert found == pytest.approx(expected, rel=1e-9)


def test_no_history_is_one_clear_error() -> None:
    ruleset = rules()
    flat = flatten([portfolio(perp("BTC", 1.0))], ruleset.collateral)
    with pytest.raises(CaseError, match=r'add to the portfolio "history"'):
        compute_margins(flat, ruleset)


def test_an_empty_portfolio_needs_no_history() -> None:
    ruleset = rules()
    flat = flatten([portfolio()], ruleset.collateral)
    assert compute_margins(flat, ruleset).maintenance_net.tolist() == [1_000.0]


def test_collateral_that_is_shocked_hedges_what_it_secures() -> None:
    balance = CollateralBalance(
        asset="BTC",
        amount=0.1,
        price=60_000.0,
        underlying="BTC",
        risk_cancelling=True,
        maintenance_haircut=0.0,
    )
    short = perp("BTC", -6_000.0 / 1.001)
    _, found = engine_margins(ES, portfolio(short, collateral=(balance,)))
    assert found.maintenance["simulated_loss"][0] == pytest.approx(0.0, abs=1e-9)
    _, exposed = engine_margins(ES, portfolio(collateral=(balance,)))
    assert exposed.maintenance["simulated_loss"][0] < -500.0


def test_parts_name_the_days_that_the_margin_comes_from() -> None:
    ruleset = rules(filter=None, measure="es")
    closes = history()
    flat, _ = engine_margins(ruleset, portfolio(perp("BTC", 1_000.0)), closes=closes)
    parts = engine_of(ruleset).parts(flat, 0, ruleset)
    named = [part for part in parts if "of 365 scenarios" in part.name]
    moves = closes.close[-365:, 0] / closes.close[-367:-2, 0]
    worst = np.argsort(moves)[:3]
    for part, row in zip(named, worst, strict=True):
        day = np.datetime64(int(closes.ended[-365:][row]), "ns").astype("datetime64[D]")
        assert str(day) in part.name
        assert part.maintenance == pytest.approx(1_001.0 * (moves[row] - 1.0) / 3.0)


def test_worst_periods_are_those_of_a_sort_and_part_of_a_book_keeps_its_history() -> None:
    ruleset = rules(filter=None)
    closes = history()
    flat, _ = engine_margins(
        ruleset, portfolio(), portfolio(perp("BTC", 1_000.0)), portfolio(), closes=closes
    )
    assert flat.between(1, 2).history is closes
    worst = engine_of(ruleset).worst_scenarios
    ranked = worst(flat, 1, ruleset, 2)
    assert ranked is not None
    moves = np.sort(closes.close[-365:, 0] / closes.close[-367:-2, 0])
    assert [one.pnl for one in ranked] == pytest.approx((1_001.0 * (moves[:2] - 1.0)).tolist())
    assert {one.underlying for one in ranked} == {"BTC"}
    assert worst(flat, 0, ruleset, 2) == ()


# Margin cases bring their history.


def case(**changes: Any) -> dict[str, Any]:
    closes = history()
    told = {
        "until": "2024-10-04T00:00:00Z",
        "closes": {name: closes.close[:, i].tolist() for i, name in enumerate(NAMES)},
        "variances": {name: closes.variance[:, i].tolist() for i, name in enumerate(NAMES)},
    }
    content = msgspec.to_builtins(portfolio(perp("BTC", 5_000.0), perp("ETH", -4_000.0)))
    content["history"] = told | changes
    return {"id": "one", "portfolio": content, "ruleset": "emir-ccp"}


def run(content: dict[str, Any]) -> dict[str, Any]:
    return run_case(msgspec.json.encode(content))


def test_a_case_is_margined_by_the_history_it_brings() -> None:
    got = run(case())
    _, found = engine_margins(load_ruleset("emir-ccp"), portfolio(*BOOKS["spread"]))
    assert got["maintenance_net_margin"] == pytest.approx(float(found.maintenance_net[0]))
    assert got["components"]["maintenance"]["simulated_loss"] < 0.0
    assert math.fsum(got["components"]["initial"].values()) == got["initial_net_margin"]


def test_parameters_of_a_case_replace_those_of_the_simulation() -> None:
    given = case()
    given["ruleset"] = {
        "engine": "scenario",
        "name": "emir-ccp",
        "parameters": {"offset_cap": 0.0},
    }
    less, more = run(case()), run(given)
    assert more["maintenance_net_margin"] < less["maintenance_net_margin"]


def test_variances_that_are_not_given_are_squared_returns() -> None:
    closes = history()
    squared = np.full_like(closes.variance, np.nan)
    squared[1:] = np.diff(np.log(closes.close), axis=0) ** 2
    _, found = engine_margins(
        load_ruleset("emir-ccp"),
        portfolio(*BOOKS["spread"]),
        closes=replace(closes, variance=squared),
    )
    got = run(case(variances={}))
    assert got["maintenance_net_margin"] == pytest.approx(float(found.maintenance_net[0]))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"until": "2024-10-04T01:00:00Z"}, "00:00 UTC of the last close"),
        ({"until": "yesterday"}, "history.until"),
        ({"closes": {"BTC": [1.0, 2.0], "ETH": [1.0]}, "variances": {}}, "lists of one length"),
        ({"closes": {"BTC": [1.0, 0.0]}, "variances": {}}, "closes of BTC has 0.0 as number 2"),
        (
            {"closes": {"BTC": [1.0, 2.0]}, "variances": {"BTC": [0.1, -1.0]}},
            "variances of BTC has -1.0 as number 2",
        ),
        ({"closes": {"BTC": [1.0]}, "variances": {"X": [0.1]}}, "closes of all that has variances"),
    ],
)
def test_an_impossible_history_is_one_clear_error(changes: dict[str, Any], named: str) -> None:
    assert named in run(case(**changes))["error"]


@pytest.mark.parametrize("closes", [{}, {"BTC": []}, {"BTC": [None, None]}])
def test_a_history_of_nothing_is_no_history(closes: dict[str, Any]) -> None:
    got = run(case(closes=closes, variances={}))
    assert got["components"]["maintenance"]["unknown_history"] == pytest.approx(-0.4 * 9_009.0)


def test_a_case_without_history_says_what_to_give() -> None:
    content = case()
    del content["portfolio"]["history"]
    assert '"history": {"until"' in run(content)["error"]


def test_portfolios_with_different_histories_are_refused_together() -> None:
    one = portfolio(perp("BTC", 1.0))
    days = [
        msgspec.structs.replace(one, history=History("2024-10-04", {"BTC": (1.0, last)}))
        for last in (2.0, 3.0)
    ]
    with pytest.raises(CaseError, match="margin each on its own"):
        flatten(days, load_ruleset("emir-ccp").collateral)


def test_half_life_of_nothing_is_the_newest_day() -> None:
    variance = np.array([[0.04, np.nan], [0.0, 0.01], [0.09, 0.01]])
    got = ewma_volatility(variance, 0.0)
    np.testing.assert_allclose(got, [[0.2, np.nan], [0.0, 0.1], [0.3, 0.1]])
    np.testing.assert_allclose(ewma_volatility(variance, 1e-9), got, atol=1e-12)


def test_certainty_takes_the_worst_loss_of_the_lookback() -> None:
    plain = rules(filter=None, confidence=1.0, measure="es")
    closes = history()
    held = perp("BTC", 1_000.0)
    growth = closes.close[2:, 0] / closes.close[:-2, 0] - 1.0
    worst = max(oracle_profit(held, g) * -1.0 for g in growth[-365:])
    assert simulated(plain, held, closes=closes) == pytest.approx(worst, rel=1e-12)


def test_unknown_move_of_one_takes_the_whole_price() -> None:
    none = rules(unknown_move=1.0)
    closes = history(names=("ETH",))
    assert simulated(none, perp("BTC", 1_000.0), closes=closes) == pytest.approx(1_001.0)
    put = option("BTC", -1_000.0, side="put")
    quantity, strike = -1_000.0 / SPOT["BTC"], SPOT["BTC"]
    lost = -quantity * (strike * math.exp(-0.03 * 30 / 365))
    value = black76_price(1.01 * strike, strike, 30 / 365, 0.6, False, 0.03)
    assert simulated(none, put, closes=closes) == pytest.approx(lost + quantity * float(value))


def test_least_known_share_of_nothing_asks_for_one_return() -> None:
    closes = history()
    closes.close[:-4, 2] = np.nan
    few = rules(filter=None, least_known_share=0.0)
    known = historical_scenarios(closes, few.engine_rules(SimulationRules)).current.known
    np.testing.assert_array_equal(known, [True, True, True])
    closes = replace(closes, close=closes.close.copy())
    closes.close[:, 2] = np.nan
    known = historical_scenarios(closes, few.engine_rules(SimulationRules)).current.known
    np.testing.assert_array_equal(known, [True, True, False])
