"""A market written in the data contract: bars, funding, implied volatility and quotes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market.bars.panel import (
    BASIS,
    CLOSE,
    FUNDING,
    HIGH,
    IMPLIED_VOLATILITY,
    LOW,
    OPEN,
    OPEN_INTEREST,
    VOLUME,
    BarPanel,
)
from market.core.errors import DataError
from market.core.files import replace_file
from market.simulator.quotes import SETTLEMENT_HOURS
from market.simulator.simulated_market import SimulatedMarket


def write_bars(panel: BarPanel, folder: Path) -> tuple[Path, ...]:
    """Write a panel in the data contract: ``<SYMBOL>.parquet`` with ts (bar open, UTC), prices
    and volume.

    Bars that do not exist (NaN) are left out. Each file is replaced in one step.

    Returns
    -------
    tuple of Path
        One file a symbol, in the panel's order.
    """
    tables = bar_tables(panel)
    return tuple(_write(folder / f"{name}.parquet", table) for name, table in tables.items())


def bar_tables(panel: BarPanel) -> dict[str, pa.Table]:
    """The content of the files of `write_bars`, by symbol."""
    fields = (("open", OPEN), ("high", HIGH), ("low", LOW), ("close", CLOSE), ("volume", VOLUME))
    tables = {}
    for column, symbol in enumerate(panel.symbols):
        bars = panel.values[:, column]
        exists = np.isfinite(bars[:, CLOSE])
        content = {"ts": _times(panel.opens[exists])}
        content |= {name: pa.array(bars[exists, field]) for name, field in fields}
        tables[symbol] = pa.table(content)
    return tables


def write_quotes(market: SimulatedMarket, folder: Path) -> tuple[Path, ...]:
    """Write what a simulated venue shows beside its bars, each file replaced in one step.

    ``funding/<SYMBOL>.parquet``: ts (settlement), funding_rate (fraction a settlement) and
    interval_hours. ``implied_vol/<ASSET>.parquet``: ts (time it is known), close (annualised per
    cent). ``quotes/<SYMBOL>.parquet``: ts (close of the bar), half_spread, depth (USD), basis and
    open_interest (base units).

    Raises
    ------
    DataError
        The panel has no context.
    """
    return tuple(
        _write(folder / kind / f"{name}.parquet", table)
        for kind, name, table in quote_tables(market)
    )


def quote_tables(market: SimulatedMarket) -> Iterator[tuple[str, str, pa.Table]]:
    """The content of the files of `write_quotes`: folder, symbol or asset, and table of each.

    Raises
    ------
    DataError
        The panel has no context.
    """
    panel, context = market.panel, market.panel.exogenous
    if context is None:
        raise DataError("the market has no context to write; simulate it with simulate_market")
    closes = panel.closes
    for column, symbol in enumerate(panel.symbols):
        own = context[:, column]
        settled = np.isfinite(own[:, FUNDING])
        funding = {
            "ts": _times(closes[settled]),
            "funding_rate": pa.array(own[settled, FUNDING] * SETTLEMENT_HOURS),
            "interval_hours": pa.array(np.full(int(settled.sum()), SETTLEMENT_HOURS)),
        }
        yield "funding", symbol, pa.table(funding)
        indexed = np.isfinite(own[:, IMPLIED_VOLATILITY])
        if indexed.any():
            index = {
                "ts": _times(closes[indexed]),
                "close": pa.array(own[indexed, IMPLIED_VOLATILITY] * 100.0),
            }
            yield "implied_vol", symbol.removesuffix("USDT"), pa.table(index)
        shown = np.isfinite(own[:, BASIS])
        quotes = {
            "ts": _times(closes[shown]),
            "half_spread": pa.array(market.half_spread[shown, column]),
            "depth": pa.array(market.depth[shown, column]),
            "basis": pa.array(own[shown, BASIS]),
            "open_interest": pa.array(own[shown, OPEN_INTEREST]),
        }
        yield "quotes", symbol, pa.table(quotes)


def _times(nanoseconds: np.ndarray) -> pa.Array:
    return pa.array(nanoseconds, pa.timestamp("ns", tz="UTC"))


def _write(path: Path, table: pa.Table) -> Path:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    replace_file(path, sink.getvalue().to_pybytes())
    return path
