"""Values of every column on a small seeded market, and the file that keeps those of each revision.

Run as a program it adds columns and revisions that the file lacks. It never replaces one: when the
values of a column change, its `revision` is to be raised first::

    PYTHONPATH=. python tests/features/golden_columns.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.account.frame import AccountRows, LegGreeks, compute_aggregates, compute_features
from features.registry import (
    ACCOUNT_FEATURES,
    CROSS_FEATURES,
    GROUP_FEATURES,
    MARKET_COLUMNS,
    MARKET_FEATURES,
)
from features.state.market_state import MarketFeatures, MarketState
from market.bars.panel import EXOGENOUS_WIDTH, BarPanel
from market.core.clock import HOUR, INTERVALS, parse_time

Floats = npt.NDArray[np.float64]

FILE = Path(__file__).with_name("golden_columns.json")
ROWS, SYMBOLS = 420, ("A", "B", "C")
KEPT_ROWS = (12, 60, 200, 300, 419)
ACCOUNT_ROWS = (210, 300, 419)


def panel() -> BarPanel:
    """Bars of three symbols with gaps, bars without volume, and all series beside them.

    From a generator written out here: values must not move with a library's.
    """
    draws = _uniform(ROWS * len(SYMBOLS) * (5 + EXOGENOUS_WIDTH))
    shape = (ROWS, len(SYMBOLS), 5 + EXOGENOUS_WIDTH)
    u = draws.reshape(shape)
    scale = np.array([0.004, 0.01, 0.02])
    market = 2.0 * u[:, :1, 0] - 1.0
    returns = scale * (0.6 * market + 1.6 * u[:, :, 1] - 0.8)
    log_close = np.log([40_000.0, 2_500.0, 0.8]) + np.cumsum(returns, axis=0)
    log_open = log_close - returns
    values = np.empty((ROWS, len(SYMBOLS), 5))
    values[:, :, 0], values[:, :, 3] = np.exp(log_open), np.exp(log_close)
    values[:, :, 1] = np.exp(np.maximum(log_open, log_close) + scale * u[:, :, 2])
    values[:, :, 2] = np.exp(np.minimum(log_open, log_close) - scale * u[:, :, 3])
    values[:, :, 4] = 1e6 * (0.2 + u[:, :, 4]) / values[:, :, 3]
    values[150:153, 1] = np.nan
    values[260:286, 2] = np.nan
    values[190:194, 0, 4] = 0.0
    exogenous = u[:, :, 5:].copy()
    exogenous *= [1e-5, 1e6, 0.5, 1e-3, 0.04, 0.05, 0.02]
    exogenous[:, :, 2] += 0.4
    exogenous[np.isnan(values[:, :, 3])] = np.nan
    exogenous[:, 1, 2] = np.nan
    opens = parse_time("2025-01-01T00:00:00Z") + HOUR * np.arange(ROWS, dtype=np.int64)
    return BarPanel(INTERVALS["1h"], SYMBOLS, opens, values, exogenous)


def market() -> MarketFeatures:
    """Features of the panel."""
    bars = panel()
    return MarketState(bars.symbols, bars.interval).advance(bars)


def accounts() -> AccountRows:
    """Accounts with spot and perpetuals, collateral, options, one under water, one empty."""
    each = len(ACCOUNT_ROWS)
    legs = [
        [(0, 9e3, 0.0, False, 0.0, 0.0), (1, -4e3, 0.0, False, 0.0, 0.0)],
        [(2, -700.0, 0.0, False, 0.0, 0.0), (1, 0.0, 350.0, False, 0.0, 0.0)],
        [(0, 2e3, 0.0, True, -1.5e3, -60.0), (0, -900.0, 0.0, True, 700.0, 25.0)],
        [(1, 5e3, 0.0, False, 0.0, 0.0), (0, -5e3, 0.0, False, 0.0, 0.0)],
        [],
    ]
    flat = [leg for account in legs for leg in account] * each
    counts = np.array([len(account) for account in legs] * each)
    symbol, notional, collateral, option, gamma, vega = (
        np.array(c) for c in zip(*flat, strict=True)
    )
    return AccountRows(
        row=np.repeat(np.array(ACCOUNT_ROWS, dtype=np.int64), len(legs)),
        leg_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        leg_symbol=symbol.astype(np.int64),
        leg_notional=notional,
        headroom=np.tile([450.0, 30.0, 900.0, -12.0, 5.0], each),
        maintenance_margin=np.tile([260.0, 14.0, 300.0, 200.0, 0.0], each),
        leg_collateral=collateral,
        leg_greeks=LegGreeks(option.astype(np.bool_), gamma, vega),
    )


def values() -> dict[str, list[float | None]]:
    """Some values of every column under ``name@revision``; null for NaN."""
    features = market()
    found: dict[str, list[float | None]] = {}
    for feature in (*MARKET_FEATURES, *CROSS_FEATURES, *GROUP_FEATURES):
        column = features.values[list(KEPT_ROWS), :, MARKET_COLUMNS.index(feature.name)]
        found[f"{feature.name}@{feature.revision}"] = _plain(column)
    columns = compute_features(compute_aggregates(accounts(), features))
    for i, account in enumerate(ACCOUNT_FEATURES):
        found[f"{account.name}@{account.revision}"] = _plain(columns[:, i])
    return found


def read() -> dict[str, list[float | None]]:
    """What the file holds."""
    known: dict[str, list[float | None]] = json.loads(FILE.read_text(encoding="utf-8"))
    return known


def as_array(plain: list[float | None]) -> Floats:
    """Values of a column with NaN for null."""
    return np.array(plain, dtype=np.float64)


def _plain(column: Floats) -> list[float | None]:
    return [None if x != x else float(f"{x:.15g}") for x in column.ravel().tolist()]


def _uniform(count: int) -> Floats:
    """Numbers in [0, 1) of a linear congruential generator (Knuth's MMIX constants)."""
    state, out = 20_250_101, np.empty(count)
    for i in range(count):
        state = (6_364_136_223_846_793_005 * state + 1_442_695_040_888_963_407) % 2**64
        out[i] = (state >> 11) / 2.0**53
    return out


def main() -> None:
    """Add what is missing."""
    known: dict[str, Any] = read() if FILE.exists() else {}
    added = {key: column for key, column in values().items() if key not in known}
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in (known | added).items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
