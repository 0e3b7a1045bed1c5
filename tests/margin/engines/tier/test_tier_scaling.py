"""Size, open interest and rounding on top of brackets: worked figures, shape, and refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from margin.book.case_batch import flatten
from margin.book.case_portfolio import portfolio_from
from margin.book.portfolio_batch import Portfolios
from margin.cases.margin_cases import run_case
from margin.engines.equity_paths import MarketStep
from margin.engines.registry import compute_margins, engine_of
from margin.engines.tier.paths import tier_paths
from margin.engines.tier.rounding import round_up
from margin.engines.tier.rules import TierRules
from margin.engines.tier.scaling import leg_margins, scaling_of
from margin.engines.tier.tiers import bracket_table
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset, ruleset_from_content
from market.accounts.book import Account, Book, Position
from market.bars.history import MarketHistory
from market.core.clock import INTERVALS
from market.core.errors import InstrumentError, RuleSetError
from market.simulator.simulated_market import simulate_bars

BRACKETS = [
    {"maintenance_rate": 0.01, "initial_rate": 0.02, "upper_bound": 10_000.0},
    {"maintenance_rate": 0.05, "initial_rate": 0.10},
]
CAPS = {"lower": 20e6, "upper": 50e6}
TIER_PRESETS = [name for name in list_rulesets() if load_ruleset(name).engine == "tier"]


def initial_jumps(name: str) -> bool:
    """Whether the initial margin jumps where a bracket ends, as at some venues."""
    return load_ruleset(name).engine_rules(TierRules).initial_margin_basis == "whole_notional"


def rules(linear_tiers: RuleSet, collateral: object = None, **tier: Any) -> RuleSet:
    content = linear_tiers.content()
    content["tier"] = {"brackets": BRACKETS} | tier
    if collateral is not None:
        content["collateral"]["weights"] = collateral
    return ruleset_from_content(content)


def margins(ruleset: RuleSet, quantity: float, price: float, interest: float = math.nan) -> Any:
    found = leg_margins(
        ruleset,
        ("XUSDT",),
        np.array([0]),
        np.array([quantity]),
        np.array([quantity * price]),
        np.array([interest]),
    )
    return float(found.initial[0]), float(found.maintenance[0])


def portfolio(**changed: Any) -> dict[str, Any]:
    return {
        "cash": 100_000.0,
        "stable_price": 1.0,
        "underlyings": {"X": {"spot": 100.0, "perp_price": 100.0, "open_interest": 35e6}},
        "positions": [{"kind": "perp", "underlying": "X", "quantity": -400.0}],
        "collateral": [],
    } | changed


def flat(ruleset: RuleSet, **changed: Any) -> Portfolios:
    return flatten([portfolio_from(portfolio(**changed))], ruleset.collateral)


def test_margins_of_bracket_rule_sets_are_the_table_to_the_last_bit(linear_tiers: RuleSet) -> None:
    plain = rules(linear_tiers)
    assert scaling_of(plain, ("XUSDT",)) is None
    notional = np.array([0.0, -3.3, 9_999.7, 10_000.0, 1e7 / 3, np.nan])
    row = np.zeros(6, dtype=np.int64)
    unit = np.ones(6)
    got = leg_margins(plain, ("XUSDT",), row, unit, notional, np.array([math.nan]))
    table = bracket_table(plain, ("XUSDT",))
    assert got.initial.tobytes() == table.initial(notional, row).tobytes()
    assert got.maintenance.tobytes() == table.maintenance(notional, row).tobytes()
    assert [name for name, *_ in got.steps] == ["tier margin"]


def test_canonical_content_of_the_first_presets_did_not_change() -> None:
    """Decisions on record name these identities; a new key must not touch them."""
    assert load_ruleset("linear-tiers").sha256 == (
        "b93d7bf7894ec09bf30f09c7957e412c9a561887fca818b72a6b5164389597bd"
    )
    assert set(load_ruleset("linear-tiers").content()["tier"]) == {"brackets", "symbols"}


def test_open_interest_moves_the_initial_margin_between_base_and_notional(
    linear_tiers: RuleSet,
) -> None:
    capped = rules(linear_tiers, open_interest=CAPS)
    base = margins(rules(linear_tiers), -400.0, 100.0)  # 0.02 * 10 000 + 0.1 * 30 000 = 3 200
    assert base == pytest.approx((3_200.0, 1_600.0))
    for interest, initial in (
        (0.0, 3_200.0),
        (20e6, 3_200.0),
        (35e6, 3_200.0 + 0.5 * 36_800.0),
        (50e6, 40_000.0),
        (9e9, 40_000.0),
    ):
        assert margins(capped, -400.0, 100.0, interest) == pytest.approx((initial, 1_600.0))
    off = rules(linear_tiers, open_interest={"lower": 0.0, "upper": 0.0})
    assert margins(off, -400.0, 100.0) == base
    step = rules(linear_tiers, open_interest={"lower": 5.0, "upper": 5.0})
    assert margins(step, -400.0, 100.0, 4.9) == base
    assert margins(step, -400.0, 100.0, 5.0) == pytest.approx((40_000.0, 1_600.0))


def test_unknown_open_interest_is_an_error_where_it_counts_and_nowhere_else(
    linear_tiers: RuleSet,
) -> None:
    capped = rules(linear_tiers, open_interest=CAPS)
    unknown = {"underlyings": {"X": {"spot": 100.0, "perp_price": 100.0}}}
    with pytest.raises(InstrumentError, match="underlying 'X' has no open_interest") as caught:
        compute_margins(flat(capped, **unknown), capped)
    assert caught.value.instrument == "X-PERP"
    for positions in ([], [{"kind": "perp", "underlying": "X", "quantity": 0.0}]):
        got = compute_margins(flat(capped, **unknown, positions=positions), capped)
        assert got.initial_net[0] == 100_000.0
    own = {"XUSDT": {"brackets": BRACKETS}}  # a table of its own that has no caps
    uncapped = rules(linear_tiers, open_interest=CAPS, symbols=own)
    assert compute_margins(flat(uncapped, **unknown), uncapped).initial_net[0] == 96_800.0
    negative = {"underlyings": {"X": {"spot": 100.0, "perp_price": 100.0, "open_interest": -1.0}}}
    with pytest.raises(InstrumentError, match="0 or more"):
        compute_margins(flat(capped, **negative), capped)


def test_size_premium_takes_the_larger_of_the_two_weights(linear_tiers: RuleSet) -> None:
    flat_rate = [{"maintenance_rate": 0.05, "initial_rate": 0.10}]
    sized = rules(linear_tiers, brackets=flat_rate, imf_factor=0.001)
    assert margins(sized, 1.0, 100.0) == pytest.approx((10.0, 5.0))
    # 0.8 * 10% + 0.001 * 100 = 18%, 0.8 * 5% + 0.1 = 14% of 1 000 000.
    assert margins(sized, -10_000.0, 100.0) == pytest.approx((180_000.0, 140_000.0))
    assert margins(sized, 0.0, 100.0) == (0.0, 0.0)


@pytest.mark.parametrize("name", TIER_PRESETS)
@given(
    a=st.floats(1e-3, 1e7),
    b=st.floats(1e-3, 1e7),
    interest=st.floats(0.0, 2e8),
    symbol=st.sampled_from(["BTCUSDT", "SOLUSDT", "XRPUSDT", "DOTUSDT", "MKRUSDT", "ZZZUSDT"]),
)
def test_margins_rise_with_size_and_initial_covers_maintenance(
    name: str, a: float, b: float, interest: float, symbol: str
) -> None:
    ruleset = load_ruleset(name)
    quantity = np.array(sorted((a, b)))
    price = 100.0
    row = np.zeros(2, dtype=np.int64)
    got = leg_margins(ruleset, (symbol,), row, quantity, quantity * price, np.array([interest]))
    for level in (got.initial, got.maintenance):
        assert level[0] <= level[1] * (1 + 1e-12)
        assert (level >= 0.0).all()
    assert (got.initial >= got.maintenance * (1 - 1e-12)).all()


@pytest.mark.parametrize("name", TIER_PRESETS)
@given(quantity=st.floats(1e-2, 1e7), interest=st.floats(0.0, 2e8))
def test_margins_are_continuous_in_the_notional(
    name: str, quantity: float, interest: float
) -> None:
    ruleset = load_ruleset(name)
    sizes = np.array([quantity, quantity * (1 + 1e-9)])
    for symbol in ("BTCUSDT", "SOLUSDT", "ZZZUSDT"):
        got = leg_margins(
            ruleset,
            (symbol,),
            np.zeros(2, dtype=np.int64),
            sizes,
            sizes * 100.0,
            np.array([interest]),
        )
        # Rounding, and the steepest slope there is: 0.8 w + 1.5 imf sqrt(size) of drift-v2.
        room = 3e-6 + 50.0 * 1e-9 * quantity * 100.0
        assert abs(got.maintenance[1] - got.maintenance[0]) <= room
        if not initial_jumps(name):
            assert abs(got.initial[1] - got.initial[0]) <= room


@pytest.mark.parametrize("name", TIER_PRESETS)
def test_margins_are_continuous_at_every_bound(name: str) -> None:
    rules_of = load_ruleset(name).engine_rules(TierRules)
    classes = {} if not isinstance(rules_of.classes, dict) else rules_of.classes
    symbols = ("ZZZUSDT", *rules_of.symbols, *(own.symbols[0] for own in classes.values()))
    table = bracket_table(load_ruleset(name), symbols)
    for s in range(len(symbols)):
        bounds = np.unique(table.bounds[s][np.isfinite(table.bounds[s])])
        row = np.full(len(bounds), s)
        levels = [table.maintenance, *([] if initial_jumps(name) else [table.initial])]
        for level in levels:
            at, above = level(bounds, row), level(np.nextafter(bounds, np.inf), row)
            np.testing.assert_allclose(at, above, rtol=1e-9)


def test_rounding_is_up_and_by_less_than_a_quantum(linear_tiers: RuleSet) -> None:
    exact, whole = rules(linear_tiers), rules(linear_tiers, quantum=1e-6)
    for quantity in (1e-7, 0.333333, 17.0, 123.4567891, 98_765.4321):
        for got, least in zip(
            margins(whole, quantity, 77.7), margins(exact, quantity, 77.7), strict=True
        ):
            assert least * (1 - 1e-15) <= got < least + 2e-6  # maintenance is rounded twice
            assert got * 1e6 == pytest.approx(round(got * 1e6), abs=1e-3)


@given(st.floats(0.0, 1e9), st.sampled_from([1e-6, 0.01, 0.5, 3.0]))
def test_round_up_is_the_next_multiple(amount: float, step: float) -> None:
    got = float(round_up(np.array(amount), step))
    assert got >= amount * (1 - 1e-14)
    assert got < (amount + step) * (1 + 1e-14)
    assert float(round_up(np.array(got), step)) == got


def test_round_up_keeps_multiples_and_what_is_no_number() -> None:
    whole = np.array([0.0, 0.1 + 0.2, 0.2 * 0.5, 1e6 * 0.02, 12_345.678901])
    np.testing.assert_allclose(round_up(whole, 1e-6), whole, rtol=1e-15)
    assert float(round_up(np.array(0.1 + 0.2), 0.1)) == 0.3
    assert np.isnan(round_up(np.array(np.nan), 0.01))
    assert float(round_up(np.array(-0.015), 0.01)) == -0.01


def test_parts_of_every_step_add_up_to_the_cent_and_further(linear_tiers: RuleSet) -> None:
    weights = {
        "SOL": {
            "initial_asset": 0.8,
            "maintenance_asset": 0.9,
            "initial_liability": 1.2,
            "maintenance_liability": 1.1,
            "imf_factor": 0.003,
        }
    }
    everything = rules(linear_tiers, weights, open_interest=CAPS, imf_factor=0.002, quantum=1e-6)
    collateral = [
        {"asset": "SOL", "amount": 50_000.0, "price": 20.0},
        {"asset": "SOL", "amount": -70.0, "price": 20.0},
        {"asset": "USDT", "amount": 5.0, "price": 1.0},
    ]
    position = {"kind": "perp", "underlying": "X", "quantity": 12_345.678901, "entry_price": 90.0}
    portfolios = flat(everything, collateral=collateral, positions=[position])
    engine = engine_of(everything)
    found, parts = engine.margins(portfolios, everything), engine.parts(portfolios, 0, everything)
    assert math.fsum(p.initial for p in parts) == pytest.approx(found.initial_net[0], abs=1e-8)
    assert math.fsum(p.maintenance for p in parts) == pytest.approx(
        found.maintenance_net[0], abs=1e-8
    )
    names = [part.name for part in parts]
    for name in ("tier margin", "size premium", "open interest", "rounding", "debt premium"):
        assert names.count(name) == 1
    interest = next(part for part in parts if part.name == "open interest")
    assert (interest.subject, interest.maintenance) == ("X-PERP", 0.0)


def test_collateral_weights_by_amount_and_what_a_line_says_first(linear_tiers: RuleSet) -> None:
    weights = {
        "SOL": {
            "initial_asset": 0.8,
            "maintenance_asset": 0.9,
            "initial_liability": 1.2,
            "maintenance_liability": 1.1,
            "imf_factor": 0.01,
        }
    }
    ruleset = rules(linear_tiers, weights)

    def haircut(**balance: float) -> tuple[float, float]:
        line = {"asset": "SOL", "price": 10.0} | balance
        got = compute_margins(flat(ruleset, collateral=[line], positions=[]), ruleset)
        return (
            float(got.initial["collateral_haircut"][0]),
            float(got.maintenance["collateral_haircut"][0]),
        )

    assert haircut(amount=100.0) == pytest.approx((-200.0, -100.0))
    # 1.1 / (1 + 0.01 * 100) = 55% of 100 000 at both levels.
    assert haircut(amount=10_000.0) == pytest.approx((-45_000.0, -45_000.0))
    assert haircut(amount=-100.0) == pytest.approx((-200.0, -100.0))
    # max(1.2, 0.96 + 1) = 1.96 and max(1.1, 0.88 + 1) = 1.88 times 100 000.
    assert haircut(amount=-10_000.0) == pytest.approx((-96_000.0, -88_000.0))
    assert haircut(amount=100.0, maintenance_haircut=0.3) == pytest.approx((-300.0, -300.0))
    assert haircut(amount=100.0, initial_extra_haircut=0.9) == pytest.approx((-1_000.0, -100.0))


@pytest.mark.parametrize(
    ("tier", "named"),
    [
        ({"open_interest": {"lower": 2.0, "upper": 1.0}}, "lower 2.0 is above upper 1.0"),
        ({"open_interest": {"lower": -1.0, "upper": 1.0}}, "open_interest.lower"),
        ({"imf_factor": -0.1}, "imf_factor"),
        ({"quantum": -1e-6}, "quantum"),
        ({"classes": {"a": {"brackets": [], "symbols": ["X"]}}}, "brackets is empty"),
        ({"classes": {"a": {"brackets": BRACKETS}}}, "symbols"),
        (
            {
                "classes": {
                    "a": {"brackets": BRACKETS, "symbols": ["X"]},
                    "b": {"brackets": BRACKETS, "symbols": ["X"]},
                }
            },
            "X is in more than one place",
        ),
    ],
)
def test_impossible_scaling_is_refused_by_key(
    linear_tiers: RuleSet, tier: dict[str, Any], named: str
) -> None:
    with pytest.raises(RuleSetError, match=named):
        rules(linear_tiers, **tier)


def test_own_table_of_a_symbol_goes_before_that_of_its_class(linear_tiers: RuleSet) -> None:
    """So that a case may give figures of its own for a symbol that the preset has in a class."""
    classes = {"a": {"brackets": BRACKETS, "symbols": ["XUSDT", "YUSDT"], "imf_factor": 0.5}}
    own = {"XUSDT": {"brackets": [{"maintenance_rate": 0.3, "initial_rate": 0.6}]}}
    tiers = rules(linear_tiers, classes=classes, symbols=own).engine_rules(TierRules)
    assert (tiers.table_of("XUSDT").brackets[0].initial_rate, tiers.table_of("XUSDT").imf) == (
        0.6,
        0.0,
    )
    assert tiers.table_of("YUSDT").imf == 0.5
    assert tiers.specific_table("ZUSDT") is None
    assert tiers.table_of("ZUSDT").brackets == tiers.brackets


def test_weights_that_favour_the_account_at_the_initial_level_are_refused(
    linear_tiers: RuleSet,
) -> None:
    sound = {
        "initial_asset": 0.8,
        "maintenance_asset": 0.9,
        "initial_liability": 1.2,
        "maintenance_liability": 1.1,
    }
    for wrong, named in (({"initial_asset": 0.95}, "above"), ({"initial_liability": 1.0}, "under")):
        with pytest.raises(RuleSetError, match=named):
            rules(linear_tiers, {"SOL": sound | wrong})


def test_brackets_of_notional_are_followed_in_one_pass_and_no_others(
    linear_tiers: RuleSet,
) -> None:
    bars = simulate_bars(1, 1, 1, INTERVALS["1h"])
    market = Bars(MarketHistory.from_panel(bars))
    book = Book.of([Account("a", 1.0, (Position(f"{bars.symbols[0]}-PERP", 1.0, 1.0),))])
    weights = {
        "initial_asset": 0.8,
        "maintenance_asset": 0.9,
        "initial_liability": 1.2,
        "maintenance_liability": 1.1,
    }
    for ruleset in (
        load_ruleset("drift-v2"),
        rules(linear_tiers, imf_factor=0.001),
        rules(linear_tiers, {"SOL": weights}),
    ):
        assert tier_paths(book, market, ruleset) is None
    for name in ("linear-tiers", "binance-usdm", "hyperliquid", "dydx-v4"):
        assert tier_paths(book, market, load_ruleset(name)) is not None


@dataclass(frozen=True)
class Bars:
    """A market path of bars alone."""

    history: MarketHistory

    @property
    def age_hours(self) -> npt.NDArray[np.float64]:
        return np.zeros(self.history.mark.shape)

    def steps(self, rows: npt.NDArray[np.int64], *, fine: bool = False) -> Iterator[MarketStep]:
        raise AssertionError("brackets of notional are followed by marks alone")


def test_a_case_without_open_interest_names_rule_set_and_underlying() -> None:
    held = portfolio(
        underlyings={"SOL": {"spot": 100.0, "perp_price": 100.0}},
        positions=[{"kind": "perp", "underlying": "SOL", "quantity": 1.0}],
    )
    case = {"id": "dydx", "portfolio": held, "ruleset": "dydx-v4"}
    error = run_case(json.dumps(case).encode())["error"]
    assert "underlying 'SOL' has no open_interest" in error
    assert "'dydx-v4'" in error
