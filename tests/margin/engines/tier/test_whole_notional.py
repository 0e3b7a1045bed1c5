"""Initial margin on the whole notional: the venues' figures, its jumps, and what builds on it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from msgspec import UnsetType

from margin.add_on.bounds import BINDINGS, add_on_cap, bound_add_on
from margin.add_on.reduction import _reduce
from margin.book.case_batch import flatten
from margin.book.case_portfolio import Holding, Portfolio, portfolio_from
from margin.cases.margin_cases import run_case
from margin.engines.registry import compute_margins, engine_of
from margin.engines.tier.rules import TierRules
from margin.engines.tier.scaling import leg_margins
from margin.engines.tier.tiers import bracket_table
from margin.liquidation.prices import liquidation_crossing
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset, ruleset_from_content
from margin.what_if.outcome import marginal_requirements
from margin.what_if.sizing import largest_size
from market.core.errors import RuleSetError

TIER_PRESETS = [name for name in list_rulesets() if load_ruleset(name).engine == "tier"]
BINANCE, HYPERLIQUID = load_ruleset("binance-usdm"), load_ruleset("hyperliquid")


def with_basis(ruleset: RuleSet, basis: str) -> RuleSet:
    content = ruleset.content()
    content["tier"] = content["tier"] | {"initial_margin_basis": basis}
    return ruleset_from_content(content)


def initial(ruleset: RuleSet, symbol: str, notional: float) -> float:
    table = bracket_table(ruleset, (symbol,))
    return float(table.initial(np.array([notional]), np.array([0]))[0])


def symbols_of(ruleset: RuleSet) -> tuple[str, ...]:
    """One symbol of every table, and one without."""
    rules = ruleset.engine_rules(TierRules)
    classes = rules.classes if isinstance(rules.classes, dict) else {}
    return ("ZZZUSDT", *rules.symbols, *(own.symbols[0] for own in classes.values()))


def book(cash: float, btc: float = 0.0, sol: float = 0.0, price: float = 50_000.0) -> Portfolio:
    positions = [
        {"kind": "perp", "underlying": name, "quantity": quantity}
        for name, quantity in (("BTC", btc), ("SOL", sol))
        if quantity
    ]
    return portfolio_from(
        {
            "cash": cash,
            "stable_price": 1.0,
            "underlyings": {
                "BTC": {"spot": price, "perp_price": price},
                "SOL": {"spot": 100.0, "perp_price": 100.0},
            },
            "positions": positions,
            "collateral": [],
        }
    )


# Binance FAQ, "Cost Required to Open a Position in Perpetual Futures Contracts": 1 BTC at 9,253.30
# with a leverage of 20 takes 462.66 USDT, position value / leverage.
def test_binance_initial_margin_of_the_worked_order() -> None:
    content = BINANCE.content()
    content["tier"]["symbols"] = {
        "BTCUSDT": {
            "brackets": [
                {"maintenance_rate": 0.004, "initial_rate": 1 / 125, "upper_bound": 9_000.0},
                {"maintenance_rate": 0.025, "initial_rate": 1 / 20},
            ]
        }
    }
    assert initial(ruleset_from_content(content), "BTCUSDT", 9_253.30) == pytest.approx(
        462.665, abs=0.005
    )


# Binance, "Leverage and Margin of COIN-M Futures Contracts": initial margin rate = 1 / leverage,
# with the largest position of each, 125x up to 10 BTC, 100x up to 20, 50x up to 30, 20x up to 50.
@pytest.mark.parametrize(
    ("position", "margin"), [(10.0, 0.08), (20.0, 0.2), (30.0, 0.6), (50.0, 2.5), (20.1, 0.402)]
)
def test_binance_initial_margin_rate_of_a_position_in_each_row(
    position: float, margin: float
) -> None:
    rows = [(10.0, 125), (20.0, 100), (30.0, 50), (None, 20)]
    content = BINANCE.content()
    content["tier"]["brackets"] = [
        {"maintenance_rate": 0.004, "initial_rate": 1 / leverage}
        | ({} if bound is None else {"upper_bound": bound})
        for bound, leverage in rows
    ]
    assert initial(ruleset_from_content(content), "XUSDT", position) == pytest.approx(margin)


@pytest.mark.parametrize(
    ("ruleset", "symbol", "notional", "expected"),
    [
        (BINANCE, "BTCUSDT", 480e6, 96e6),  # 5x for up to 480 million; by bracket 67.0 million
        (BINANCE, "BTCUSDT", -480e6, 96e6),
        (BINANCE, "BTCUSDT", 50_000.0, 400.0),  # 125x, the bound included
        (BINANCE, "BTCUSDT", 50_001.0, 500.01),  # 100x
        (BINANCE, "ETHUSDT", 1e9, 1e9),  # 1x
        (BINANCE, "SOLUSDT", 6e6, 1.2e6),  # 5x
        (HYPERLIQUID, "BTCUSDT", 150e6, 3.75e6),  # 40x up to 150 million
        (HYPERLIQUID, "BTCUSDT", 150e6 + 20, 7.5e6 + 1),  # 20x above
        (HYPERLIQUID, "DOGEUSDT", 30e6, 6e6),  # 5x above 20 million
    ],
)
def test_initial_margin_is_the_notional_at_the_highest_leverage_of_its_bracket(
    ruleset: RuleSet, symbol: str, notional: float, expected: float
) -> None:
    assert initial(ruleset, symbol, notional) == pytest.approx(expected, rel=1e-12)


def test_case_answers_the_initial_margin_of_the_whole_notional() -> None:
    case: dict[str, Any] = {
        "id": 1,
        "ruleset": "binance-usdm",
        "portfolio": {
            "cash": 200e6,
            "stable_price": 1.0,
            "underlyings": {"BTC": {"spot": 50_000.0, "perp_price": 50_000.0}},
            "positions": [{"kind": "perp", "underlying": "BTC", "quantity": 9_600.0}],
            "collateral": [],
        },
    }
    got = run_case(json.dumps(case).encode())
    assert got["components"]["initial"]["tier_margin"] == pytest.approx(-96e6)
    assert got["initial_net_margin"] == pytest.approx(104e6)
    case["ruleset"] = {
        "engine": "tier",
        "name": "binance-usdm",
        "parameters": {"initial_margin_basis": "marginal"},
    }
    marginal = run_case(json.dumps(case).encode())
    assert marginal["components"]["initial"]["tier_margin"] == pytest.approx(-67_037_900.0)
    assert marginal["maintenance_net_margin"] == got["maintenance_net_margin"]


@pytest.mark.parametrize("ruleset", [BINANCE, HYPERLIQUID], ids=lambda ruleset: ruleset.name)
def test_venues_that_ask_for_margin_on_the_whole_notional_do_so_here(ruleset: RuleSet) -> None:
    assert ruleset.engine_rules(TierRules).initial_margin_basis == "whole_notional"


@pytest.mark.parametrize("name", TIER_PRESETS)
def test_a_preset_with_several_brackets_states_its_basis(name: str) -> None:
    """dYdX, Drift and the generic sets have one bracket a symbol: both bases are the same there."""
    ruleset = load_ruleset(name)
    rules = ruleset.engine_rules(TierRules)
    if isinstance(rules.initial_margin_basis, UnsetType):
        for symbol in symbols_of(ruleset):
            assert len(rules.table_of(symbol).brackets) == 1, "give initial_margin_basis"


@pytest.mark.parametrize("name", TIER_PRESETS)
def test_basis_leaves_the_maintenance_margin_as_it_is_to_the_bit(name: str) -> None:
    ruleset = load_ruleset(name)
    symbols = symbols_of(ruleset)
    one, other = (
        bracket_table(with_basis(ruleset, basis), symbols)
        for basis in ("marginal", "whole_notional")
    )
    sizes = np.concatenate([[0.0], np.geomspace(1.0, 1e10, 400), one.bounds.ravel()])
    sizes = sizes[np.isfinite(sizes)]
    for row in range(len(symbols)):
        at = np.full(len(sizes), row)
        assert one.maintenance(sizes, at).tobytes() == other.maintenance(sizes, at).tobytes()
        assert (other.initial(sizes, at) >= one.initial(sizes, at) * (1 - 1e-12)).all()


@pytest.mark.parametrize("name", TIER_PRESETS)
@given(
    size=st.floats(0.0, 1e11),
    other=st.floats(0.0, 1e11),
    interest=st.floats(0.0, 2e8),
    data=st.data(),
)
def test_initial_margin_covers_maintenance_and_never_falls_with_size(
    name: str, size: float, other: float, interest: float, data: st.DataObject
) -> None:
    ruleset = load_ruleset(name)
    symbol = data.draw(st.sampled_from(symbols_of(ruleset)))
    bounds = bracket_table(ruleset, (symbol,)).bounds[0]
    edges = [b for bound in bounds[np.isfinite(bounds)] for b in (bound, np.nextafter(bound, 1e99))]
    notional = np.array(sorted([size, other, *edges]))
    row = np.zeros(len(notional), dtype=np.int64)
    got = leg_margins(ruleset, (symbol,), row, notional / 100.0, notional, np.array([interest]))
    assert (got.initial >= got.maintenance).all()
    assert (np.diff(got.initial) >= -1e-12 * got.initial[1:]).all()


def test_margin_jumps_at_a_bound_and_the_bound_is_in_the_lower_bracket() -> None:
    for ruleset, symbol in ((BINANCE, "BTCUSDT"), (HYPERLIQUID, "ETHUSDT")):
        table = bracket_table(ruleset, (symbol,))
        bounds = table.bounds[0][np.isfinite(table.bounds[0])]
        row = np.zeros(len(bounds), dtype=np.int64)
        at, above = table.initial(bounds, row), table.initial(np.nextafter(bounds, np.inf), row)
        rates = table.initial_rates[0]
        np.testing.assert_allclose(at, bounds * rates[:-1], rtol=1e-14)
        np.testing.assert_allclose(above, bounds * rates[1:], rtol=1e-12)


def test_parts_and_legs_add_up_across_a_jump() -> None:
    for quantity in (9_600.0, 9_600.1, -12_345.6):
        portfolios = flatten([book(1e9, quantity, 1e5)], BINANCE.collateral)
        found = compute_margins(portfolios, BINANCE)
        parts = engine_of(BINANCE).parts(portfolios, 0, BINANCE)
        assert math.fsum(p.initial for p in parts) == pytest.approx(found.initial_net[0], rel=1e-14)
        taken = found.mark_to_market[0] - found.initial_net[0]
        assert found.leg_initial.sum() == pytest.approx(taken)


def test_cap_and_step_of_the_add_on_follow_the_jump() -> None:
    rules = BINANCE.add_on
    before, after = (initial(BINANCE, "BTCUSDT", notional) for notional in (480e6, 480.1e6))
    margin = np.array([before, after])
    cap = add_on_cap(margin, rules)
    np.testing.assert_allclose(cap, [3 * 96e6, 3 * 480.1e6 / 4])
    zero, one = np.zeros(2), np.ones(2)
    found = bound_add_on(np.full(2, 1e12), zero, cap, zero, one, margin, False, rules)
    assert [BINDINGS[code] for code in found.binding] == ["step", "step"]
    np.testing.assert_allclose(found.level, 0.5 * margin)


@pytest.mark.parametrize(
    ("cash", "expected"),
    [
        (96e6, 9_600.0),  # the whole of the bracket
        (110e6, 9_600.0),  # 120 million are needed one dollar further
        (121e6, 9_680.0),
        (1e6, 500.0),  # 25 million at 25x
    ],
)
def test_largest_trade_ends_below_the_jump_that_it_cannot_pay(cash: float, expected: float) -> None:
    trade = Holding(kind="perp", underlying="BTC", quantity=1.0)
    found = largest_size(book(cash), trade, BINANCE)
    assert found == pytest.approx(expected, rel=1e-8)
    after = compute_margins(flatten([book(cash, found)], BINANCE.collateral), BINANCE)
    assert after.initial_net[0] >= 0.0
    more = compute_margins(flatten([book(cash, found * (1 + 1e-6))], BINANCE.collateral), BINANCE)
    assert more.initial_net[0] < 0.0


def test_marginal_requirement_of_a_position_is_its_own_margin() -> None:
    held = book(1e9, 9_601.0, 10.0)
    found = {one.instrument: one for one in marginal_requirements(held, BINANCE)}
    assert found["BTC-PERP"].initial == pytest.approx(9_601.0 * 50_000.0 / 4)
    assert found["SOL-PERP"].initial == pytest.approx(10.0)


def test_a_cut_shrinks_the_initial_margin_in_proportion_at_least() -> None:
    """What the share to close rests on: the cap is a multiple of the initial margin."""
    held = flatten([book(1e9, 9_700.0, -90_000.0)], BINANCE.collateral)
    whole = compute_margins(held, BINANCE)
    taken = whole.mark_to_market - whole.initial_net
    for share in np.linspace(0.0, 1.0, 41):
        cut = compute_margins(_reduce(held, np.array([share]), np.zeros(1)), BINANCE)
        left = cut.mark_to_market - cut.initial_net
        assert left[0] <= (1.0 - share) * taken[0] * (1 + 1e-12)


def test_liquidation_price_is_that_of_the_maintenance_margin_alone() -> None:
    for basis in ("marginal", "whole_notional"):
        found = liquidation_crossing(book(60e6, 9_600.0), "BTC", with_basis(BINANCE, basis))
        assert found.down is not None
        notional = 9_600.0 * 50_000.0 * found.down
        table = bracket_table(BINANCE, ("BTCUSDT",))
        margin = table.maintenance(np.array([notional]), np.array([0]))[0]
        assert 60e6 + notional - 480e6 == pytest.approx(margin, rel=1e-9)


def test_training_reads_the_initial_margin_of_the_venue() -> None:
    table = bracket_table(BINANCE, ("BTCUSDT",))
    got = table.initial(np.array([480e6]), np.array([0]))
    assert got[0] == pytest.approx(96e6)


def test_another_basis_is_refused_by_name() -> None:
    with pytest.raises(RuleSetError, match="initial_margin_basis"):
        with_basis(BINANCE, "by_bracket")
