"""Account files as CSV: the same book as Parquet, and errors that name file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from market.accounts.account_files import read_accounts, write_accounts
from market.accounts.book import Account, Balance, Book, Position
from market.core.clock import parse_time
from market.core.errors import DataError
from market.sources.base import AccountUpdates

NOW = parse_time("2025-04-01T00:00:00Z")
POSITIONS = "account_id,instrument,quantity,entry_price\na,BTCUSDT-PERP,0.5,95000\na,X-PERP,-3,\n"
COLLATERAL = "account_id,asset,amount\na,USD,2e4\na,BTC,1.5\n"


def write(folder: Path, positions: str | bytes = POSITIONS, collateral: str = COLLATERAL) -> Path:
    content = positions.encode() if isinstance(positions, str) else positions
    (folder / "positions.csv").write_bytes(content)
    (folder / "collateral.csv").write_text(collateral)
    return folder


def book(folder: Path) -> tuple[Account, ...]:
    return read_accounts(folder, NOW).book_at(NOW).accounts()


def test_csv_is_the_book_of_the_same_parquet(tmp_path: Path) -> None:
    (tmp_path / "parquet").mkdir()
    held = (Position("BTCUSDT-PERP", 0.5, 95_000.0), Position("X-PERP", -3.0))
    account = Account("a", 20_000.0, held, (Balance("BTC", 1.5),))
    written = write_accounts(tmp_path / "parquet", [AccountUpdates(NOW, Book.of([account]))])
    assert book(write(tmp_path)) == written.book_at(NOW).accounts()


def test_every_repeated_row_is_counted_and_the_first_ones_are_named(tmp_path: Path) -> None:
    twice = POSITIONS + POSITIONS.partition("\n")[2]
    with pytest.raises(DataError, match=r"line 4 repeats instrument .* \(1 more .*: line 5\)"):
        book(write(tmp_path, twice))
    often = POSITIONS + "a,X-PERP,1,\n" * 9
    named = r"\(8 more such rows: line 5, line 6, line 7, line 8, line 9, \.\.\.\)"
    with pytest.raises(DataError, match=named):
        book(write(tmp_path, often))


def test_no_parquet_is_written_beside_a_csv_of_the_same_table(tmp_path: Path) -> None:
    account = Account("a", 20_000.0)
    (tmp_path / "collateral.csv").write_text(COLLATERAL)
    with pytest.raises(DataError, match=r"collateral\.csv exists.* give another folder"):
        write_accounts(tmp_path, [AccountUpdates(NOW, Book.of([account]))])
    assert [path.name for path in tmp_path.iterdir()] == ["collateral.csv"]


@pytest.mark.parametrize(
    "text",
    [
        POSITIONS.encode("utf-8-sig"),
        POSITIONS.replace("\n", "\r\n").encode(),
        POSITIONS.replace(",", " , ").encode(),
        POSITIONS.replace("\n", "\n\n").encode(),
        POSITIONS.replace("\na,", '\n"a",').encode(),
    ],
    ids=["byte order mark", "CRLF", "blanks", "empty lines", "quotes"],
)
def test_what_editors_and_spreadsheets_write_is_read(tmp_path: Path, text: bytes) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    assert book(write(tmp_path, text)) == book(write(plain))


@pytest.mark.parametrize(
    ("positions", "told"),
    [
        (POSITIONS.replace(",", ";"), "line 1 is separated by semicolons"),
        (POSITIONS.replace(",", "\t"), "line 1 is separated by tabs"),
        (POSITIONS.replace("0.5", '"1,000"'), "line 2, column 'quantity' is '1,000'; write it w"),
        (POSITIONS.replace("0.5", "1,000"), "line 2 has 5 cells and the first line 4"),
        (POSITIONS.replace("0.5", '"1.000,5"'), "write a point before decimals"),
        (POSITIONS.replace("-3", "three"), "line 3, column 'quantity' is 'three'; expected a nu"),
        (POSITIONS.replace("-3", "nan"), "line 3, column 'quantity' is 'nan'"),
        (POSITIONS.replace("-3", "1_000"), "line 3, column 'quantity' is '1_000'"),
        (POSITIONS.replace("-3", ""), "line 3, column 'quantity' is empty; fill it (0 for none)"),
        (POSITIONS.replace("-3", "1e999"), "quantity is inf at line 3"),
        (POSITIONS.replace("95000", "0"), "entry_price is 0.0 at line 2"),
        (POSITIONS.replace("X-PERP", "BTCUSDT-PERP"), "line 3 repeats instrument 'BTCUSDT-PERP'"),
        (POSITIONS.replace("quantity", "size"), ", size: rename or add it"),
        (POSITIONS.replace("entry_price", "quantity"), "names the column 'quantity' twice"),
        (POSITIONS.encode("utf-16"), "is UTF-16"),
        (POSITIONS.replace("X-", "é-").encode("latin-1"), "line 3 is not UTF-8"),
        (POSITIONS + 'b,"open', "is no CSV"),
        ("", "line 1 is empty"),
        ("ts," + POSITIONS.replace("\na", "\nyesterday,a"), "line 2, column 'ts': time"),
    ],
)
def test_errors_name_file_line_and_column(
    tmp_path: Path, positions: str | bytes, told: str
) -> None:
    with pytest.raises(DataError) as refusal:
        book(write(tmp_path, positions))
    assert "positions.csv" in str(refusal.value)
    assert told in str(refusal.value)


def test_rows_without_ts_need_a_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"positions\.csv lacks the column 'ts'"):
        read_accounts(write(tmp_path))


def test_both_forms_of_a_file_are_refused(tmp_path: Path) -> None:
    write_accounts(tmp_path, [AccountUpdates(NOW, Book.of([Account("a", 1.0)]))])
    with pytest.raises(DataError, match=r"has positions\.parquet and positions\.csv; keep one"):
        book(write(tmp_path))
