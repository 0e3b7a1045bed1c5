"""What a simulated venue posts: bars at their closes, and quotes within and at them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from market.bars.panel import (
    BASIS,
    CLOSE,
    FUNDING,
    IMPLIED_VOLATILITY,
    OPEN_INTEREST,
    VOLUME,
    BarPanel,
)
from market.core.arrays import Floats
from market.core.clock import DAY, format_time
from market.core.errors import DataError
from market.simulator.mark_path import mark_within
from market.simulator.quotes import SETTLEMENT_HOURS

_FIELDS = ("open", "high", "low", "close", "volume")
_DIGITS = 8
"""Significant digits of a quoted mark."""


class SimulatedFeed:
    """The messages of a simulated market; a coin without a bar has none.

    Parameters
    ----------
    panel:
        Bars with their exogenous series.

    Raises
    ------
    DataError
        The panel has no exogenous series.
    """

    def __init__(self, panel: BarPanel) -> None:
        if panel.exogenous is None:
            raise DataError("a market is quoted with its basis; simulate it with simulate_market")
        self.panel = panel
        self._exogenous: Floats = panel.exogenous

    @property
    def end(self) -> int:
        """Close of the last bar, nanoseconds."""
        return int(self.panel.closes[-1])

    def row_at(self, time: int) -> int:
        """Row of the bar that is open at a time, which must be before `end`."""
        return int((time - int(self.panel.opens[0])) // self.panel.interval.nanoseconds)

    def price(self, instrument: str, time: int) -> float:
        """Mark of a coin or of its perpetual at a time, as `marks` quotes it; NaN where it is not
        traded."""
        name = instrument.removesuffix("-PERP")
        if name not in self.panel.symbols:
            return math.nan
        row, column = self.row_at(time), self.panel.symbols.index(name)
        part = (time - int(self.panel.opens[row])) / self.panel.interval.nanoseconds
        spot = float(mark_within(self.panel.values[row], part)[column])
        if instrument == name:
            return spot
        return spot * (1.0 + float(np.nan_to_num(self._exogenous[max(row - 1, 0), column, BASIS])))

    def turnover(self, instrument: str, time: int) -> float:
        """What was traded of a coin in the day before a time, settlement currency."""
        name = instrument.removesuffix("-PERP")
        if name not in self.panel.symbols:
            return 0.0
        row, column = self.row_at(time), self.panel.symbols.index(name)
        bars = DAY // self.panel.interval.nanoseconds
        recent = self.panel.values[max(row - bars, 0) : row, column]
        return float(np.nansum(recent[:, CLOSE] * recent[:, VOLUME]))

    def bars(self, first: int, last: int) -> dict[str, Any]:
        """The request with the bars of rows ``first <= row < last``."""
        messages = [
            {
                "symbol": symbol,
                "ts": format_time(int(self.panel.opens[row])),
                **dict(zip(_FIELDS, self.panel.values[row, column].tolist(), strict=True)),
            }
            for row in range(first, last)
            for column, symbol in enumerate(self.panel.symbols)
            if np.isfinite(self.panel.values[row, column]).all()
        ]
        return {"interval": self.panel.interval.name, "bars": messages}

    def marks(self, time: int) -> dict[str, Any]:
        """The request with the marks at a time: of each coin's spot, and of its perpetual.

        The perpetual is off spot by the basis of the bar before, the newest that is known.
        """
        row = self.row_at(time)
        interval = self.panel.interval.nanoseconds
        part = (time - int(self.panel.opens[row])) / interval
        spot = mark_within(self.panel.values[row], part)
        basis = self._exogenous[max(row - 1, 0), :, BASIS]
        return self._quotes(time, spot, np.where(np.isnan(basis), 0.0, basis))

    def figures(self, row: int) -> dict[str, Any]:
        """The request with what is known at the close of a bar: marks, open interest, the index of
        implied volatility and, at a settlement, funding."""
        time = int(self.panel.closes[row])
        known = self._exogenous[row]
        request = self._quotes(time, mark_within(self.panel.values[row], 1.0), known[:, BASIS])
        columns = {symbol: column for column, symbol in enumerate(self.panel.symbols)}
        for quote in request["quotes"]:
            symbol = quote["instrument"].removesuffix("-PERP")
            figures = known[columns[symbol]]
            if quote["instrument"] == symbol:
                if np.isfinite(figures[IMPLIED_VOLATILITY]):
                    quote["implied_vol"] = float(figures[IMPLIED_VOLATILITY])
                continue
            quote["open_interest"] = float(figures[OPEN_INTEREST])
            if np.isfinite(figures[FUNDING]):
                quote["funding"] = float(figures[FUNDING] * SETTLEMENT_HOURS)
                quote["interval_hours"] = float(SETTLEMENT_HOURS)
        return request

    def _quotes(self, time: int, spot: Floats, basis: Floats) -> dict[str, Any]:
        ts = format_time(time)
        quotes = []
        prices = zip(self.panel.symbols, spot.tolist(), basis.tolist(), strict=True)
        for symbol, price, premium in prices:
            if price != price:
                continue
            for instrument, mark in ((symbol, price), (f"{symbol}-PERP", price * (1.0 + premium))):
                rounded = float(f"{mark:.{_DIGITS}g}")
                quotes.append({"instrument": instrument, "ts": ts, "mark": rounded})
        return {"quotes": quotes}
