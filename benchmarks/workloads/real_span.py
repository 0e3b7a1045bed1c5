"""A span of real hourly bars: history in files, and what follows to be posted step by step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ledger.store import Ledger
from market.core.arrays import Floats
from market.core.clock import HOUR, format_time, parse_time
from market.sources.http import BarIn, bar_updates
from monitoring.ledger_writer import LedgerWriter
from monitoring.shared_market import SharedMarket
from pipelines.config.config import Config
from pipelines.jobs.serve import live_market

DATA = Path(os.environ.get("MARGINCAST_DATA") or Path(__file__).parents[2] / ".." / "shared/data")
"""Folder of the real data."""

_FOLDER = "ohlcv_1h_binance_spot"
_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class RealSpan:
    """Hourly bars of some coins.

    Attributes
    ----------
    symbols:
        The coins.
    history:
        Bars before the span, by symbol.
    bars:
        Values of the span's bars, shape (T, S, 5).
    opens:
        When they open, nanoseconds.
    """

    symbols: tuple[str, ...]
    history: dict[str, pd.DataFrame]
    bars: Floats
    opens: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.opens)

    def mark(self, row: int) -> Floats:
        """Close of each coin, shape (S,); row -1 is the end of the history."""
        if row >= 0:
            mark: Floats = self.bars[row, :, 3]
            return mark
        return np.array([float(self.history[name]["close"].iloc[-1]) for name in self.symbols])

    def write_history(self, folder: Path) -> None:
        """Write the bars before the span as files of the data contract."""
        folder.mkdir(parents=True)
        for symbol, frame in self.history.items():
            frame.to_parquet(folder / f"{symbol}.parquet")


def real_span(begin: str, end: str, days_before: int, coins: int) -> RealSpan:
    """Bars that open in [begin, end), of the coins with the most volume that have all of them."""
    first, last = (pd.Timestamp(parse_time(text), tz="UTC") for text in (begin, end))
    frames: dict[str, pd.DataFrame] = {}
    wanted = pd.date_range(first - pd.Timedelta(days=days_before), last, freq="1h")[:-1]
    for path in sorted((DATA / _FOLDER).glob("*.parquet")):
        frame = pd.read_parquet(path)
        frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
        frame = frame.drop_duplicates("ts").set_index("ts").reindex(wanted)
        if not frame[list(_COLUMNS)].isna().any(axis=None):
            frames[path.stem] = frame.rename_axis("ts").reset_index()
    volume = {
        name: float((frame["volume"] * frame["close"]).mean()) for name, frame in frames.items()
    }
    symbols = tuple(sorted(sorted(volume, key=lambda name: -volume[name])[:coins]))
    before = {name: frames[name][frames[name]["ts"] < first] for name in symbols}
    inside = [frames[name][frames[name]["ts"] >= first] for name in symbols]
    bars = np.stack([frame[list(_COLUMNS)].to_numpy(np.float64) for frame in inside], axis=1)
    opens = tuple(parse_time(begin) + k * HOUR for k in range(len(bars)))
    return RealSpan(symbols, before, bars, opens)


class Feed:
    """Posts the bars of a span to the market of a ledger, as an endpoint does.

    Parameters
    ----------
    span:
        The bars.
    config:
        Of the monitor.
    ledger:
        Where they are recorded.
    """

    def __init__(self, span: RealSpan, config: Config, ledger: Ledger) -> None:
        self._span = span
        live = live_market(config, ledger)
        self._market = SharedMarket(live, ledger, LedgerWriter(ledger), ())
        self._market.recover(None)

    def post(self, row: int) -> int:
        """Post one step; its close, nanoseconds."""
        span = self._span
        bars = [
            BarIn(symbol, format_time(span.opens[row]), *values)
            for symbol, values in zip(span.symbols, span.bars[row].tolist(), strict=True)
        ]
        self._market.post("1h", bar_updates(bars, None).updates, now=None, final=True)
        return span.opens[row] + HOUR


def draw_accounts(span: RealSpan, count: int, seed: int) -> list[dict[str, Any]]:
    """Snapshots of accounts as `reference-v1` draws them, entered at the end of the history.

    Gross leverage log-normal (median 5, sigma .8, within .5 and 40), 1 to 4 coins with exponential
    weights, each long with probability .7; equity log-normal around 20,000.
    """
    random, mark = np.random.default_rng(seed), span.mark(-1)
    updates = []
    for k in range(count):
        leverage = float(np.clip(np.exp(random.normal(np.log(5.0), 0.8)), 0.5, 40.0))
        chosen = random.choice(len(mark), size=int(random.integers(1, 5)), replace=False)
        weights = random.exponential(size=len(chosen))
        side = np.where(random.random(len(chosen)) < 0.7, 1.0, -1.0)
        equity = round(float(np.exp(random.normal(np.log(20_000.0), 1.0))), 2)
        notional = equity * leverage * weights / weights.sum() * side
        positions = [
            {
                "instrument": f"{span.symbols[coin]}-PERP",
                "quantity": float(f"{amount / mark[coin]:.6g}"),
                "entry_price": float(mark[coin]),
            }
            for coin, amount in zip(chosen.tolist(), notional.tolist(), strict=True)
        ]
        updates.append(
            {
                "account_id": f"client-{k:06d}",
                "sequence": 1,
                "snapshot": {"cash": equity, "positions": positions},
            }
        )
    return updates
