"""What must hold for any portfolio under the standard rules."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from margin.book.portfolio_batch import Portfolios
from margin.engines.registry import compute_margins, engine_of
from margin.rules.ruleset import RuleSet

Portfolio = dict[str, Any]
Make = Callable[..., Portfolio]
Flat = Callable[..., Portfolios]

STRIKES = (1_500.0, 1_900.0, 2_000.0, 2_100.0, 2_600.0)
LEVELS = ("initial", "maintenance")

legs = st.lists(
    st.tuples(
        st.integers(-8, 8).filter(bool).map(lambda quarter: quarter / 4),
        st.sampled_from(["call", "put"]),
        st.sampled_from(STRIKES),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda leg: leg[1:],
)
perps = st.integers(-4, 4).map(float)


def book(make: Make, option: Make, chosen: list[Any], perp: float = 0.0) -> Portfolio:
    positions = [option(*leg) for leg in chosen]
    held = {"kind": "perp", "underlying": "ETH", "quantity": perp, "entry_price": 1_900.0}
    return make(cash=100.0, positions=[*positions, held])


def levels(got: Portfolio) -> list[float]:
    return [got[f"{level}_net_margin"] for level in LEVELS]


@given(chosen=legs, kind=st.sampled_from(["call", "put"]), strike=st.floats(1.0, 1e5))
def test_long_option_never_raises_the_requirement_of_deribit(
    make: Make, option: Make, run: Make, chosen: list[Any], kind: str, strike: float
) -> None:
    before = run(book(make, option, chosen), "deribit-standard")
    # A new strike, and one that is held already, short perhaps.
    for at in (strike, chosen[0][2]):
        after = run(book(make, option, [*chosen, (0.75, kind, at)]), "deribit-standard")
        for old, new in zip(levels(before), levels(after), strict=True):
            assert new >= old - 1e-9 * max(1.0, abs(old))


@given(chosen=legs, pick=st.integers(0, 5), kind=st.sampled_from(["call", "put"]))
def test_long_option_at_a_strike_of_the_expiry_never_raises_the_requirement_of_derive(
    make: Make, option: Make, run: Make, chosen: list[Any], pick: int, kind: str
) -> None:
    before = run(book(make, option, chosen), "derive-srm")
    strike = chosen[pick % len(chosen)][2]
    after = run(book(make, option, [*chosen, (0.25, kind, strike)]), "derive-srm")
    for old, new in zip(levels(before), levels(after), strict=True):
        assert new >= old - 1e-9 * max(1.0, abs(old))


def test_long_option_at_a_new_strike_can_raise_the_requirement_of_derive(
    make: Make, option: Make, run: Make
) -> None:
    # F = S = 2000. The spread can lose 200 up to its highest strike, and one call is unpaired;
    # a call of 20000 makes the engine look there, where the spread loses 19980 and more.
    chosen = [(-10.0, "call", 200.0), (9.0, "call", 220.0)]
    before = run(make(positions=[option(*leg) for leg in chosen]), "derive-srm")
    assert levels(before) == pytest.approx([-180 - 20 - 1.2 * 2_000, -180 - 20 - 1.1 * 2_000])
    added = [*chosen, (0.001, "call", 20_000.0)]
    after = run(make(positions=[option(*leg) for leg in added]), "derive-srm")
    # Isolated from here on: 10 * (1800 + 15% and 7.5% of 2000).
    assert levels(after) == pytest.approx([-21_000.0, -19_500.0])


@given(chosen=legs, perp=perps, order=st.randoms(use_true_random=False))
def test_splitting_and_permuting_changes_nothing(
    make: Make,
    option: Make,
    run: Make,
    chosen: list[Any],
    perp: float,
    order: Any,
) -> None:
    whole = book(make, option, chosen, perp)
    halves = [
        {**one, "quantity": one["quantity"] / 2} for one in whole["positions"] for _ in range(2)
    ]
    order.shuffle(halves)
    for preset in ("derive-srm", "deribit-standard"):
        assert run({**whole, "positions": halves}, preset) == run(whole, preset)


def test_position_that_was_closed_is_not_looked_at(make: Make, option: Make, run: Make) -> None:
    # 0.3 less 0.1 and 0.2 leaves 3e-17 in float64: no position, though a strike far away.
    spread = [option(-10.0, "call", 200.0), option(9.0, "call", 220.0)]
    closed = [option(size, "call", 20_000.0) for size in (0.1, 0.2, -0.3)]
    assert sum(sorted(one["quantity"] for one in closed)) != 0.0
    before, after = (run(make(positions=held), "derive-srm") for held in (spread, spread + closed))
    assert levels(after) == pytest.approx(levels(before), rel=1e-12)


@given(chosen=legs, perp=perps, stable=st.sampled_from([1.0, 0.9]), trust=st.floats(0.0, 1.0))
def test_parts_legs_and_components_add_up(
    make: Make,
    option: Make,
    flat: Flat,
    srm: RuleSet,
    deribit: RuleSet,
    chosen: list[Any],
    perp: float,
    stable: float,
    trust: float,
) -> None:
    portfolio = book(make, option, chosen, perp) | {"stable_price": stable}
    portfolio["underlyings"]["ETH"]["spot_confidence"] = trust
    balances = [("ETH", "ETH", 2_000.0), ("XAU", None, 3_000.0), ("USDC", None, 1.0)]
    portfolio["collateral"] = [
        {"asset": asset, "underlying": coin, "amount": 0.5, "price": price}
        for asset, coin, price in balances
    ]
    for ruleset in (srm, deribit):
        both = flat(make(cash=7.0), portfolio, ruleset=ruleset)
        margins = compute_margins(both, ruleset)
        parts = engine_of(ruleset).parts(both, 1, ruleset)
        for level, net, taken in (
            ("initial", margins.initial_net[1], margins.leg_initial.sum()),
            ("maintenance", margins.maintenance_net[1], margins.leg_maintenance.sum()),
        ):
            components = {key: column[1] for key, column in getattr(margins, level).items()}
            assert math.fsum(components.values()) == pytest.approx(net, abs=1e-9)
            assert math.fsum(getattr(part, level) for part in parts) == pytest.approx(net, abs=1e-9)
            # What no leg takes: unpaired calls, the gain that a largest loss does not count, and
            # what collateral counts less than its value.
            rest = margins.mark_to_market[1] - net - taken
            value = 1_000.0 + 1_500.0 / stable + 0.5
            less = value - components["base_collateral"] - components["collateral"]
            less -= components["base_confidence"] + components["unpaired_calls"]
            uncounted = rest - less
            if any(part.name.startswith("max loss") and part.initial == 0.0 for part in parts):
                assert uncounted >= -1e-6
            else:
                assert uncounted == pytest.approx(0.0, abs=1e-6)
        assert margins.initial_net[0] == margins.maintenance_net[0] == 7.0


@given(chosen=legs, perp=perps, cash=st.floats(-1e4, 1e4))
def test_initial_margin_is_never_below_maintenance_margin(
    make: Make, option: Make, run: Make, chosen: list[Any], perp: float, cash: float
) -> None:
    portfolio = book(make, option, chosen, perp) | {"cash": cash}
    for preset in ("derive-srm", "derive-srm-v2", "deribit-standard"):
        initial, maintenance = levels(run(portfolio, preset))
        assert initial <= maintenance + 1e-9 * max(1.0, abs(maintenance))


@pytest.mark.parametrize("preset", ["derive-srm", "deribit-standard"])
def test_empty_portfolio_needs_nothing(make: Make, run: Make, preset: str) -> None:
    for cash in (0.0, -12.5):
        got = run(make(cash=cash), preset)
        assert [*levels(got), got["mark_to_market"]] == [cash] * 3
        for level in LEVELS:
            assert {v for key, v in got["components"][level].items() if key != "cash"} == {0.0}


@given(chosen=legs, perp=perps, long_value=st.booleans())
def test_inverse_is_linear_over_spot(
    make: Make, option: Make, run: Make, chosen: list[Any], perp: float, long_value: bool
) -> None:
    linear = make(cash=2_500.0, positions=[option(*leg) for leg in chosen])
    linear["positions"].append({"kind": "perp", "underlying": "ETH", "quantity": perp})
    inverse = {**linear, "cash": 1.25}
    rules = {"long_option_value": long_value}
    money = run(linear, "deribit-standard", **rules)
    coin = run(inverse, "deribit-standard", settlement="coin", **rules)
    for key in ("initial_net_margin", "maintenance_net_margin", "mark_to_market"):
        assert coin[key] == pytest.approx(money[key] / 2_000.0, abs=1e-12)


@given(chosen=legs, others=st.lists(legs, min_size=1, max_size=4))
def test_portfolio_alone_and_in_a_book_has_the_same_bits(
    make: Make,
    option: Make,
    flat: Flat,
    srm: RuleSet,
    chosen: list[Any],
    others: list[Any],
) -> None:
    one = book(make, option, chosen, 1.0)
    crowd = [book(make, option, other, -2.0) for other in others]
    alone = compute_margins(flat(one, ruleset=srm), srm)
    among = compute_margins(flat(*crowd, one, ruleset=srm), srm)
    for level in LEVELS:
        for key, column in getattr(alone, level).items():
            assert getattr(among, level)[key][-1] == column[0]
    assert json.dumps(alone.leg_initial.tolist()) == json.dumps(
        among.leg_initial[-len(alone.leg_initial) :].tolist()
    )


@given(chosen=legs, other=legs)
def test_accounts_of_one_market_keep_their_expiries_apart(
    make: Make, option: Make, flat: Flat, srm: RuleSet, chosen: list[Any], other: list[Any]
) -> None:
    portfolios = flat(make(positions=[option(*leg) for leg in chosen]), ruleset=srm)
    both = flat(
        *(make(positions=[option(*leg) for leg in held]) for held in (chosen, other)), ruleset=srm
    )
    # The second account looks up prices in the rows of the first, as in a book of one market.
    rows = len(portfolios.underlyings.name), len(portfolios.expiries.seconds)
    shared = dataclasses.replace(
        both, underlying=both.underlying % rows[0], expiry=both.expiry % rows[1]
    )
    apart, together = compute_margins(both, srm), compute_margins(shared, srm)
    assert together.initial_net.tolist() == apart.initial_net.tolist()
    assert together.leg_maintenance.tolist() == apart.leg_maintenance.tolist()
