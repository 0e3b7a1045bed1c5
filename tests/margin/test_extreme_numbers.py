"""Searches end and answer in numbers, whatever the size of what they are given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from margin.add_on.bounds import deposit_to_meet
from margin.add_on.explain import explain_engine
from margin.add_on.reduction import reduction_fractions
from margin.add_on.solver import required_level
from margin.book.case_portfolio import Holding, Portfolio, Underlying
from margin.book.requirement import compute_requirement
from margin.liquidation.crossing import first_true
from margin.liquidation.deleverage import RANKINGS, Winner, deleverage
from margin.liquidation.partial import next_step, smallest_share
from margin.liquidation.prices import bankruptcy_crossing, liquidation_crossing
from margin.rules.liquidation import LiquidationRules, PartialRules
from margin.rules.ruleset import list_rulesets, load_ruleset
from margin.surface.repair import _lift
from margin.surface.slice_fit import SliceFit, SlicePoints, measure_fit
from margin.valuation.marks import option_vol, svi_variance, vol_at_strike
from margin.valuation.view import MarketView
from margin.what_if.remedies import find_remedies
from market.accounts.book import Account, Balance, Book, Position
from market.core.clock import DAY
from market.core.errors import CaseError, DataError
from market.quotes.quotes import ExpiryQuote

SCALES = (5e-324, 1e-312, 1e-300, 1e-9, 1.0, 1e9, 1e150, 1e300, 1.7e308)
sizes = st.sampled_from(SCALES) | st.floats(5e-324, 1.7e308)
signed = st.builds(math.copysign, sizes, st.sampled_from([1.0, -1.0]))


@given(upper=st.lists(sizes | st.just(math.nan), min_size=1, max_size=5), scale=sizes)
def test_the_search_for_a_level_ends_within_its_questions(upper: list[float], scale: float) -> None:
    asked = 0

    def probability(level: np.ndarray, rows: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += 1
        with np.errstate(over="ignore", under="ignore"):
            return 0.5 * np.exp(-np.minimum(level / scale, 700.0))[:, None]

    got = required_level(probability, np.array(upper), {1: 0.01}, [1])
    assert asked <= 64
    for level, most in zip(got.level.tolist(), upper, strict=True):
        assert math.isnan(level) == math.isnan(most)
        assert math.isnan(most) or 0.0 <= level <= most or level == math.inf


@given(at=sizes, end=sizes)
def test_a_crossing_ends_at_neighbouring_floats_or_nowhere(at: float, end: float) -> None:
    path = np.array([0.0, end])
    got = first_true(lambda x: x >= at, path)
    assert (got is None) == (end < at)
    if got is not None:
        before, after = got
        assert before <= after
        assert after >= at
        assert after - before <= max(1e-15 * after, end * 17.0**-15, 5e-324)


@given(share=st.floats(0.0, 1.0) | st.sampled_from([5e-324, 1e-312]))
def test_smallest_share_is_a_share(share: float) -> None:
    assert 0.0 <= smallest_share(lambda x: x - share) <= 1.0
    assert smallest_share(lambda x: x * math.nan) == 1.0


class Debtor:
    """Short of margin by all of its requirement; closing frees in proportion."""

    def __init__(self, notionals: list[float]) -> None:
        self.notionals = np.array(notionals)
        self.requirement = 0.05 * float(self.notionals.max())
        self.value, self.net = 0.5 * self.requirement, -0.5 * self.requirement

    def requirement_after(self, shares: np.ndarray) -> np.ndarray:
        left: np.ndarray = ((1.0 - shares) * (self.notionals / self.notionals.sum())).sum(axis=1)
        return self.requirement * left

    def impact(self, shares: np.ndarray) -> np.ndarray:
        return np.zeros(len(shares))

    def largest_first(self) -> list[int]:
        return list(range(len(self.notionals)))


@pytest.mark.parametrize("order", ["largest_first", "pro_rata"])
@given(
    notionals=st.lists(st.sampled_from(SCALES[:-2]), min_size=1, max_size=4),
    multiple=st.sampled_from([0.0, 5e-324, 1e-300, 0.2, 1.0]),
)
def test_a_step_of_any_size_closes_shares(
    order: str, notionals: list[float], multiple: float
) -> None:
    parts = PartialRules(order=order, multiple_of=multiple)  # type: ignore[arg-type]
    step = next_step(Debtor(notionals), LiquidationRules(partial=parts))
    assert all(0.0 <= share <= 1.0 for share in step.shares)
    assert math.isfinite(step.net_after)


@pytest.mark.parametrize("ranking", list(RANKINGS))
@given(
    quantity=signed,
    others=st.lists(sizes, min_size=1, max_size=4),
    price=st.sampled_from(SCALES[2:8]),
)
@example(quantity=1e-312, others=[1e-312], price=1.0)
@example(quantity=1e308, others=[1.7e308, 1.7e308], price=1.0)
def test_a_queue_of_any_size_is_closed_in_shares(
    ranking: str, quantity: float, others: list[float], price: float
) -> None:
    side = -math.copysign(1.0, quantity)
    winners = [
        Winner(str(i), side * size, price, 2.0 * price, 1.0, 1.0, 1.0)
        for i, size in enumerate(others)
    ]
    places = deleverage(quantity, winners, ranking)
    assert sum(abs(place.closed) for place in places) <= abs(quantity)
    assert all(abs(place.closed) <= abs(place.winner.quantity) for place in places)


@given(quantity=signed, spot=st.sampled_from(SCALES), cash=signed)
@example(quantity=1e-312, spot=1.0, cash=1e-312)
@example(quantity=5e-324, spot=1.7e308, cash=5e-324)
def test_search_over_one_price_ends(quantity: float, spot: float, cash: float) -> None:
    held = Holding(kind="perp", underlying="BTC", quantity=quantity)
    portfolio = Portfolio(cash, 1.0, {"BTC": Underlying(spot, perp_price=spot)}, (held,), ())
    rules = load_ruleset("linear-tiers")
    searches = (liquidation_crossing, bankruptcy_crossing)
    try:
        found = [search(portfolio, "BTC", rules) for search in searches]
    except CaseError:  # the figures leave float64 on the way
        assert max(abs(quantity), 1.0) * spot * 1e2 + abs(cash) > 1e307
        return
    for crossing in found:
        assert all(
            one is None or 1e-3 * (1 - 1e-9) <= one <= 1e2 * (1 + 1e-9)
            for one in (crossing.down, crossing.up)
        )


@given(quantity=st.sampled_from(SCALES[:6]), cash=signed)
@example(quantity=1e-312, cash=1e-312)
def test_remedies_end(quantity: float, cash: float) -> None:
    held = Holding(kind="perp", underlying="BTC", quantity=quantity)
    spot = Underlying(100.0, perp_price=100.0)
    portfolio = Portfolio(cash, 1.0, {"BTC": spot}, (held,), ())
    found = find_remedies(portfolio, load_ruleset("linear-tiers"), 1e-312)
    assert found.deposit >= 0.0
    assert all(0.0 < cut.share <= 1.0 for cut in (*found.single, *found.plan))


@pytest.mark.parametrize("preset", list_rulesets())
@given(size=signed, cash=signed, level=sizes)
def test_a_cut_of_any_account_is_a_share_and_its_parts_are_numbers(
    market: MarketView, preset: str, size: float, cash: float, level: float
) -> None:
    rules = load_ruleset(preset)
    wild = Account("wild", cash, (Position("BTCUSDT-PERP", size),), (Balance("BTC", size),))
    book = Book.of([wild, Account("sound", 1.0, (Position("BTCUSDT-PERP", 0.01),))])
    got = compute_requirement(book, market, rules)
    assert got.problems.keys() <= {0}
    shares = reduction_fractions(got, rules, np.full(2, level))
    assert 0.0 <= shares[1] <= 1.0
    for i in {0, 1} - got.problems.keys():
        assert 0.0 <= shares[i] <= 1.0
        parts = explain_engine(i, got, rules, float(shares[i]))
        assert math.isfinite(parts.unallocated)
        assert all(
            math.isfinite(one.initial) and math.isfinite(one.maintenance) for one in parts.parts
        )


@given(level=sizes, headroom=signed)
@example(level=4.4e15, headroom=-0.001)
@example(level=1e-312, headroom=0.0)
def test_a_deposit_of_any_size_suffices(level: float, headroom: float) -> None:
    with np.errstate(over="ignore"):
        (deposit,) = deposit_to_meet(np.array([level]), np.array([headroom])).tolist()
        # From 2**52 on floats are whole, and what is missing is kept as it is.
        assert deposit >= 2.0**52 or headroom + deposit >= level


@given(
    strike=sizes,
    forward=sizes,
    vols=st.dictionaries(sizes, sizes, min_size=1, max_size=3),
    svi=st.tuples(signed, sizes, st.floats(-1.0, 1.0), signed, sizes),
)
@example(strike=5e-324, forward=1.7e308, vols={1.0: 1e200}, svi=(0.0, 1.0, 0.0, 1e200, 1e200))
def test_a_vol_from_extreme_quotes_is_a_number_or_none(
    strike: float,
    forward: float,
    vols: dict[float, float],
    svi: tuple[float, float, float, float, float],
) -> None:
    assert not vol_at_strike(strike, forward, vols) < 0.0
    assert isinstance(svi_variance(1e200, svi), float)
    for quote in (
        ExpiryQuote(0, forward, 0.0, vols=vols),
        ExpiryQuote(0, forward, 0.0, svi=svi),
    ):
        found = option_vol(strike, DAY, None, quote)
        assert found is None or 0.0 <= found[0] < math.inf


@pytest.mark.parametrize("level", [0.0, 1e-312, 1e300, math.inf, math.nan])
def test_a_slice_is_lifted_or_refused(level: float) -> None:
    k = np.linspace(-0.5, 0.5, 9)
    points = SlicePoints(0.1, k, np.full(9, 0.5), np.full(9, 0.01))
    fit: SliceFit = measure_fit(points, np.array([0.02, 0.1, -0.3, 0.0, 0.2]))
    earlier = np.array([level, 0.0, 0.0, 0.0, 0.1])
    try:
        lifted = _lift(points, fit, earlier).raw[0]
    except DataError:
        assert not 1e-18 <= level < 1e6
        return
    assert level <= lifted < math.inf
