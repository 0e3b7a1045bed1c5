"""What further inputs would add to the volatility forecast out of sample.

    python -m research.experiments.volatility_regressors CONFIG --json OUT \\
        --finer-bars DIR --vol-index FILE

Candidates are regressors beside the 25 of the forecast: means over the market, realised variance
of bars finer than an hour, and an options' implied volatility index. Each is compared with the
forecast's own regressors on the same rows: by half-years, both are fitted to what came before, as
`features.state.volatility_fit` fits them, and evaluated on the half-year. Half-years end with the
calibrate block, so no test month is read.

The gain is one minus the ratio of the mean squared errors of the log volatility to come, with a
95% interval by a paired bootstrap over days.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from features.market.volatility.forecast.hours import bar_variance
from features.registry import MARKET_COLUMNS, REGRESSORS
from features.state.volatility_fit import RIDGE, hourly_variance, realised_log_volatility
from market.core.arrays import Floats, Ints
from market.core.clock import HOUR, format_time
from market.core.errors import DataError
from market.core.files import replace_file
from pipelines.config.config import load_config
from pipelines.data.loaders import Market, read_market
from research.pages.markdown import table as markdown_table
from training.evaluation.bootstrap import skill_interval_of_days, utc_day

HORIZONS = (1, 8, 24)
WINDOWS = (1, 4, 24)
"""Hours over which finer variance is averaged."""

MARKET_MEANS = (
    "log_volatility_1h",
    "log_volatility_4h",
    "log_volatility_24h",
    "log_volatility_168h",
)
BLOCK_MONTHS = 6
LEAST_HOURS = 180 * 24
"""Hours with a candidate before the first block."""

HOURS_A_YEAR = 8_760.0


@dataclass(frozen=True, slots=True)
class Panel:
    """Hourly closes of S symbols.

    Attributes
    ----------
    closes:
        Nanoseconds, shape (H,).
    own:
        The forecast's regressors and a one, shape (H, S, R).
    ahead, target:
        Log seasonality of the hours to come and log realised volatility, by horizon, (H, S).
    """

    closes: Ints
    own: Floats
    ahead: Mapping[int, Floats]
    target: Mapping[int, Floats]

    @classmethod
    def of_market(cls, market: Market) -> Panel:
        """Figures at every close of an hour."""
        rows, variance = hourly_variance(market.history.bars)
        values = market.features.values[rows]
        first = MARKET_COLUMNS.index(REGRESSORS[0])
        own = values[:, :, first : first + len(REGRESSORS)]
        ahead = {
            h: values[:, :, MARKET_COLUMNS.index(f"seasonal_log_volatility_ahead_{h}h")]
            for h in HORIZONS
        }
        return cls(
            market.history.bars.closes[rows],
            np.concatenate([own, np.ones((*own.shape[:2], 1))], axis=2),
            ahead,
            {h: realised_log_volatility(variance, h) for h in HORIZONS},
        )


def market_means(panel: Panel) -> Floats:
    """Means over the symbols of some of the regressors, shape (H, S, C)."""
    places = [REGRESSORS.index(name) for name in MARKET_MEANS]
    own = panel.own[:, :, places]
    known = np.isfinite(own).all(axis=2, keepdims=True)
    with np.errstate(invalid="ignore"):  # no symbol is known in the first hours
        means = np.where(known, own, 0.0).sum(axis=1) / known.sum(axis=1)
    return np.repeat(means[:, None], panel.own.shape[1], axis=1)


def finer_variance(panel: Panel, symbols: Sequence[str], folder: Path) -> Floats:
    """Half the log of the mean variance of finer bars over `WINDOWS`, shape (H, S, C).

    The variance of an hour is the sum of those of its bars; NaN where one is missing.

    Raises
    ------
    DataError
        No file in the folder is named for one of the symbols.
    """
    out = np.full((*panel.own.shape[:2], len(WINDOWS)), np.nan)
    found = False
    for s, symbol in enumerate(symbols):
        path = folder / f"{symbol.removesuffix('-PERP')}.parquet"
        if not path.exists():
            continue
        found = True
        bars = pd.read_parquet(path).set_index("ts").sort_index()
        step = bars.index.to_series().diff().mode()[0]
        each = bar_variance(*bars[["open", "high", "low", "close"]].to_numpy(float).T)
        hourly = pd.Series(each, index=bars.index).resample("1h")
        sums = hourly.sum().where(hourly.count() == pd.Timedelta("1h") // step)
        closes = pd.DatetimeIndex(sums.index).as_unit("ns").asi8 + HOUR
        for c, window in enumerate(WINDOWS):
            mean = sums.rolling(window).mean().to_numpy()
            out[:, s, c] = _at(panel.closes, closes, 0.5 * np.log(mean))
    if not found:
        raise DataError(f"{folder} has no SYMBOL.parquet of one of {', '.join(symbols)}")
    return out


def implied_volatility(panel: Panel, file: Path) -> Floats:
    """Log of an index in per cent a year, per root of an hour, for every symbol, (H, S, 1).

    The value of an hour counts from its end on.
    """
    index = pd.read_parquet(file).sort_values("ts")
    closes = pd.DatetimeIndex(index["ts"]).as_unit("ns").asi8 + HOUR
    value = np.log(index["dvol_close"].to_numpy(float) / 100.0 / np.sqrt(HOURS_A_YEAR))
    known = _at(panel.closes, closes, value)
    return np.repeat(known[:, None, None], panel.own.shape[1], axis=1)


def compare(panel: Panel, candidate: Floats, end: int) -> dict[str, Any]:
    """Gain of a candidate at each horizon over the half-years before `end` in ns."""
    known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(candidate).all(axis=2))
    hours = np.flatnonzero(known.any(axis=1) & (panel.closes <= end))
    if len(hours) <= LEAST_HOURS:
        raise DataError(f"{len(hours)} hours have the candidate; over {LEAST_HOURS} are needed")
    blocks = _blocks(int(panel.closes[hours[LEAST_HOURS]]), end)
    result: dict[str, Any] = {"symbols": int(known[hours].any(axis=0).sum())}
    result["span"] = [format_time(blocks[0][0]), format_time(blocks[-1][1])]
    result["blocks"] = len(blocks)
    for h in HORIZONS:
        ahead = panel.ahead[h][:, :, None]
        base = np.concatenate([panel.own, ahead], axis=2)
        y = panel.target[h] - panel.ahead[h]
        usable = known & np.isfinite(y) & np.isfinite(base).all(axis=2)
        sums = []
        for begin, stop in blocks:
            before = usable & (panel.closes + h * HOUR <= begin)[:, None]
            within = usable & ((panel.closes > begin) & (panel.closes + h * HOUR <= stop))[:, None]
            errors = [
                y[within] - x[within] @ _ridge(x[before], y[before])
                for x in (base, np.concatenate([base, candidate], axis=2))
            ]
            day = np.repeat(utc_day(panel.closes)[:, None], y.shape[1], axis=1)[within]
            _, place = np.unique(day, return_inverse=True)
            squares = [np.bincount(place, e * e) for e in errors]
            sums.append(np.column_stack([*squares, np.bincount(place)]))
        result[str(h)] = _gain(np.concatenate(sums))
    return result


def _gain(sums: Floats) -> dict[str, Any]:
    """Errors and gain from sums by day: squared errors of both, rows."""
    interval = skill_interval_of_days(sums[:, 1], sums[:, 0], seed=0)
    own, extended, rows = sums.sum(axis=0)
    return {
        "rows": int(rows),
        "days": len(sums),
        "rmse": float(np.sqrt(own / rows)),
        "rmse_with_candidate": float(np.sqrt(extended / rows)),
        "gain": float(1.0 - extended / own),
        "gain_ci95": interval,
    }


def _ridge(x: Floats, y: Floats) -> Floats:
    gram = x.T @ x + RIDGE * np.eye(x.shape[1])
    return np.asarray(np.linalg.solve(gram, x.T @ y), dtype=np.float64)


def _at(times: Ints, closes: Ints, values: Floats) -> Floats:
    """Values at these very closes, NaN where there is none."""
    place = np.clip(np.searchsorted(closes, times), 0, len(closes) - 1)
    return np.where(closes[place] == times, values[place], np.nan)


def _blocks(first: int, end: int) -> list[tuple[int, int]]:
    """Half-years up to `end`, the first no earlier than `first`."""
    ends = [pd.Timestamp(end, tz="UTC")]
    while (start := ends[-1] - pd.DateOffset(months=BLOCK_MONTHS)).value >= first:
        ends.append(start)
    if len(ends) == 1:
        raise DataError("less than one half-year is left to evaluate; give a longer history")
    ends.reverse()
    return [(a.value, b.value) for a, b in itertools.pairwise(ends)]


def table(report: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    rows = []
    for name, figures in report["candidates"].items():
        cells = []
        for h in HORIZONS:
            found = figures[str(h)]
            low, high = found["gain_ci95"]
            cells.append(f"{found['gain']:+.1%} [{low:+.1%}, {high:+.1%}], {found['rmse']:.3f}")
        span = f"{figures['span'][0][:7]} to {figures['span'][1][:7]}"
        rows.append([name, f"{figures['symbols']}, {span}", *cells])
    head = ["candidate", "symbols, span", *(f"{h} h: gain, RMSE" for h in HORIZONS)]
    return markdown_table(head, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison, write its JSON and print the table."""
    parser = argparse.ArgumentParser(description="Further regressors of the volatility forecast.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--finer-bars", type=Path, help="folder of SYMBOL.parquet, finer than 1 h")
    parser.add_argument("--vol-index", type=Path, help="parquet file with ts and dvol_close")
    parser.add_argument("--json", type=Path, required=True, help="file of the result")
    given = parser.parse_args(arguments)
    config = load_config(given.config)
    with threadpool_limits(1, "blas"):
        market = read_market(config)
        panel = Panel.of_market(market)
        candidates = {"means over the market": market_means(panel)}
        if given.finer_bars:
            symbols = market.history.bars.symbols
            candidates["variance of finer bars"] = finer_variance(panel, symbols, given.finer_bars)
        if given.vol_index:
            candidates["implied volatility index"] = implied_volatility(panel, given.vol_index)
        end = config.training.calibrate_end_ns or int(panel.closes[-1])
        compared = {name: compare(panel, values, end) for name, values in candidates.items()}
    report = {"config_sha256": config.sha256(), "candidates": compared}
    replace_file(given.json, json.dumps(report, indent=1).encode() + b"\n")
    print(table(report))


if __name__ == "__main__":
    main()
