"""Folders of the data contract as sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from market.accounts.account_files import write_accounts
from market.accounts.book import Account, Balance, Book, Position
from market.bars.history import load_history
from market.bars.outlier_filter import OutlierFilter
from market.core.clock import HOUR, MINUTE, Interval
from market.sources.base import (
    AccountSource,
    AccountUpdates,
    BarKind,
    BarSource,
    BarUpdate,
    BarUpdates,
)
from market.sources.parquet import AccountFolder, BarFolder

BarsTable = Callable[..., pa.Table]
WriteBars = Callable[[Path, str, pa.Table], Path]


@dataclass(frozen=True)
class ListedBars:
    """A source that is no folder: single updates, as a connector would gather them."""

    updates: Sequence[BarUpdate]
    name: str = "listed"
    kind: BarKind = "spot"

    def symbols(self, wanted: Sequence[str]) -> Sequence[str]:
        names = sorted({update.symbol for update in self.updates})
        return [name for name in names if not wanted or name in wanted]

    def read(self, symbol: str, start: int | None = None, end: int | None = None) -> BarUpdates:
        mine = [update for update in self.updates if update.symbol == symbol]
        ts = np.array([update.ts for update in mine], dtype=np.int64)
        values = np.array([update.values for update in mine])
        return BarUpdates(symbol, ts, values)


def test_a_history_is_the_same_from_any_source_of_the_same_bars(
    tmp_path: Path, bars_table: BarsTable, write_bars: WriteBars
) -> None:
    for level, symbol in ((100.0, "AUSDT"), (7.0, "BUSDT")):
        write_bars(tmp_path, symbol, bars_table(30 * 12, 5 * MINUTE, level=level))
    folder: BarSource = BarFolder(tmp_path)
    listed: BarSource = ListedBars(
        [bar for name in folder.symbols(()) for bar in folder.read(name)]
    )
    filed, gathered = (
        load_history([source], Interval.parse("1h"), (), OutlierFilter())
        for source in (folder, listed)
    )
    assert filed.bars.symbols == gathered.bars.symbols == ("AUSDT", "BUSDT")
    for name in ("mark", "mark_high", "mark_low", "fine_mark"):
        assert getattr(filed, name).tobytes() == getattr(gathered, name).tobytes(), name
    assert filed.bars.values.tobytes() == gathered.bars.values.tobytes()
    assert [file.folder for file in gathered.report.files] == ["listed"] * 2


def test_a_bar_tells_when_it_became_known_only_where_its_row_does(
    tmp_path: Path, start: int, bars_table: BarsTable, write_bars: WriteBars
) -> None:
    known = pa.array([start + 2 * HOUR, None], pa.timestamp("ns", tz="UTC"))
    write_bars(tmp_path, "AUSDT", bars_table(2).append_column("known_at", known))
    write_bars(tmp_path, "BUSDT", bars_table(2))
    folder = BarFolder(tmp_path)
    first, second = folder.read("AUSDT")
    assert first == BarUpdate("AUSDT", start, (99.5, 101.0, 99.0, 100.0, 10.0), start + 2 * HOUR)
    assert second.known_at is None
    assert [bar.known_at for bar in folder.read("BUSDT")] == [None, None]


def test_a_span_holds_the_bars_that_open_in_it(
    tmp_path: Path, start: int, bars_table: BarsTable, write_bars: WriteBars
) -> None:
    write_bars(tmp_path, "AUSDT", bars_table(10))
    folder = BarFolder(tmp_path)
    part = folder.read("AUSDT", start + 3 * HOUR, start + 5 * HOUR)
    assert list(part) == list(folder.read("AUSDT"))[3:5]
    assert len(folder.read("AUSDT", start=start + 9 * HOUR)) == 1
    assert len(folder.read("AUSDT", end=start)) == 0


def test_account_files_give_each_account_as_it_stood(tmp_path: Path, start: int) -> None:
    early = Account("a", 5.0, (Position("BTCUSDT-PERP", 1.0, 6e4),), (Balance("BTC", 0.5),))
    late = Account("b", 7.0)
    snapshots = [
        AccountUpdates(start, Book.of([early])),
        AccountUpdates(start + HOUR, Book.of([late])),
    ]
    write_accounts(tmp_path, snapshots)
    folder: AccountSource = AccountFolder(tmp_path)
    assert [update.account for update in folder.accounts_at(start)] == [early]
    assert [update.account for update in folder.accounts_at(start + HOUR)] == [early, late]
    assert {update.ts for update in folder.accounts_at(start + HOUR)} == {start + HOUR}
