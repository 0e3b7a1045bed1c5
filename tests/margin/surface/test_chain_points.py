from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from margin.pricing.black76 import black76_price
from margin.surface.chain_points import chain_points, forward_of
from market.core.errors import DataError
from market.quotes.option_chain import YEAR, ChainQuality, OptionChain

FORWARD, TAU = 63_000.0, 30 / 365
STRIKES = np.arange(50_000.0, 80_001.0, 2_500.0)
SMILE = 0.4 + 1.5 * np.log(STRIKES / FORWARD) ** 2
HALF = 0.01
EVERYTHING = slice(0, 2 * len(STRIKES))


def chain() -> OptionChain:
    """Puts and calls of one expiry, quoted a vol point to either side of the smile."""
    strike = np.repeat(STRIKES, 2)
    call = np.tile([False, True], len(STRIKES))
    vol = np.repeat(SMILE, 2)
    mark, bid, ask = (
        black76_price(FORWARD, strike, TAU, vol + shift, call) / FORWARD
        for shift in (0.0, -HALF, HALF)
    )
    n = len(strike)
    return OptionChain(
        venue="deribit",
        underlyings=("BTC",),
        ts=np.zeros(n, dtype=np.int64),
        expiry=np.full(n, int(TAU * YEAR), dtype=np.int64),
        underlying=np.zeros(n, dtype=np.int64),
        strike=strike,
        call=call,
        mark=mark,
        bid=bid,
        ask=ask,
        vol=vol,
        underlying_price=np.full(n, 62_500.0),
        quality=ChainQuality(n, n, 0, 0, 0, 0, 0, 0, 0),
    )


def test_a_strike_gives_one_point_with_its_width() -> None:
    found = chain_points(chain(), EVERYTHING)
    assert found.forward == pytest.approx(FORWARD, rel=1e-12)
    assert found.forward_from == "marks"
    assert found.from_marks == len(STRIKES)
    np.testing.assert_allclose(found.points.k, np.log(STRIKES / FORWARD))
    np.testing.assert_allclose(found.points.vol, SMILE)
    np.testing.assert_allclose(found.points.width, 2 * HALF, rtol=1e-9)
    np.testing.assert_allclose(found.bid_vol, SMILE - HALF, rtol=1e-9)


def test_without_marks_vols_come_from_bid_and_ask() -> None:
    found = chain_points(chain(), EVERYTHING, use_marks=False)
    assert (found.forward_from, found.from_marks) == ("mids", 0)
    assert found.forward == pytest.approx(FORWARD, rel=1e-4)
    np.testing.assert_allclose(found.points.vol, SMILE, atol=1e-3)


def test_a_missing_vol_is_taken_from_the_quotes_of_the_same_option() -> None:
    whole = chain()
    vol = whole.vol.copy()
    vol[::2] = np.nan  # all puts
    found = chain_points(replace(whole, vol=vol), EVERYTHING)
    assert found.from_marks == (STRIKES >= FORWARD).sum()
    np.testing.assert_allclose(found.points.vol, SMILE, atol=1e-3)
    unquoted = replace(whole, vol=vol, bid=np.full_like(vol, np.nan))
    # Now only the calls of the same strikes are left, in the money as they are.
    assert chain_points(unquoted, EVERYTHING).from_marks == len(STRIKES)
    vol[:] = np.nan
    assert chain_points(replace(whole, vol=vol), EVERYTHING).from_marks == 0


def test_the_side_out_of_the_money_goes_first() -> None:
    whole = chain()
    in_the_money = whole.call != (whole.strike >= FORWARD)
    found = chain_points(replace(whole, vol=np.where(in_the_money, 9.0, whole.vol)), EVERYTHING)
    np.testing.assert_allclose(found.points.vol, SMILE)


def test_one_sided_quotes_have_no_width() -> None:
    whole = chain()
    found = chain_points(replace(whole, bid=np.full_like(whole.bid, np.nan)), EVERYTHING)
    assert np.isnan(found.points.width).all()
    assert np.isnan(found.bid_vol).all()
    assert np.isfinite(found.ask_vol).all()


def test_too_few_strikes_are_refused() -> None:
    with pytest.raises(DataError, match="4 strikes have a vol"):
        chain_points(chain(), slice(0, 8))


def test_forward_falls_back_to_the_column_and_then_to_an_error() -> None:
    strike, call = np.array([60_000.0, 65_000.0]), np.array([False, True])
    none = np.full(2, np.nan)
    column = np.array([62_000.0, 62_002.0])
    assert forward_of(strike, call, none, none, none, column) == (62_001.0, "underlying_price")
    with pytest.raises(DataError, match="no strike has a put and a call"):
        forward_of(strike, call, none, none, none, none)
