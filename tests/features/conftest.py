"""Synthetic markets with every hazard that bars can have."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest

from features.state.market_state import MarketFeatures, MarketState
from market.bars.panel import (
    BASIS,
    CLOSE,
    CURVATURE,
    EXOGENOUS_WIDTH,
    FUNDING,
    HIGH,
    IMPLIED_VOLATILITY,
    LOW,
    OPEN,
    OPEN_INTEREST,
    SKEW,
    TERM_SLOPE,
    VOLUME,
    BarPanel,
)
from market.core.clock import INTERVALS, Interval, parse_time

START = parse_time("2025-01-01T00:00:00Z")

MakePanel = Callable[..., BarPanel]


def _walk(
    seed: int, rows: int, symbols: tuple[str, ...], interval: Interval, common: float
) -> BarPanel:
    rng = np.random.default_rng(seed)
    count = len(symbols)
    scale = 0.01 * np.linspace(0.5, 2.0, count) / np.sqrt(interval.per_hour)
    own = rng.standard_normal((rows, count))
    shared = rng.standard_normal((rows, 1))
    returns = scale * (np.sqrt(common) * shared + np.sqrt(1.0 - common) * own)
    log_close = np.log(np.geomspace(0.05, 50_000.0, count)) + np.cumsum(returns, axis=0)
    log_open = log_close - returns
    reach = scale * np.abs(rng.standard_normal((2, rows, count)))
    values = np.empty((rows, count, 5))
    values[:, :, OPEN] = np.exp(log_open)
    values[:, :, CLOSE] = np.exp(log_close)
    values[:, :, HIGH] = np.exp(np.maximum(log_open, log_close) + reach[0])
    values[:, :, LOW] = np.exp(np.minimum(log_open, log_close) - reach[1])
    values[:, :, VOLUME] = np.exp(rng.normal(12.0, 1.0, (rows, count))) / values[:, :, CLOSE]
    opens = START + np.arange(rows, dtype=np.int64) * interval.nanoseconds
    return BarPanel(interval, symbols, opens, values, _exogenous(rng, rows, count, interval))


def _exogenous(
    rng: np.random.Generator, rows: int, count: int, interval: Interval
) -> npt.NDArray[np.float64]:
    """Funding every eight hours, the rest with every bar."""
    exogenous = np.empty((rows, count, EXOGENOUS_WIDTH))
    exogenous[:, :, FUNDING] = rng.normal(1e-5, 1e-5, (rows, count))
    exogenous[np.arange(rows) % (8 * interval.per_hour) != 0, :, FUNDING] = np.nan
    steps = rng.standard_normal((3, rows, count)).cumsum(axis=1) / np.sqrt(rows)
    exogenous[:, :, OPEN_INTEREST] = 1e6 * np.exp(steps[0])
    exogenous[:, :, IMPLIED_VOLATILITY] = 0.6 * np.exp(0.2 * steps[1])
    exogenous[:, :, BASIS] = 1e-3 * steps[2]
    surface = rng.standard_normal((3, rows, count)).cumsum(axis=1) / np.sqrt(rows)
    exogenous[:, :, SKEW] = 0.02 + 0.03 * surface[0]
    exogenous[:, :, TERM_SLOPE] = 0.05 * surface[1]
    exogenous[:, :, CURVATURE] = 0.01 + 0.01 * surface[2]
    return exogenous


@pytest.fixture(scope="session")
def make_panel() -> MakePanel:
    """A complete random walk of correlated symbols."""

    def make(
        rows: int,
        symbols: tuple[str, ...] = ("A", "B", "C"),
        seed: int = 1,
        interval: str = "1h",
        common: float = 0.5,
    ) -> BarPanel:
        return _walk(seed, rows, symbols, INTERVALS[interval], common)

    return make


HAZARDS = ("DEATH", "FLAT", "FULL", "LATE", "LONG_GAP", "NEVER", "SHORT_GAPS", "SILENT")
HAZARD_ROWS = 620
DEATH, LATE = 420, 150
SINGLE_GAP, DAY_GAP, LONG_GAP = 200, range(260, 284), range(300, 325)


@pytest.fixture(scope="session")
def hazard_panel() -> BarPanel:
    """One symbol per hazard, named for it; the rows of each are constants of this file."""
    panel = _walk(7, HAZARD_ROWS, HAZARDS, INTERVALS["1h"], 0.5)
    bars = {symbol: panel.values[:, s] for s, symbol in enumerate(HAZARDS)}
    bars["DEATH"][DEATH:] = np.nan
    bars["LATE"][:LATE] = np.nan
    bars["LONG_GAP"][LONG_GAP.start : LONG_GAP.stop] = np.nan
    bars["NEVER"][:] = np.nan
    bars["SHORT_GAPS"][SINGLE_GAP] = np.nan
    bars["SHORT_GAPS"][DAY_GAP.start : DAY_GAP.stop] = np.nan
    bars["SILENT"][250:450, VOLUME] = 0.0
    bars["FLAT"][300:350] = [5.0, 5.0, 5.0, 5.0, 0.0]
    assert panel.exogenous is not None
    panel.exogenous[np.isnan(panel.values[:, :, CLOSE])] = np.nan
    return panel


@pytest.fixture(scope="session")
def hazards() -> dict[str, range]:
    """Rows that the hazard panel lacks."""
    return {
        "DEATH": range(DEATH, HAZARD_ROWS),
        "LATE": range(LATE),
        "LONG_GAP": LONG_GAP,
        "SINGLE_GAP": range(SINGLE_GAP, SINGLE_GAP + 1),
        "DAY_GAP": DAY_GAP,
    }


@pytest.fixture(scope="session")
def advance() -> Callable[[BarPanel], MarketFeatures]:
    """Features of a panel from a fresh state."""
    return lambda panel: MarketState(panel.symbols, panel.interval).advance(panel)


@pytest.fixture(scope="session")
def rows_of() -> Callable[[BarPanel, int, int], BarPanel]:
    """A panel's rows from one to before another."""

    def cut(panel: BarPanel, first: int, last: int) -> BarPanel:
        return panel.rows(first, last)

    return cut


@pytest.fixture(scope="session")
def some_symbols() -> Callable[..., BarPanel]:
    """A panel with chosen columns of another, under names of its own if given."""

    def choose(
        panel: BarPanel, columns: list[int], symbols: tuple[str, ...] | None = None
    ) -> BarPanel:
        names = symbols or tuple(panel.symbols[s] for s in columns)
        values = np.ascontiguousarray(panel.values[:, columns])
        exogenous = None
        if panel.exogenous is not None:
            exogenous = np.ascontiguousarray(panel.exogenous[:, columns])
        return BarPanel(panel.interval, names, panel.opens, values, exogenous)

    return choose


@pytest.fixture(scope="session")
def same_bits() -> Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], bool]:
    """Equal to the last bit, where any NaN equals any other."""

    def compare(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> bool:
        # Zeros of other sign are other bits, which comparing values would not see.
        bits = [np.where(np.isnan(x), np.nan, x).view(np.int64) for x in (a, b)]
        return np.array_equal(bits[0], bits[1])

    return compare


@pytest.fixture(scope="session")
def gappy_panel(make_panel: MakePanel) -> Callable[[str], BarPanel]:
    """Panel of 260 hours for oracles, with a short gap and some bars without volume."""

    def make(interval: str) -> BarPanel:
        panel = make_panel(260 * INTERVALS[interval].per_hour, seed=11, interval=interval)
        panel.values[200:203, 1] = np.nan
        panel.values[230, 2] = np.nan
        assert panel.exogenous is not None
        panel.exogenous[200:203, 1] = np.nan
        panel.exogenous[230, 2] = np.nan
        panel.values[180:184, 0, VOLUME] = 0.0
        return panel

    return make


@pytest.fixture(scope="session")
def holed_panel(gappy_panel: Callable[[str], BarPanel]) -> Callable[[str], BarPanel]:
    """The same with 14 hours missing in one symbol: windows of a day are under half full there."""

    def make(interval: str) -> BarPanel:
        panel = gappy_panel(interval)
        n = panel.interval.per_hour
        panel.values[206 * n : 220 * n, 2] = np.nan
        return panel

    return make


@pytest.fixture(scope="session")
def frames() -> Callable[[BarPanel], list[pd.DataFrame]]:
    """Each symbol's bars and exogenous series as a frame with a row for every row of the panel.

    Beside the columns of the panel: opened and closed, the times; r, the log return since the
    symbol's last bar; turnover.
    """
    names = ("open", "high", "low", "close", "volume")
    more = (
        *("funding", "open_interest", "implied_volatility", "basis"),
        *("skew", "term_slope", "curvature"),
    )

    def split(panel: BarPanel) -> list[pd.DataFrame]:
        found = []
        for s in range(len(panel.symbols)):
            frame = pd.DataFrame(panel.values[:, s], columns=names)
            if panel.exogenous is not None:
                frame[list(more)] = panel.exogenous[:, s]
            frame["opened"] = pd.to_datetime(panel.opens, unit="ns")
            frame["closed"] = pd.to_datetime(panel.closes, unit="ns")
            frame["r"] = np.log(frame["close"].dropna()).diff().reindex(frame.index)
            frame["turnover"] = frame["volume"] * frame["close"]
            found.append(frame)
        return found

    return split


@pytest.fixture(scope="session")
def by_sql() -> Callable[[BarPanel, str, dict[str, float]], npt.NDArray[np.float64]]:
    """Evaluate a DuckDB expression over window ``w`` in every row of every symbol, shape (T, S).

    A missing bar is a row of NULLs. Columns: open, high, low, close, volume; before, the close of
    the symbol's last bar; r, the log return since; r1, that of the row before; bars, the rows
    since its first one. Windows: ``w``, the rows of the last ``hours``.
    """

    def evaluate(
        panel: BarPanel, expression: str, parameters: dict[str, float]
    ) -> npt.NDArray[np.float64]:
        rows, count = len(panel), len(panel.symbols)
        columns = panel.values.reshape(-1, 5).T
        table = pa.table(
            {
                "t": np.repeat(np.arange(rows), count),
                "s": np.tile(np.arange(count), rows),
                **{
                    name: pa.array(column, from_pandas=True)
                    for name, column in zip(
                        ("open", "high", "low", "close", "volume"), columns, strict=True
                    )
                },
            }
        )
        width = int(parameters["hours"] * panel.interval.per_hour)
        query = f"""
            WITH past AS (
                SELECT *, last_value(close IGNORE NULLS) OVER (
                    PARTITION BY s ORDER BY t ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS before, row_number() OVER (PARTITION BY s ORDER BY t) AS bars
                FROM bars
            ), moves AS (SELECT *, ln(close / before) AS r FROM past
            ), returns AS (
                SELECT *, lag(r) OVER (PARTITION BY s ORDER BY t) AS r1 FROM moves
            )
            SELECT {expression} AS value FROM returns
            WINDOW w AS (PARTITION BY s ORDER BY t ROWS BETWEEN {width - 1} PRECEDING
                         AND CURRENT ROW)
            ORDER BY t, s
        """  # noqa: S608 - text of our own tests
        with duckdb.connect() as connection:
            connection.register("bars", table)
            values = connection.execute(query).df()["value"].to_numpy(np.float64, copy=True)
        return values.reshape(rows, count)

    return evaluate
