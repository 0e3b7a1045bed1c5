"""Option chains from parquet files: units by exchange, faults counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from market.core.arrays import Bools, Floats, Ints
from market.core.errors import DataError
from market.core.parquet_columns import floats, timestamps
from market.quotes.option_chain import VENUES, ChainQuality, OptionChain, expiry_moment

COLUMNS = (
    "ts",
    "exchange",
    "underlying",
    "instrument",
    "expiry",
    "strike",
    "type",
    "mark_price",
    "bid",
    "ask",
    "mark_iv",
    "underlying_price",
)
PLAUSIBLE_VOL = (0.02, 5.0)
"""The median mark vol of a file lies in between, or its unit is not the exchange's."""


def read_option_chain(path: Path, venue: str | None = None) -> OptionChain:
    """The chain of one exchange.

    Parameters
    ----------
    path:
        Parquet file with `COLUMNS`; prices in units of the coin, vols in the unit of the venue.
    venue:
        One of `market.quotes.option_chain.VENUES`; None: what the column ``exchange`` says.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, has no usable row, is not of one known exchange,
        a type is neither call nor put, or the vols are in another unit than the exchange's.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing or table.num_rows == 0:
        raise DataError(
            f"{path} has {table.num_rows} rows and lacks the columns {missing}; expected rows "
            f"with {', '.join(COLUMNS)}"
        )
    name = venue or _venue_of(table, path)
    if name not in VENUES:
        raise DataError(f"{path} is of exchange {name!r}; known are {', '.join(VENUES)}")
    rules = VENUES[name]
    ts = timestamps(table, "ts", path)
    expiry = expiry_moment(timestamps(table, "expiry", path), rules)
    underlyings, underlying = np.unique(_texts(table, "underlying", path), return_inverse=True)
    instrument = _texts(table, "instrument", path)
    kind = _texts(table, "type", path)
    unknown = ~np.isin(kind, ("call", "put"))
    if unknown.any():
        raise DataError(
            f"{path} has an option of type {str(kind[unknown][0])!r}; expected call or put"
        )
    strike = floats(table, "strike", path)
    price = floats(table, "underlying_price", path)
    mark, bid, ask, vol = (
        _above_zero(floats(table, column, path))
        for column in ("mark_price", "bid", "ask", "mark_iv")
    )
    vol = vol * rules.vol_unit
    _check_unit(vol, name, path)

    repeated = _repeated(ts, instrument)
    expired = ~repeated & (expiry <= ts)
    sound = (strike > 0.0) & np.isfinite(strike) & (np.isnan(price) | (price > 0.0))
    impossible = ~repeated & ~expired & ~sound
    kept = ~(repeated | expired | impossible)
    crossed = bid > ask
    bid, ask = np.where(crossed, np.nan, bid), np.where(crossed, np.nan, ask)
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise DataError(f"{path} has no option that is still alive at its snapshot")
    call = kind == "call"
    order = np.lexsort((call[rows], strike[rows], expiry[rows], underlying[rows], ts[rows]))
    rows = rows[order]
    quality = ChainQuality(
        rows=table.num_rows,
        used=len(rows),
        repeated=int(repeated.sum()),
        expired=int(expired.sum()),
        impossible=int(impossible.sum()),
        crossed=int(crossed[rows].sum()),
        no_bid=int((np.isnan(bid) & ~crossed)[rows].sum()),
        no_ask=int((np.isnan(ask) & ~crossed)[rows].sum()),
        no_vol=int(np.isnan(vol)[rows].sum()),
    )
    return OptionChain(
        venue=name,
        underlyings=tuple(str(text) for text in underlyings),
        ts=ts[rows],
        expiry=expiry[rows],
        underlying=np.asarray(underlying, dtype=np.int64)[rows],
        strike=strike[rows],
        call=call[rows],
        mark=mark[rows],
        bid=bid[rows],
        ask=ask[rows],
        vol=vol[rows],
        underlying_price=price[rows],
        quality=quality,
    )


def _venue_of(table: pa.Table, path: Path) -> str:
    names = sorted({str(name) for name in table["exchange"].unique().to_pylist()})
    if len(names) != 1:
        raise DataError(f"{path} holds the exchanges {', '.join(names)}; expected one a file")
    return names[0]


def _texts(table: pa.Table, name: str, path: Path) -> npt.NDArray[np.str_]:
    column = table[name]
    if column.null_count:
        raise DataError(f"{path}: column {name!r} has {column.null_count} missing values")
    return np.asarray(column.to_pylist(), dtype=np.str_)


def _above_zero(values: Floats) -> Floats:
    return np.where(np.isfinite(values) & (values > 0.0), values, np.nan)


def _check_unit(vol: Floats, venue: str, path: Path) -> None:
    known = vol[np.isfinite(vol)]
    low, high = PLAUSIBLE_VOL
    if len(known) and not low <= float(np.median(known)) <= high:
        unit = VENUES[venue].vol_unit
        raise DataError(
            f"{path} has a median vol of {float(np.median(known)):.4g} where 1 in mark_iv is "
            f"{unit:g}, as on {venue}; expected {low:g} to {high:g}, check exchange and unit"
        )


def _repeated(ts: Ints, instrument: npt.NDArray[np.str_]) -> Bools:
    """Rows whose instrument stands in the same snapshot further up."""
    order = np.lexsort((np.arange(len(ts)), instrument, ts))
    same = (ts[order][1:] == ts[order][:-1]) & (instrument[order][1:] == instrument[order][:-1])
    out = np.zeros(len(ts), dtype=np.bool_)
    out[order[1:]] = same
    return out
