"""What is known of a market beside its bars: funding, open interest, implied volatility and the
surface of options.

Each fact enters the first bar that closes at or after the moment it became known, the last one
where several fall into one bar. How long it counts from there is for its reader to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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

ExogenousKind = Literal["funding", "open_interest", "implied_vol", "option_surface"]
"""Names of the sources, as in the configuration."""

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


@dataclass(frozen=True, eq=False, slots=True)
class ExogenousTable:
    """One series of one coin, with the columns that `ExogenousSources` says.

    Attributes
    ----------
    kind:
        Which of the sources.
    symbol:
        Bar symbol, or coin of an index.
    origin:
        What messages and the report call it.
    table:
        Its rows.
    """

    kind: ExogenousKind
    symbol: str
    origin: Path | str
    table: pa.Table


def add_exogenous(history: MarketHistory, sources: ExogenousSources) -> MarketHistory:
    """A history whose panel also knows these sources; the report counts what was read.

    Raises
    ------
    DataError
        A folder or file is missing or breaks its form, or an index belongs to no symbol.
    """
    return add_exogenous_tables(history, _read_tables(sources, history.bars.symbols))


def add_exogenous_tables(history: MarketHistory, tables: Iterable[ExogenousTable]) -> MarketHistory:
    """A history whose panel also knows these series; the report counts what was used.

    Raises
    ------
    DataError
        A table breaks its form, or belongs to no symbol.
    """
    panel = history.bars
    shape = (len(panel), len(panel.symbols), EXOGENOUS_WIDTH)
    context = np.full(shape, np.nan) if panel.exogenous is None else panel.exogenous.copy()
    quality: list[ExogenousQuality] = []
    for one in tables:
        s = _symbol_column(one, panel.symbols)
        for column, known, values in _series(one):
            quality.append(_enter(context, column, s, one.origin, panel, known, values))
    if not quality:
        return history
    return replace(
        history,
        bars=replace(panel, exogenous=context),
        report=replace(history.report, exogenous=tuple(quality)),
    )


def _read_tables(sources: ExogenousSources, symbols: Sequence[str]) -> Iterator[ExogenousTable]:
    """Series of the files one by one, each read when its turn has come."""
    folders: tuple[tuple[ExogenousKind, Path | None], ...] = (
        ("funding", sources.funding),
        ("open_interest", sources.open_interest),
    )
    for kind, folder in folders:
        if folder is not None:
            for path in _files(kind, folder, symbols):
                yield ExogenousTable(kind, path.stem, path, _table(path))
    indices: tuple[tuple[ExogenousKind, Mapping[str, Path] | None], ...] = (
        ("option_surface", sources.option_surface),
        ("implied_vol", sources.implied_vol),
    )
    for kind, files in indices:
        for name, path in (files or {}).items():
            if not path.is_file():
                raise DataError(f"file {path} does not exist; check [market] {kind}")
            yield ExogenousTable(kind, name, path, _table(path))


def _series(one: ExogenousTable) -> Iterator[tuple[int, Ints, Floats]]:
    """Columns of `BarPanel.exogenous` that a table fills, with times and values."""
    if one.kind == "option_surface":
        for column, key in _SURFACE.items():
            yield column, *_surface(one.table, key, one.origin)
    elif one.kind == "funding":
        yield FUNDING, *_funding(one.table, one.origin)
    elif one.kind == "open_interest":
        yield OPEN_INTEREST, *_open_interest(one.table, one.origin)
    else:
        yield IMPLIED_VOLATILITY, *_implied_volatility(one.table, one.origin)


def _files(name: str, folder: Path, symbols: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; check [market] {name}")
    found = [folder / f"{symbol}.parquet" for symbol in symbols]
    found = [path for path in found if path.is_file()]
    if not found:
        raise DataError(
            f"folder {folder} holds no <SYMBOL>.parquet of this market's symbols "
            f"({', '.join(symbols[:5])}, …); check [market] {name}"
        )
    return found


def _symbol_column(one: ExogenousTable, symbols: Sequence[str]) -> int:
    for symbol in (one.symbol, f"{one.symbol}USDT"):
        if symbol in symbols:
            return symbols.index(symbol)
    raise DataError(
        f"[market] {one.kind} names {one.symbol!r} and the market has no symbol {one.symbol}USDT; "
        "add its "
        "bars or leave it out"
    )


def _enter(
    context: Floats,
    column: int,
    s: int,
    path: Path | str,
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
    return table


def _times(table: pa.Table, path: Path | str) -> Ints:
    if "ts" not in table.column_names or table.num_rows == 0:
        raise DataError(f"{path} has no rows or no column ts; expected time stamps in UTC")
    return timestamps(table, "ts", path)


def _column(table: pa.Table, names: tuple[str, ...], path: Path | str) -> Floats:
    for name in names:
        if name in table.column_names:
            return floats(table, name, path)
    raise DataError(
        f"{path} has the columns {', '.join(table.column_names)}; expected {' or '.join(names)}"
    )


def _funding(table: pa.Table, path: Path | str) -> tuple[Ints, Floats]:
    # Some stamps are a few milliseconds past the hour.
    known = (_times(table, path) + MINUTE // 2) // MINUTE * MINUTE
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


def _open_interest(table: pa.Table, path: Path | str) -> tuple[Ints, Floats]:
    amount = _column(table, ("open_interest",), path)
    return _times(table, path), np.where((amount > 0.0) & (amount <= MAX_VOLUME), amount, np.nan)


def _surface(table: pa.Table, key: str, path: Path | str) -> tuple[Ints, Floats]:
    values = _column(table, (key,), path)
    possible = np.abs(values) <= MAX_SURFACE_FIGURE
    return _times(table, path), np.where(possible, values, np.nan)


def _implied_volatility(table: pa.Table, path: Path | str) -> tuple[Ints, Floats]:
    index = _column(table, ("close", "dvol_close"), path) / 100.0
    possible = (index > 0.0) & (index <= MAX_IMPLIED_VOLATILITY)
    # The close of an hour is known when the hour is over.
    return _times(table, path) + HOUR, np.where(possible, index, np.nan)
