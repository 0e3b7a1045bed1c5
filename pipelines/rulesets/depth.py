"""Depth figures of a rule set, from quoted spreads and slippages of order books."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market.core.clock import format_time
from market.core.errors import DataError
from market.core.files import replace_file
from market.core.parquet_columns import floats, timestamps

Floats = npt.NDArray[np.float64]

SIZES: Mapping[str, float] = {"1k": 1e3, "10k": 1e4, "100k": 1e5, "1m": 1e6}
"""Notionals with a quoted slippage, by the suffix of their columns."""

BASIS_POINT = 1e-4
FEWEST_BOOKS = 100
"""A coin with fewer order books has no figures."""

_SIDES = ("ask", "bid")
_SLIPPAGES = [f"{side}_slip_{size}" for side in _SIDES for size in SIZES]
_FILLS = [f"{side}_fill_{size}" for side in _SIDES for size in SIZES]
_COLUMNS = ["ts", "exchange", "ticker", "spread_bps", "is_aggregated_estimate"]


def write_depth(source: Path, out: Path, quantile: float = 0.95) -> dict[str, Any]:
    """Write ``[floors.liquidity.depth]`` tables for a rule set, with their provenance.

    A book is one row: one venue and coin at one minute. Rows without a spread and books of
    aggregated price levels, whose spread is their rounding, are left out. The figures of a coin
    are quantiles, over the books of all venues, of the half-spread and, by size, of the dearer
    side's slippage from the mid price. A size that a book cannot fill counts as infinitely dear; a
    size that more than ``1 - quantile`` of the books cannot fill ends the curve. Costs are made to
    rise with size. The curve of other coins is the dearest measured one at every size.

    Parameters
    ----------
    source:
        A parquet file, or a folder of them, with the columns ts, exchange, ticker, spread_bps,
        is_aggregated_estimate and, for 1k, 10k, 100k and 1m, ask_slip_*, bid_slip_* (basis
        points from the mid) and ask_fill_*, bid_fill_*.
    out:
        TOML file to write.
    quantile:
        Above 0 and below 1; linear between order statistics.

    Returns
    -------
    Provenance and figures, as written.

    Raises
    ------
    DataError
        The source lacks a column, or no coin has `FEWEST_BOOKS` books.
    """
    if not 0.0 < quantile < 1.0:
        raise DataError(f"quantile is {quantile}; expected a number above 0 and below 1")
    books, digest = _read(source)
    quoted = books.filter(pc.is_valid(books["spread_bps"]))
    used = quoted.filter(pc.invert(quoted["is_aggregated_estimate"]))
    if not len(used):
        raise DataError(f"{source} has no order book with a spread; give one that has")
    curves: dict[str, dict[str, Any]] = {}
    coins = sorted(pc.unique(used["ticker"]).to_pylist(), key=str)
    for coin in coins:
        if not str(coin).isalnum():
            raise DataError(f"{source} has the ticker {coin!r}; expected letters and digits")
        coin_books = used.filter(pc.equal(used["ticker"], coin))
        if len(coin_books) >= FEWEST_BOOKS:
            curves[coin] = _curve(str(coin), coin_books, quantile)
    if not curves:
        raise DataError(
            f"no coin in {source} has {FEWEST_BOOKS} order books with a spread; give a longer "
            "record"
        )
    times = timestamps(used, "ts", source)
    report = {
        "source": source.name,
        "sha256": digest,
        "first": format_time(int(times.min())),
        "last": format_time(int(times.max())),
        "venues": sorted(pc.unique(used["exchange"]).to_pylist()),
        "rows": {
            "read": len(books),
            "without_spread": len(books) - len(quoted),
            "aggregated_levels": len(quoted) - len(used),
            "used": sum(curve["books"] for curve in curves.values()),
        },
        "too_few_books": [coin for coin in coins if coin not in curves],
        "quantile": quantile,
        "coins": curves,
        "others": _dearest(curves),
    }
    replace_file(out, _toml(report).encode())
    return report


def _read(source: Path) -> tuple[pa.Table, str]:
    """The columns of the books, and the SHA-256 over the files in order of their names."""
    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not files:
        raise DataError(f"{source} holds no parquet file; give the folder or file of the books")
    columns = _COLUMNS + _SLIPPAGES + _FILLS
    digest = hashlib.sha256()
    tables = []
    for file in files:
        digest.update(file.read_bytes())
        try:
            table = pq.ParquetFile(file).read()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} is not a parquet file that can be read: {error}") from error
        if missing := [name for name in columns if name not in table.column_names]:
            raise DataError(f"{file} lacks the columns {', '.join(missing)}")
        tables.append(table.select(columns))
    try:
        return pa.concat_tables(tables, promote_options="permissive"), digest.hexdigest()
    except pa.ArrowException as error:
        raise DataError(f"the files of {source} have different columns: {error}") from error


def _curve(coin: str, books: pa.Table, quantile: float) -> dict[str, Any]:
    """Half-spread and slippage points of one coin, as shares of the notional."""
    spreads = floats(books, "spread_bps", Path(coin)) / 2.0
    half_spread = _quantile(spreads, quantile) * BASIS_POINT
    points = []
    median = {"half_spread": _quantile(spreads, 0.5) * BASIS_POINT}
    highest = half_spread
    for name, notional in SIZES.items():
        cost = np.maximum(*(_side_cost(books, side, name) for side in _SIDES))
        slippage = _quantile(cost, quantile) * BASIS_POINT
        if not math.isfinite(slippage):
            break
        highest = max(highest, slippage)
        points.append([notional, highest])
        median[name] = _quantile(cost, 0.5) * BASIS_POINT
    if not points:
        raise DataError(
            f"more than {1 - quantile:.0%} of the books of {coin} cannot fill "
            f"{next(iter(SIZES.values())):,.0f}; choose a lower quantile"
        )
    return {"books": len(books), "half_spread": half_spread, "slippage": points, "median": median}


def _side_cost(books: pa.Table, side: str, size: str) -> Floats:
    """Slippage of one side in basis points, shape (n,); infinite where it cannot be filled."""
    filled = pc.fill_null(books[f"{side}_fill_{size}"], False).to_numpy()
    cost = pc.fill_null(books[f"{side}_slip_{size}"].cast(pa.float64()), math.inf).to_numpy()
    return np.where(filled, cost, math.inf)


def _quantile(values: Floats, quantile: float) -> float:
    """Linear between two order statistics; infinite if one of the two is."""
    ordered = np.sort(values)
    place = quantile * (len(ordered) - 1)
    low = math.floor(place)
    below, above = float(ordered[low]), float(ordered[math.ceil(place)])
    return above if above == below else below + (above - below) * (place - low)


def _dearest(curves: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """At every size the dearest curve; only up to the size that all of them reach."""
    sizes = min((curve["slippage"] for curve in curves.values()), key=len)
    return {
        "half_spread": max(curve["half_spread"] for curve in curves.values()),
        "slippage": [
            [notional, max(curve["slippage"][k][1] for curve in curves.values())]
            for k, (notional, _) in enumerate(sizes)
        ],
    }


def _toml(report: Mapping[str, Any]) -> str:
    rows = report["rows"]
    lines = [
        f"# Depth figures from {report['source']}, SHA-256 {report['sha256']}:",
        f"# {rows['used']:,} order books of {', '.join(report['venues'])},",
        f"# {report['first']} to {report['last']}. Left out of {rows['read']:,} rows: "
        f"{rows['without_spread']:,} without a spread,",
        f"# {rows['aggregated_levels']:,} of aggregated price levels.",
        f"# Each figure is the {report['quantile']:.0%} quantile over the books of all venues, the "
        "dearer side,",
        "# as a share of the notional; slippage is [notional, cost from the mid price].",
    ]
    for coin, curve in report["coins"].items():
        typical = ", ".join(f"{name} {_share(at)}" for name, at in curve["median"].items())
        lines += [
            "",
            f"# {coin}: {curve['books']:,} books; median: {typical}",
            f"[floors.liquidity.depth.{coin}USDT]",
            *_table(curve),
        ]
    lines += [
        "",
        "# Coins without figures of their own: the dearest of those above at every size.",
        "[floors.liquidity.depth_of_others]",
        *_table(report["others"]),
    ]
    return "\n".join(lines) + "\n"


def _table(curve: Mapping[str, Any]) -> list[str]:
    points = ", ".join(f"[{notional:.1f}, {_share(at)}]" for notional, at in curve["slippage"])
    return [f"half_spread = {_share(curve['half_spread'])}", f"slippage = [{points}]"]


def _share(value: float) -> str:
    """Rounded up to a millionth of a basis point, as a TOML float."""
    return f"{math.ceil(value * 1e10 - 1e-6) / 1e10:.10f}".rstrip("0")
