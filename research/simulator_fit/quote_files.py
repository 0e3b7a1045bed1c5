"""Read the quote files of a venue for the fit of the simulated market."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market.bars.bar_cleaning import load_bars
from market.bars.panel import CLOSE
from market.core.clock import HOUR, Interval
from market.core.errors import DataError
from market.core.parquet_columns import timestamps
from market.sources.parquet import BarFolder
from research.simulator_fit.market_quotes_fit import DailyInterest, Depths, PairBars

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_HOURLY = Interval.parse("1h")
_LEAST_SAMPLES = 5  # quotes in an hour that count as a measurement of it
_LEAST_HOURS = 12


def _table(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read with columns {', '.join(columns)}: {error}"
        ) from error


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(
        pc.fill_null(table[name].cast(pa.float64()), float("nan")).to_numpy(), dtype=np.float64
    )


def read_pairs(spot: Path, perpetual: Path) -> dict[str, PairBars]:
    """Hourly closes of the coins that both folders have, at the hours that both have."""
    sides = BarFolder(spot, "spot"), BarFolder(perpetual, "perp")
    pairs = {}
    for symbol in sorted({*sides[0].symbols()} & {*sides[1].symbols()}):
        cash, future = (load_bars(side, symbol, _HOURLY) for side in sides)
        _, left, right = np.intersect1d(cash.opens, future.opens, return_indices=True)
        pairs[symbol] = PairBars(cash.values[left, CLOSE], future.values[right, CLOSE])
    return pairs


def read_funding(folder: Path) -> dict[str, Floats]:
    """Settled rates of each ``<SYMBOL>.parquet``, in order of time."""
    rates = {}
    for path in sorted(folder.glob("*.parquet")):
        table = _table(path, ["ts", "funding_rate"])
        order = np.argsort(timestamps(table, "ts", path), kind="stable")
        rates[path.stem] = _numbers(table, "funding_rate")[order]
    return rates


def read_index(path: Path, closes: Ints) -> Floats:
    """The index at each close: an hour's close is known an hour after its stamp."""
    name = "dvol_close" if "dvol_close" in pq.read_schema(path).names else "close"
    table = _table(path, ["ts", name])
    closed = timestamps(table, "ts", path) + HOUR
    level = dict(zip(closed.tolist(), _numbers(table, name).tolist(), strict=True))
    return np.array([level.get(time, np.nan) for time in closes.tolist()]) / 100.0


def read_depths(path: Path) -> dict[tuple[str, str], Depths]:
    """Hourly quotes by venue and symbol, of those with enough samples; rows with an error text
    are left out."""
    names = ["mid_price", "spread_bps", "ask_slip_1m", "bid_slip_1m"]
    table = _table(path, ["ts", "exchange", "ticker", "error", *names])
    table = table.filter(pc.is_null(table["error"]))
    mid, spread, ask, bid = (_numbers(table, name) for name in names)
    cost = 0.5 * (ask + bid)
    usable = (mid > 0.0) & (spread > 0.0) & (cost > 0.0)
    hour = timestamps(table, "ts", path) // HOUR
    exchange = np.array(table["exchange"].to_pylist())
    ticker = np.array(table["ticker"].to_pylist())
    series: dict[tuple[str, str], Depths] = {}
    for venue, coin in sorted(set(zip(exchange.tolist(), ticker.tolist(), strict=True))):
        mask = usable & (exchange == venue) & (ticker == coin)
        rows = [mask & (hour == h) for h in np.unique(hour[mask])]
        measured = [
            (spread[r].mean() / 2e4, cost[r].mean() / 1e4, np.ptp(np.log(mid[r])))
            for r in rows
            if r.sum() >= _LEAST_SAMPLES and np.ptp(mid[r]) > 0.0
        ]
        if len(measured) >= _LEAST_HOURS:
            series[venue, f"{coin}USDT"] = Depths(*np.array(measured).T)
    return series


def read_interest(path: Path) -> Mapping[str, DailyInterest]:
    """Daily open interest, volume and close of every symbol with more than a year of it."""
    names = ["close", "volume", "open_interest"]
    table = _table(path, ["ts", "symbol", *names])
    symbol = np.array([name.split("_")[0] for name in table["symbol"].to_pylist()])
    order = np.argsort(timestamps(table, "ts", path), kind="stable")
    close, volume, interest = (_numbers(table, name)[order] for name in names)
    symbol = symbol[order]
    positive = (close > 0.0) & (volume > 0.0) & (interest > 0.0)
    series = {}
    for name in sorted(set(symbol.tolist())):
        mask = positive & (symbol == name)
        if mask.sum() > 365:
            series[name] = DailyInterest(interest[mask], volume[mask], close[mask])
    return series
