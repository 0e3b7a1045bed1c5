"""Skew, term slope and curvature of quoted surfaces."""

from __future__ import annotations

import math

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from features.market.option_surface import QUARTILE, surface_figures
from margin.valuation.marks import YEAR, svi_variance
from market.core.clock import DAY
from market.core.instruments import parse_expiry
from market.quotes.quotes import ExpiryQuote, QuoteBoard

AS_OF = parse_expiry("BTC-2MAR26")
NAMES = ("BTC-27MAR26", "BTC-24APR26", "BTC-26JUN26")
SVI = (0.004, 0.06, -0.4, 0.02, 0.15)


def flat(*vols: float, forward: float = 100.0) -> QuoteBoard:
    return QuoteBoard(
        {
            name: ExpiryQuote(AS_OF, forward, 0.0, vols={forward: vol})
            for name, vol in zip(NAMES, vols, strict=False)
        }
    )


def test_flat_surface_has_neither_skew_nor_slope() -> None:
    got = surface_figures(flat(0.5, 0.5, 0.5), "BTC", AS_OF)
    assert got == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_term_slope_by_hand() -> None:
    got = surface_figures(flat(0.8, 0.5), "BTC", AS_OF)
    assert got is not None
    # Seven days come before the first expiry, ninety after the last: the vols of their ends.
    assert got.term_slope == pytest.approx(0.5 - 0.8)
    between = surface_figures(flat(0.8, 0.6, 0.5), "BTC", AS_OF)
    assert between is not None
    first, last = ((parse_expiry(name) - AS_OF) / DAY for name in ("BTC-24APR26", "BTC-26JUN26"))
    share = (90.0 - first) / (last - first)
    variance = (1 - share) * 0.36 * first + share * 0.25 * last
    assert between.term_slope == pytest.approx(math.sqrt(variance / 90.0) - 0.8)


def test_vols_of_25_delta_are_those_that_a_root_finder_finds() -> None:
    end = parse_expiry(NAMES[1])
    years = (end - AS_OF) / YEAR
    board = QuoteBoard(
        {
            NAMES[1]: ExpiryQuote(AS_OF, 100.0, 0.0, svi=SVI),
            # The same smile later, so that what thirty days have is not between two.
            NAMES[2]: ExpiryQuote(AS_OF, 50.0, 0.0, svi=SVI),
        }
    )
    got = surface_figures(board, "BTC", AS_OF)

    def vol(k: float) -> float:
        return math.sqrt(svi_variance(k, SVI) / years)

    def d1(k: float) -> float:
        spread = vol(k) * math.sqrt(years)
        return -k / spread + 0.5 * spread

    call = vol(brentq(lambda k: norm.cdf(d1(k)) - 0.25, -2.0, 2.0))
    put = vol(brentq(lambda k: norm.cdf(-d1(k)) - 0.25, -2.0, 2.0))
    assert got is not None
    assert got.skew == pytest.approx(call - put, abs=1e-8)
    assert got.curvature == pytest.approx(0.5 * (put + call) - vol(0.0), abs=1e-8)
    assert got.skew < 0.0
    assert norm.cdf(-QUARTILE) == pytest.approx(0.25)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("b", [2.0, 30.0, 1e6])
@pytest.mark.parametrize("forward", [1e-15, 100.0, 1e12])
def test_right_wing_too_steep_for_a_call_of_25_delta_gives_no_figures(
    forward: float, b: float, rho: float
) -> None:
    # Where w(k) >= 2 k for all k the delta of a call never falls below N(0) (Lee 2004).
    steep = ExpiryQuote(AS_OF, forward, 0.0, svi=(0.0, b, rho, 0.09, 1.0))
    sound = ExpiryQuote(AS_OF, forward, 0.0, svi=SVI)
    assert surface_figures(QuoteBoard({NAMES[0]: steep, NAMES[1]: sound}), "BTC", AS_OF) is None
    assert surface_figures(QuoteBoard({NAMES[0]: sound, NAMES[1]: sound}), "BTC", AS_OF)


@pytest.mark.parametrize("rho", [-0.99, -0.5])
@pytest.mark.parametrize("b", [0.0, 1e-300, 2.0, 1e6, 1e300])
def test_steep_left_wings_give_numbers_or_nothing(b: float, rho: float) -> None:
    steep = ExpiryQuote(AS_OF, 100.0, 0.0, svi=(0.0, b, rho, 0.09, 1.0))
    sound = ExpiryQuote(AS_OF, 100.0, 0.0, svi=SVI)
    got = surface_figures(QuoteBoard({NAMES[0]: steep, NAMES[1]: sound}), "BTC", AS_OF)
    assert got is None or all(map(math.isfinite, got))


def test_scale_of_the_price_does_not_matter() -> None:
    assert surface_figures(flat(0.8, 0.6), "BTC", AS_OF) == pytest.approx(
        surface_figures(flat(0.8, 0.6, forward=1e5), "BTC", AS_OF)
    )


def test_figures_are_those_of_the_time_at_which_they_are_read() -> None:
    later = surface_figures(flat(0.8, 0.6, 0.5), "BTC", AS_OF + 20 * DAY)
    now = surface_figures(flat(0.8, 0.6, 0.5), "BTC", AS_OF)
    assert later is not None
    assert now is not None
    assert later.term_slope != now.term_slope


@pytest.mark.parametrize(
    "board",
    [
        QuoteBoard(),
        flat(0.5),
        flat(0.5, math.nan),
        flat(0.0, 0.0, 0.0),
        QuoteBoard({name: ExpiryQuote(AS_OF, 100.0, 0.0) for name in NAMES}),
        QuoteBoard({n.replace("BTC", "ETH"): q for n, q in flat(0.5, 0.6).expiries.items()}),
        QuoteBoard({n: ExpiryQuote(AS_OF, math.nan, 0.0, vols={1.0: 0.5}) for n in NAMES}),
    ],
    ids=["empty", "one expiry", "one that is no number", "no vol", "no vols", "another", "forward"],
)
def test_board_without_a_surface_gives_no_figures(board: QuoteBoard) -> None:
    assert surface_figures(board, "BTC", AS_OF) is None


def test_expiries_within_a_day_say_nothing() -> None:
    end = parse_expiry(NAMES[0])
    assert surface_figures(flat(9.0, 0.6), "BTC", end - DAY) is not None
    assert surface_figures(flat(9.0, 0.6), "BTC", end - DAY + 1) is None
