"""What is known of a market beside its bars: funding, open interest, implied volatility and the
surface of options.

Each fact enters the first bar that closes at or after the moment it became known, the last one
where several fall into one bar. How long it counts from there is for its reader to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market.bars.bar_cleaning import MAX_VOLUME
from market.bars.history import MarketHistory
from market.bars.panel import (
    CURVATURE,
    EXOGENOUS_WIDTH,
    FUNDING,
    IMPLIED_VOLATILITY,
    OPEN_INTEREST,
    SKEW,
    TERM_SLOPE,
    BarPanel,
)
from market.bars.quality import ExogenousQuality
from market.core.arrays import Floats, Ints
from market.core.clock import HOUR, MINUTE
from market.core.errors import DataError
from market.core.parquet_columns import floats, timestamps

LONGEST_FUNDING_HOURS = 24.0
"""A settlement says its own interval, or it is the distance to the one before, at most this."""
MAX_FUNDING_RATE = 1.0
MAX_IMPLIED_VOLATILITY = 100.0
MAX_SURFACE_FIGURE = 10.0
"""Limits: of a rate an interval, of an annualised volatility as a decimal, and of a difference
between two of a surface."""

_SURFACE = {SKEW: "skew_25d", TERM_SLOPE: "atm_term_slope", CURVATURE: "smile_curvature"}

_EXPECTED = {
    FUNDING: f"rates from {-MAX_FUNDING_RATE:g} to {MAX_FUNDING_RATE:g} of the notional",
    OPEN_INTEREST: "amounts above 0 in base units",
    **dict.fromkeys((SKEW, TERM_SLOPE, CURVATURE), "differences of annual vols, decimals"),
    IMPLIED_VOLATILITY: (
        f"an annualised index in per cent, above 0 and at most {100.0 * MAX_IMPLIED_VOLATILITY:g}"
    ),
}


@dataclass(frozen=True, slots=True)
class ExogenousSources:
    """Where the context comes from; what is None or empty is not known.

    Attributes
    ----------
    funding:
        Folder of ``<SYMBOL>.parquet`` with ts, funding_rate (or rate) and perhaps interval_hours.
    open_interest:
        Folder of ``<SYMBOL>.parquet`` with ts and open_interest, in base units.
    implied_vol:
        File by coin (``BTC``) or bar symbol: hourly index in per cent, column close or dvol_close,
        stamped with the hour's start.
    option_surface:
        File by coin or bar symbol: ts (time it is known), skew_25d, atm_term_slope and
        smile_curvature in annual vol, as `features.market.option_surface` defines them; once a day
        is enough.
    """

    funding: Path | None = None
    open_interest: Path | None = None
    implied_vol: Mapping[str, Path] | None = None
    option_surface: Mapping[str, Path] | None = None


def add_exogenous(history: MarketHistory, sources: ExogenousSources) -> MarketHistory:
    """A history whose panel also knows these sources; the report counts what was read.

    Raises
    ------
    DataError
        A folder or file is missing or breaks its form, or an index belongs to no symbol.
    """
    panel = history.bars
    shape = (len(panel), len(panel.symbols), EXOGENOUS_WIDTH)
    context = np.full(shape, np.nan) if panel.exogenous is None else panel.exogenous.copy()
    quality: list[ExogenousQuality] = []
    for name, folder, column, read in (
        ("funding", sources.funding, FUNDING, _read_funding),
        ("open_interest", sources.open_interest, OPEN_INTEREST, _read_open_interest),
    ):
        if folder is not None:
            for s, path in _files(name, folder, panel.symbols):
                known, values = read(path)
                quality.append(_enter(context, column, s, path, panel, known, values))
    for name, path in (sources.option_surface or {}).items():
        s = _index_column(name, panel.symbols, "option_surface")
        for column, key in _SURFACE.items():
            known, values = _read_surface(path, key)
            quality.append(_enter(context, column, s, path, panel, known, values))
    for name, path in (sources.implied_vol or {}).items():
        s = _index_column(name, panel.symbols, "implied_vol")
        known, values = _read_implied_volatility(path)
        quality.append(_enter(context, IMPLIED_VOLATILITY, s, path, panel, known, values))
    if not quality:
        return history
    return replace(
        history,
        bars=replace(panel, exogenous=context),
        report=replace(history.report, exogenous=tuple(quality)),
    )


def _files(name: str, folder: Path, symbols: Sequence[str]) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; check [market] {name}")
    found = [(s, folder / f"{symbol}.parquet") for s, symbol in enumerate(symbols)]
    found = [(s, path) for s, path in found if path.is_file()]
    if not found:
        raise DataError(
            f"folder {folder} holds no <SYMBOL>.parquet of this market's symbols "
            f"({', '.join(symbols[:5])}, …); check [market] {name}"
        )
    return found


def _index_column(name: str, symbols: Sequence[str], key: str) -> int:
    for symbol in (name, f"{name}USDT"):
        if symbol in symbols:
            return symbols.index(symbol)
    raise DataError(
        f"[market] {key} names {name!r} and the market has no symbol {name}USDT; add its "
        "bars or leave it out"
    )


def _enter(
    context: Floats,
    column: int,
    s: int,
    path: Path,
    panel: BarPanel,
    known: Ints,
    values: Floats,
) -> ExogenousQuality:
    """Put facts into the rows in which they became known."""
    order = np.argsort(known, kind="stable")
    known, values = known[order], values[order]
    repeated = int((np.diff(known) == 0).sum())
    sound = np.isfinite(values)
    if not sound.any():
        raise DataError(
            f"{path} has {len(values)} rows and no possible value; expected {_EXPECTED[column]}, "
            "check that it is the right file and unit"
        )
    step = panel.interval.nanoseconds
    rows = -((int(panel.closes[0]) - known) // step)  # rounded up
    inside = sound & (rows >= 0) & (rows < len(panel))
    context[rows[inside], s, column] = values[inside]
    return ExogenousQuality(
        file=str(path),
        symbol=panel.symbols[s],
        rows=len(known),
        repeated=repeated,
        impossible=int((~sound).sum()),
        used=int(inside.sum()),
    )


def _table(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    if "ts" not in table.column_names or table.num_rows == 0:
        raise DataError(f"{path} has no rows or no column ts; expected time stamps in UTC")
    return table


def _column(table: pa.Table, names: tuple[str, ...], path: Path) -> Floats:
    for name in names:
        if name in table.column_names:
            return floats(table, name, path)
    raise DataError(
        f"{path} has the columns {', '.join(table.column_names)}; expected {' or '.join(names)}"
    )


def _read_funding(path: Path) -> tuple[Ints, Floats]:
    table = _table(path)
    # Some stamps are a few milliseconds past the hour.
    known = (timestamps(table, "ts", path) + MINUTE // 2) // MINUTE * MINUTE
    rate = _column(table, ("funding_rate", "rate"), path)
    order = np.argsort(known, kind="stable")
    known, rate = known[order], rate[order]
    if "interval_hours" in table.column_names:
        hours = floats(table, "interval_hours", path)[order]
    else:
        apart = np.diff(known) / HOUR
        if not len(apart):
            raise DataError(f"{path} has one row and no interval_hours; its interval is not known")
        hours = np.r_[apart[0], apart]
    possible = (np.abs(rate) <= MAX_FUNDING_RATE) & (hours > 0.0)
    hours = np.where(possible, np.minimum(hours, LONGEST_FUNDING_HOURS), 1.0)
    return known, np.where(possible, rate / hours, np.nan)


def _read_open_interest(path: Path) -> tuple[Ints, Floats]:
    table = _table(path)
    amount = _column(table, ("open_interest",), path)
    return timestamps(table, "ts", path), np.where(
        (amount > 0.0) & (amount <= MAX_VOLUME), amount, np.nan
    )


def _read_surface(path: Path, key: str) -> tuple[Ints, Floats]:
    if not path.is_file():
        raise DataError(f"file {path} does not exist; check [market] option_surface")
    table = _table(path)
    values = _column(table, (key,), path)
    possible = np.abs(values) <= MAX_SURFACE_FIGURE
    return timestamps(table, "ts", path), np.where(possible, values, np.nan)


def _read_implied_volatility(path: Path) -> tuple[Ints, Floats]:
    if not path.is_file():
        raise DataError(f"file {path} does not exist; check [market] implied_vol")
    table = _table(path)
    index = _column(table, ("close", "dvol_close"), path) / 100.0
    possible = (index > 0.0) & (index <= MAX_IMPLIED_VOLATILITY)
    # The close of an hour is known when the hour is over.
    return timestamps(table, "ts", path) + HOUR, np.where(possible, index, np.nan)
