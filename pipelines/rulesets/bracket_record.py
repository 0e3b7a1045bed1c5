"""Read a record of a venue's brackets, change by change."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from margin.engines.tier.rules import Bracket, Brackets
from market.core.clock import format_time
from market.core.errors import DataError
from market.core.parquet_columns import timestamps

COLUMNS = (
    *("ts", "symbol", "tier", "min_notional", "max_notional"),
    *("maintenance_margin_rate", "max_leverage"),
)
SETTLED_IN = ("USDT", "USDC", "BUSD", "USD")
"""Coins whose notionals count as ones in the settlement currency."""

Tier = tuple[Any, ...]
"""The columns of `COLUMNS` from ``tier`` on, None where a value is missing."""

_SYMBOL = re.compile(r"([A-Za-z0-9]+)/([A-Za-z0-9]+)(?::([A-Za-z0-9]+)(-[0-9]+)?)?")
_PLAIN = re.compile(r"([A-Za-z0-9]+)(_[0-9]+)?")


@dataclass(frozen=True, slots=True)
class BracketRecord:
    """Brackets by time of listing.

    Attributes
    ----------
    listings:
        Brackets by symbol at the time, in nanoseconds, of their first listing; times rise.
    rows:
        Number of rows read.
    left_out:
        Number of rows of unsupported contracts, by reason and name in the record.
    bad:
        Refused tables: symbol, time, number of rows, and reason.
    """

    listings: Mapping[int, Mapping[str, tuple[Bracket, ...]]]
    rows: int
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    bad: tuple[Mapping[str, Any], ...] = ()


def read_brackets(source: Path) -> BracketRecord:
    """Read a parquet file with one row a tier.

    Parameters
    ----------
    source:
        Columns ts, symbol, tier (from 1), min_notional, max_notional, maintenance_margin_rate
        (a share) and max_leverage; others are ignored. A change of any tier lists all tiers of the
        symbol anew. The names ``BTC/USDT`` and ``BTC/USDT:USDT`` are both BTCUSDT.

    A tier's initial rate is 1 / max_leverage. The bound of the last tier, above which a venue
    takes no position, is dropped.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, or has no valid table.
    """
    rows = _read(source)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    tables: dict[tuple[int, str], dict[str, list[Tier]]] = defaultdict(dict)
    for time, symbol, *tier in rows:
        name, reason = _bar_symbol(symbol)
        if reason or time is None:
            left_out[reason or "no time"][str(symbol)] += 1
        else:
            tables[time, name].setdefault(str(symbol), []).append(tuple(tier))
    listings: dict[int, dict[str, tuple[Bracket, ...]]] = {}
    bad: list[dict[str, Any]] = []
    for (time, name), tiers in sorted(tables.items()):
        brackets, reason = _merge(tiers)
        if reason:
            count = sum(map(len, tiers.values()))
            bad.append({"symbol": name, "ts": format_time(time), "rows": count, "reason": reason})
            continue
        listings.setdefault(time, {})[name] = brackets
    if not listings:
        first = f"; the first: {bad[0]['symbol']}, {bad[0]['reason']}" if bad else ""
        raise DataError(f"{source} has no valid table of brackets{first}")
    return BracketRecord(
        listings,
        len(rows),
        {reason: dict(sorted(names.items())) for reason, names in sorted(left_out.items())},
        tuple(bad),
    )


def _read(source: Path) -> list[tuple[Any, ...]]:
    """The rows as `COLUMNS`, times in nanoseconds, None where a value is missing."""
    try:
        table = pq.ParquetFile(source).read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source} is not a parquet file that can be read: {error}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(
            f"{source} lacks the columns {', '.join(missing)} (it has "
            f"{', '.join(table.column_names)}); expected a record of brackets by notional with the "
            f"columns {', '.join(COLUMNS)}. Margins in money per contract make no brackets"
        )
    try:
        columns = [
            table["symbol"].cast(pa.string()),
            table["tier"].cast(pa.int64()),
            *(table[name].cast(pa.float64()) for name in COLUMNS[3:]),
        ]
    except pa.ArrowException as error:
        raise DataError(f"{source}: a column is not of numbers: {error}") from error
    return list(
        zip(_times(table, source), *(column.to_pylist() for column in columns), strict=True)
    )


def _times(table: pa.Table, source: Path) -> list[int | None]:
    valid = np.asarray(pc.is_valid(table["ts"]))
    times = iter(timestamps(table.select(["ts"]).filter(pa.array(valid)), "ts", source).tolist())
    return [next(times) if known else None for known in valid.tolist()]


def _bar_symbol(symbol: object) -> tuple[str, str]:
    """Bar symbol of a symbol in the record, or why it has none."""
    if not isinstance(symbol, str) or not symbol:
        return "", "no symbol"
    plain = _PLAIN.fullmatch(symbol)
    if plain is not None:
        return plain[1], "dated contract" if plain[2] else ""
    parts = _SYMBOL.fullmatch(symbol)
    if parts is None:
        return "", "a symbol of another form than BTC/USDT or BTC/USDT:USDT"
    base, quote, settled, delivery = parts.groups()
    if delivery:
        return "", "dated contract"
    if quote not in SETTLED_IN or settled not in (None, quote):
        return "", f"not quoted and settled in one of {', '.join(SETTLED_IN)}"
    return f"{base}{quote}", ""


def _merge(rows: Mapping[str, list[Tier]]) -> tuple[tuple[Bracket, ...], str]:
    """The table of a symbol at one time, or the reason to refuse it."""
    tables = [_brackets(table) for table in rows.values()]
    for _, reason in tables:
        if reason:
            return (), reason
    if any(brackets != tables[0][0] for brackets, _ in tables):
        return (), f"different brackets under the names {' and '.join(rows)}"
    return tables[0][0], ""


def _brackets(table: list[Tier]) -> tuple[tuple[Bracket, ...], str]:
    rows = list(dict.fromkeys(table))
    if any(value is None or value != value for row in rows for value in row):
        return (), "a figure is missing"
    rows.sort()
    tiers = [row[0] for row in rows]
    if tiers != list(range(1, len(rows) + 1)):
        return (), f"tiers {', '.join(map(str, tiers))}; expected 1 to {len(set(tiers))}, each once"
    edges = [row[1] for row in rows]
    bounds = [row[2] for row in rows]
    if edges != [0.0, *bounds[:-1]]:
        return (), "min_notional is not the max_notional of the tier below"
    if any(not leverage >= 1.0 for *_, leverage in rows):
        return (), f"max_leverage {min(row[4] for row in rows)}; expected 1 or more"
    content = [
        {"maintenance_rate": rate, "initial_rate": 1.0 / leverage, "upper_bound": bound}
        for _, _, bound, rate, leverage in rows
    ]
    if not bounds[-1] > edges[-1]:
        return (), f"max_notional {bounds[-1]} of the last tier is not above {edges[-1]}"
    del content[-1]["upper_bound"]
    try:
        return msgspec.convert({"brackets": content}, Brackets).brackets, ""
    except msgspec.ValidationError as error:
        return (), str(error)
