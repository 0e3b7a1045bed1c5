"""The market page: prices, volatilities, correlations, liquidity and option surfaces as they are
held by the live market state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from decisions.errors import NotFoundError
from features.registry import VOLATILITIES
from features.state.snapshot import MarketSnapshot
from margin.valuation.marks import (
    MarkPrices,
    oldest_quote_hours,
    option_vol,
    perpetual_marks,
    spot_marks,
)
from margin.what_if.shocks import coin_of
from market.bars.panel import CLOSE
from market.core.clock import HOUR, format_time
from market.core.errors import DataError
from market.core.instruments import parse_expiry
from monitoring.market_state.state import LiveMarketState
from serving.console.charts import Chart, bar_chart, heat_map, line_chart
from serving.console.console import Console

CHANGES = (1, 24, 168)
"""Hours over which price changes are shown."""

LIQUIDITY = (
    "average_daily_volume_168h",
    "relative_turnover_24h",
    "amihud_illiquidity_24h",
    "kyle_lambda_24h",
    "roll_spread_24h",
    "corwin_schultz_spread_24h",
    "edge_spread_24h",
)
"""Market features of liquidity, in the order of the table."""

_HOURS_A_YEAR = 8_760.0
_MONEYNESS = (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3)


def market_content(console: Console, symbol: str | None) -> dict[str, Any]:
    """What the page shows; `symbol`: of the charts, None: the first.

    Raises
    ------
    NotFoundError
        The market has no such symbol.
    NoMarketError, NoRulesError
        There is no market yet, or no rules are in force.
    """
    snapshot = console.service.basis_now().snapshot
    state = console.service.live.state
    symbols = snapshot.features.symbols
    chosen = symbols[0] if symbol is None else symbol
    if chosen not in symbols:
        raise NotFoundError(f"the market has no symbol {chosen!r}; it has {', '.join(symbols)}")
    column = symbols.index(chosen)
    return {
        "as_of": format_time(snapshot.as_of),
        "newest_close": format_time(state.newest_close or snapshot.as_of),
        "interval": state.interval.name,
        "symbols": symbols,
        "symbol": chosen,
        "prices": _prices(snapshot, state),
        "price_chart": _price_chart(state, chosen, column),
        "volatility_chart": _volatility_chart(snapshot, chosen, column),
        "volatilities": _volatilities(snapshot),
        "estimators": VOLATILITIES,
        "correlation": _correlation(snapshot),
        "liquidity": _liquidity(snapshot),
        "measures": LIQUIDITY,
        "surface": _surface(snapshot, chosen),
        "expiries": _expiries(snapshot, chosen),
        "waiting": [
            (format_time(open_), int(step.present.sum()))
            for open_, step in sorted(state.waiting.items())
        ],
        "suspects": [
            (name, price if math.isfinite(price) else None, format_time(ts))
            for name, price, ts in state.suspect_prices
        ],
    }


def _prices(snapshot: MarketSnapshot, state: LiveMarketState) -> list[dict[str, Any]]:
    view = snapshot.view()
    spot, perpetual = spot_marks(view), perpetual_marks(view)
    rows = []
    for i, symbol in enumerate(snapshot.features.symbols):
        reasons = []
        if spot.stale[i]:
            reasons.append("stale: neither a quote nor a bar is fresh")
        if spot.suspect[i]:
            reasons.append("suspect: the outlier filter has not confirmed a newer price")
        if perpetual.stale[i] and not spot.stale[i]:
            reasons.append("perpetual stale: neither a quote nor a bar is fresh")
        if perpetual.suspect[i] and not spot.suspect[i]:
            reasons.append("perpetual suspect: the outlier filter has not confirmed a newer price")
        rows.append(
            {
                "symbol": symbol,
                "price": _known(spot.price[i]),
                "source": "quote" if spot.quoted[i] else "bar",
                "age": _age(spot, i),
                "perpetual": _known(perpetual.price[i]),
                "perpetual_source": "quote" if perpetual.quoted[i] else "bar",
                "changes": [_change(state, i, hours) for hours in CHANGES],
                "marks": reasons,
            }
        )
    return rows


def _age(marks: MarkPrices, i: int) -> str:
    hours = float(marks.age_hours[i])
    if not math.isfinite(hours):
        return "unknown"
    return f"{hours * 60.0:.0f} min" if hours < 2.0 else f"{hours:.1f} h"


def _change(state: LiveMarketState, column: int, hours: int) -> float | None:
    """Relative change of the close over so many hours up to the newest counted step."""
    newest = state.head.last_open
    if newest is None:
        return None
    now, before = (state.received_bars.get(ts) for ts in (newest, newest - hours * HOUR))
    if now is None or before is None:
        return None
    return _known(now[column, CLOSE] / before[column, CLOSE] - 1.0)


def _price_chart(state: LiveMarketState, symbol: str, column: int) -> Chart:
    """Closes of the bars that are held, by the time of their close."""
    bars = sorted(state.received_bars.items())
    step = state.interval.nanoseconds
    times = [format_time(open_ + step) for open_, _ in bars]
    closes = [_known(values[column, CLOSE]) for _, values in bars]
    title = f"Close of {symbol}, {len(bars)} bars of {state.interval.name}"
    return line_chart(title, times, {symbol: closes}, y_title="price")


def _volatilities(snapshot: MarketSnapshot) -> list[tuple[str, list[float | None]]]:
    """Estimates a year by symbol: those an hour times ``sqrt(8760)``."""
    values = np.column_stack([snapshot.features.column(name)[0] for name in VOLATILITIES])
    return _rows(snapshot, values * math.sqrt(_HOURS_A_YEAR))


def _volatility_chart(snapshot: MarketSnapshot, symbol: str, column: int) -> Chart:
    _, values = _volatilities(snapshot)[column]
    names = [name.replace("_", " ") for name in VOLATILITIES]
    title = f"Volatility of {symbol} by estimator, a year"
    return bar_chart(title, names, values, y_title="volatility", horizontal=True)


def _correlation(snapshot: MarketSnapshot) -> Chart:
    symbols, matrix = snapshot.features.symbols, snapshot.features.correlation[0]
    cells = [[_known(value) for value in row] for row in matrix.tolist()]
    title = "Correlation of hourly returns, half-life 72 h"
    return heat_map(title, symbols, symbols, cells, bounds=(-1.0, 1.0), z_format=".2f")


def _liquidity(snapshot: MarketSnapshot) -> list[tuple[str, list[float | None]]]:
    values = [snapshot.features.column(name)[0] for name in LIQUIDITY]
    return _rows(snapshot, np.column_stack(values))


def _surface(snapshot: MarketSnapshot, symbol: str) -> Chart | None:
    """Implied volatility by expiry and moneyness ``strike / forward``; None without quotes."""
    if snapshot.quotes is None:
        return None
    coin, rows = coin_of(symbol), []
    for name, quote in snapshot.quotes.expiries.items():
        if name.partition("-")[0] not in (coin, symbol):
            continue
        try:
            expiry = parse_expiry(name)
        except DataError:
            continue
        vols = [option_vol(m * quote.forward, expiry, None, quote) for m in _MONEYNESS]
        if expiry > snapshot.as_of and any(vols):
            rows.append((expiry, name, [None if vol is None else vol[0] for vol in vols]))
    if not rows:
        return None
    rows.sort()
    return heat_map(
        f"Implied volatility of {coin}, a year",
        [f"{m:.0%}" for m in _MONEYNESS],
        [name for _, name, _ in rows],
        [vols for *_, vols in rows],
        x_title="strike / forward",
        y_title="expiry",
        z_format=".1%",
    )


def _expiries(snapshot: MarketSnapshot, symbol: str) -> list[dict[str, Any]]:
    """Forward, time and marks of the quote of each expiry of a coin that is to come, the next
    expiry first."""
    board, coin = snapshot.quotes, coin_of(symbol)
    if board is None:
        return []
    oldest = oldest_quote_hours(snapshot.view())
    rows = []
    for name, quote in board.expiries.items():
        if name.partition("-")[0] not in (coin, symbol):
            continue
        try:
            expiry = parse_expiry(name)
        except DataError:
            continue
        hours = (snapshot.as_of - quote.ts) / HOUR
        waits = quote.suspect_forward is not None or quote.suspect_surface_ts is not None
        marks = ["stale"] if hours > oldest else []
        marks += ["suspect: a newer forward or surface waits for confirmation"] if waits else []
        if expiry > snapshot.as_of:
            row = {"name": name, "forward": quote.forward, "at": format_time(quote.ts)}
            rows.append((expiry, row | {"marks": marks}))
    return [row for _, row in sorted(rows, key=lambda each: each[0])]


def _rows(snapshot: MarketSnapshot, values: Any) -> list[tuple[str, list[float | None]]]:
    symbols = snapshot.features.symbols
    return [
        (symbol, [_known(value) for value in row])
        for symbol, row in zip(symbols, values.tolist(), strict=True)
    ]


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
