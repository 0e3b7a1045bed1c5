"""The samples of the data contract and of the quick start are read by the loaders of the files."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from market.accounts.account_files import read_accounts
from market.bars.exogenous_files import ExogenousSources, add_exogenous
from market.bars.history import load_history
from market.core.clock import Interval, parse_time
from market.sources.parquet import BarFolder

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONTRACT = (DOCS / "data-contract.md").read_text(encoding="utf-8")
QUICK_START = (DOCS / "quick-start.md").read_text(encoding="utf-8")
SAMPLES = dict(re.findall(r'```csv title="([^"]+)"\n(.*?)```', CONTRACT, re.DOTALL))


def write(text: str, path: Path) -> None:
    """A sample as the Parquet file that it shows."""
    table = pyarrow.csv.read_csv(
        io.BytesIO(text.encode()),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={"ts": pa.timestamp("ns", tz="UTC")}
        ),
    )
    pq.write_table(table, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in SAMPLES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            path.write_text(text, encoding="utf-8")
        else:
            write(text, path)
    return tmp_path


def test_every_sample_has_ten_rows_and_its_columns_are_described() -> None:
    assert len(SAMPLES) == 7
    for name, text in SAMPLES.items():
        head, *rows = csv.reader(io.StringIO(text))
        assert len(rows) == 10, name
        before = CONTRACT.partition(f'title="{name}"')[0].rpartition("\n## ")[2]
        assert all(f"`{column}`" in before for column in head), name


def test_bars_and_exogenous_samples_enter_a_market(folder: Path) -> None:
    history = load_history([BarFolder(folder / "bars")], Interval.parse("1h"), ())
    assert history.bars.symbols == ("BTCUSDT",)
    assert len(history.bars) == 10
    assert np.isfinite(history.bars.values).all()
    known = add_exogenous(
        history,
        ExogenousSources(
            funding=folder / "funding",
            open_interest=folder / "open_interest",
            implied_vol={"BTC": folder / "implied_vol" / "BTC.parquet"},
        ),
    )
    assert known.bars.exogenous is not None
    assert [file.impossible for file in known.report.exogenous] == [0, 0, 0]
    assert [file.used for file in known.report.exogenous] == [1, 10, 9]


def test_account_samples_are_a_book(folder: Path) -> None:
    book = read_accounts(folder / "accounts").book_at(parse_time("2026-01-05T00:00:00Z"))
    assert {"fund-094", "carry-088"} <= set(book.account_ids)
    assert "BTCUSDT-PERP" in book.leg_instrument


def test_positions_of_the_quick_start_are_a_book(tmp_path: Path) -> None:
    blocks = re.findall(r"```csv\n(.*?)```", QUICK_START, re.DOTALL)
    for name, text in zip(("positions", "collateral"), blocks, strict=True):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    book = read_accounts(tmp_path).book_at(parse_time("2026-02-16T00:00:00Z"))
    assert book.account_ids == ("desk-1", "desk-2", "desk-3")
    assert list(book.cash) == [9000.0, 6500.0, 90000.0]
    assert sum(np.isnan(book.leg_entry_price)) == 2
