from __future__ import annotations

import math
from typing import Any

import pytest

from market.bars.panel import FUNDING, IMPLIED_VOLATILITY, OPEN_INTEREST
from market.core.clock import DAY, HOUR, format_time, parse_time
from market.core.instruments import parse_expiry
from market.quotes.quote_store import QuoteField
from market.sources.base import Figure, QuoteUpdate
from market.sources.http import QuoteIn, SviIn, quote_updates
from monitoring.quotes.checks import (
    AHEAD_OF_CLOCK,
    EXOGENOUS_COLUMNS,
    MAX_RATE,
    MAX_VOL,
    QuoteChecks,
)

NOW = parse_time("2026-01-15T12:00:00Z")
CHECKS = QuoteChecks({"BTCUSDT": 0, "ETHUSDT": 1, "SOL": 2}, {"USDT", "USD"}, NOW, NOW + DAY)
EXPIRY, OPTION = "BTC-27MAR26", "BTC-27MAR26-60000-C"
SVI = {"a": 0.01, "b": 0.08, "rho": -0.4, "m": 0.05, "sigma": 0.2}


def check(
    instrument: str, checks: QuoteChecks = CHECKS, **fields: Any
) -> tuple[QuoteField, ...] | str:
    batch = quote_updates([QuoteIn(instrument, **fields)])
    return batch.unreadable[0] if batch.unreadable else checks.check(batch.updates[0])


def figures(instrument: str, **fields: Any) -> dict[tuple[str, Figure], tuple[float, ...]]:
    fields_ = check(instrument, **fields)
    assert not isinstance(fields_, str), fields_
    return {(field.instrument, field.figure): field.value for field in fields_}


def test_an_option_quotes_itself_and_its_expiry() -> None:
    assert figures(
        OPTION, mark=5.0, vol=0.6, confidence=0.9, forward=6e4, rate=0.04, vol_confidence=0.8
    ) == {
        (OPTION, "mark"): (5.0,),
        (OPTION, "vol"): (0.6,),
        (OPTION, "confidence"): (0.9,),
        (EXPIRY, "forward"): (6e4,),
        (EXPIRY, "rate"): (0.04,),
        (EXPIRY, "vol_confidence"): (0.8,),
    }


def test_vols_are_sorted_by_strike_and_svi_stays_as_it_is() -> None:
    fields = figures(EXPIRY, vols={"60000": 0.6, "5.5e4": 0.62, "70000.5": 0.7})
    assert fields == {(EXPIRY, "vols"): (5.5e4, 0.62, 6e4, 0.6, 70_000.5, 0.7)}
    assert figures(EXPIRY, svi=SviIn(**SVI)) == {(EXPIRY, "svi"): tuple(SVI.values())}


def test_one_confidence_of_an_expiry_stands_for_all_and_the_least_counts() -> None:
    assert figures(EXPIRY, confidence=0.7, vol_confidence=0.5) == {
        (EXPIRY, "forward_confidence"): (0.7,),
        (EXPIRY, "vol_confidence"): (0.5,),
    }


def test_funding_is_stored_per_hour() -> None:
    assert figures("BTCUSDT-PERP", funding=8e-4) == {("BTCUSDT-PERP", "funding"): (1e-4,)}
    assert figures("BTCUSDT-PERP", funding=8e-4, interval_hours=4.0) == {
        ("BTCUSDT-PERP", "funding"): (2e-4,)
    }


def test_a_perpetual_quotes_the_exogenous_series_of_its_symbol() -> None:
    fields = figures("ETHUSDT-PERP", mark=1.0, funding=8e-4, open_interest=5.0, implied_vol=0.5)
    columns = {
        EXOGENOUS_COLUMNS[name]: value for (_, name), value in fields.items() if name != "mark"
    }
    assert columns == {FUNDING: (1e-4,), OPEN_INTEREST: (5.0,), IMPLIED_VOLATILITY: (0.5,)}


@pytest.mark.parametrize("instrument", ["SOL-27MAR26", "SOL-27MAR26-100-P", "SOL-PERP", "USD"])
def test_symbols_without_quote_currency_and_cash_are_known(instrument: str) -> None:
    fields = {"forward": 1.0} if "27MAR26" in instrument else {"mark": 1.0}
    assert figures(instrument, **fields)


def test_without_a_time_it_holds_now_and_up_to_the_newest_time_it_may_be_given() -> None:
    now = check(EXPIRY, forward=1.0)
    assert not isinstance(now, str)
    assert [field.ts for field in now] == [NOW]
    latest = check(EXPIRY, forward=1.0, ts=format_time(NOW + DAY))
    assert not isinstance(latest, str)
    assert [field.ts for field in latest] == [NOW + DAY]


def test_a_quote_is_not_ahead_of_the_time_at_which_it_became_known() -> None:
    def known_at(time: int) -> tuple[QuoteField, ...] | str:
        return CHECKS.check(QuoteUpdate(EXPIRY, NOW, {"forward": (1.0,)}, known_at=time))

    assert not isinstance(known_at(NOW - AHEAD_OF_CLOCK), str)
    assert "post it when it holds" in known_at(NOW - AHEAD_OF_CLOCK - 1)


def test_an_expiry_counts_through_its_own_moment() -> None:
    end = parse_expiry("BTC-16JAN26")
    assert figures("BTC-16JAN26", forward=1.0, ts=format_time(end))
    late = QuoteChecks(CHECKS.columns, CHECKS.cash_assets, end + 1, end + DAY)
    refused = check("BTC-16JAN26", late, forward=1.0, ts=format_time(end))
    assert isinstance(refused, str)
    assert "expired" in refused


_POSITIVE = ("nan", "inf", "-inf", "0", "-1", "1e300")


@pytest.mark.parametrize(
    ("instrument", "fields", "named"),
    [
        *[(OPTION, {name: float(v)}, name) for name in ("mark", "vol") for v in _POSITIVE],
        *[(EXPIRY, {"forward": float(v)}, "forward") for v in _POSITIVE],
        *[(EXPIRY, {"vols": {"60000": float(v)}}, "60000") for v in _POSITIVE],
        *[("BTCUSDT", {"implied_vol": float(v)}, "implied_vol") for v in _POSITIVE],
        *[("BTCUSDT", {"open_interest": float(v)}, "open_interest") for v in _POSITIVE],
        ("USDT", {"mark": -1.0}, "mark"),
        (OPTION, {"vol": math.nextafter(MAX_VOL, 99)}, "at most 10"),
        (EXPIRY, {"rate": math.nextafter(MAX_RATE, 9)}, "rate"),
        (EXPIRY, {"rate": -3.0}, "rate"),
        (EXPIRY, {"rate": math.nan}, "rate"),
        *[(EXPIRY, {"confidence": v}, "confidence") for v in (-0.1, 1.1, math.nan)],
        (EXPIRY, {"forward_confidence": 2.0}, "forward_confidence"),
        ("BTCUSDT-PERP", {"confidence": -1e-9}, "confidence"),
        ("BTCUSDT-PERP", {"funding": 1.5}, "funding"),
        ("BTCUSDT-PERP", {"funding": 1e-4, "interval_hours": 0.0}, "interval_hours"),
        ("BTCUSDT-PERP", {"mark": 1.0, "interval_hours": 4.0}, "give funding"),
        *[
            (EXPIRY, {"vols": {strike: 0.5}}, "strike")
            for strike in ("", "nan", "-1", "0", "sixty", "1_000", " 5", "1e99")
        ],
        (EXPIRY, {"vols": {"60000": 0.5, "60000.0": 0.5}}, "twice"),
        (EXPIRY, {"vols": {}}, "no strike"),
        (EXPIRY, {"vols": {"60000": 0.5}, "svi": SviIn(**SVI)}, "one of them"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "b": -0.01})}, "svi"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "rho": 1.0})}, "svi"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "rho": -1.0})}, "svi"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "sigma": 0.0})}, "svi"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "a": -0.02})}, "lowest"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "m": math.nan})}, "finite"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "a": math.inf})}, "finite"),
        (EXPIRY, {"svi": SviIn(**{**SVI, "a": 50.0})}, "at the forward"),
        ("BTC-16JAN26", {"svi": SviIn(**SVI), "ts": "2026-01-16T08:00:00Z"}, "over"),
        ("BTC-14JAN26", {"forward": 1.0}, "expired"),
        ("BTC-14JAN26-60000-C", {"vol": 0.5}, "expired"),
        ("BTC-16JAN26", {"forward": 1.0, "ts": "2026-01-16T08:00:00.000001Z"}, "expired"),
        ("XRP-27MAR26", {"forward": 1.0}, "XRPUSDT"),
        ("XRP-27MAR26-1-C", {"vol": 1.0}, "XRPUSDT"),
        ("XRPUSDT-PERP", {"mark": 1.0}, "XRPUSDT"),
        ("BTC", {"mark": 1.0}, "USD, USDT"),
        ("BTC-31FEB26", {"forward": 1.0}, "not understood"),
        ("btc-27mar26", {"forward": 1.0}, "not understood"),
        (EXPIRY, {"forward": 1.0, "ts": "yesterday or so"}, "ISO 8601"),
        (EXPIRY, {"forward": 1.0, "ts": format_time(NOW + DAY + HOUR)}, "newest time"),
        (EXPIRY, {"forward": 1.0, "ts": "1969-12-31T00:00:00Z"}, "1970"),
        (EXPIRY, {}, "has no field"),
        (EXPIRY, {"vol": 0.5}, "vol is no field of the expiry"),
        (EXPIRY, {"funding": 1e-4}, "funding"),
        ("BTCUSDT", {"forward": 1.0}, "spot symbol"),
        ("BTCUSDT", {"funding": 1e-4}, "spot symbol"),
        ("BTCUSDT-PERP", {"svi": SviIn(**SVI)}, "perpetual"),
        ("USDT", {"implied_vol": 0.5}, "cash asset"),
    ],
)
def test_what_cannot_be_is_rejected_and_named(
    instrument: str, fields: dict[str, Any], named: str
) -> None:
    refused = check(instrument, **fields)
    assert isinstance(refused, str), refused
    assert named in refused
