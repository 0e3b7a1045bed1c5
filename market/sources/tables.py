"""Tables in memory as a pull source of bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from market.sources.base import BarKind, BarUpdates
from market.sources.parquet import bars_of_table


@dataclass(frozen=True, slots=True)
class BarTables:
    """Tables of bars by symbol, with the columns of `market.sources.parquet.bar_columns`, and what
    kind of price they hold; `name` is what messages call them."""

    name: str
    tables: Mapping[str, pa.Table]
    kind: BarKind = "spot"

    def symbols(self, wanted: Sequence[str] = ()) -> Sequence[str]:
        """Symbols of the tables, sorted, only the wanted ones (all where none is named)."""
        return tuple(name for name in sorted(self.tables) if not wanted or name in wanted)

    def read(self, symbol: str, start: int | None = None, end: int | None = None) -> BarUpdates:
        """Bars of a symbol that open within start ≤ ts < end, in the order of the table.

        Raises
        ------
        DataError
            A column has another type.
        """
        return bars_of_table(symbol, self.tables[symbol], f"{self.name} of {symbol}", start, end)
