from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market.core.clock import parse_time
from market.core.errors import DataError
from market.quotes.option_chain_files import read_option_chain

SNAPSHOT = datetime(2026, 7, 5, 4, 31, 54, tzinfo=UTC)


def row(**changes: Any) -> dict[str, Any]:
    given = {
        "ts": SNAPSHOT,
        "exchange": "deribit",
        "underlying": "BTC",
        "expiry": datetime(2026, 7, 31),  # noqa: DTZ001  (the files hold dates)
        "strike": 60_000,
        "type": "put",
        "mark_price": 0.02,
        "bid": 0.019,
        "ask": 0.021,
        "mark_iv": 45.0,
        "underlying_price": 63_000.0,
    } | changes
    return {"instrument": f"{given['expiry']}-{given['strike']}-{given['type']}"} | given


def written(path: Path, *rows: dict[str, Any]) -> Path:
    file = path / "chain.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return file


def test_rows_are_sorted_into_snapshots_and_expiries(tmp_path: Path) -> None:
    later = SNAPSHOT.replace(day=6)
    soon = datetime(2026, 7, 10)  # noqa: DTZ001
    chain = read_option_chain(
        written(
            tmp_path,
            row(ts=later),
            row(underlying="ETH", strike=1_800),
            row(strike=61_000, type="call"),
            row(strike=61_000),
            row(),
            row(expiry=soon),
        )
    )
    snapshots = list(chain.snapshots())
    assert [(ts, name) for ts, name, _ in snapshots] == [
        (parse_time("2026-07-05T04:31:54Z"), "BTC"),
        (parse_time("2026-07-05T04:31:54Z"), "ETH"),
        (parse_time("2026-07-06T04:31:54Z"), "BTC"),
    ]
    near, far = snapshots[0][2]
    assert chain.expiry[near.start] < chain.expiry[far.start]
    assert chain.strike[far].tolist() == [60_000, 61_000, 61_000]
    assert chain.call[far].tolist() == [False, False, True]
    covered = [
        i for _, _, expiries in snapshots for rows in expiries for i in range(*rows.indices(9))
    ]
    assert covered == list(range(len(chain)))


def test_a_date_of_expiry_gets_the_hour_of_the_exchange(tmp_path: Path) -> None:
    chain = read_option_chain(
        written(tmp_path, row(), row(expiry=datetime(2026, 8, 28, 12)))  # noqa: DTZ001
    )
    assert chain.expiry.tolist() == [
        parse_time("2026-07-31T08:00:00Z"),
        parse_time("2026-08-28T12:00:00Z"),
    ]
    day = 86_400
    assert chain.tau[0] * 365 * day == pytest.approx(
        26 * day + 8 * 3_600 - 4 * 3_600 - 31 * 60 - 54
    )


def test_the_exchange_tells_the_unit_of_vols(tmp_path: Path) -> None:
    assert read_option_chain(written(tmp_path, row())).vol[0] == pytest.approx(0.45)
    okx = read_option_chain(written(tmp_path, row(exchange="okx", mark_iv=0.45)))
    assert okx.vol[0] == 0.45


@pytest.mark.parametrize(("exchange", "vol"), [("deribit", 0.45), ("okx", 45.0)])
def test_vols_in_the_unit_of_another_exchange_are_refused(
    tmp_path: Path, exchange: str, vol: float
) -> None:
    with pytest.raises(DataError, match="check exchange and unit"):
        read_option_chain(written(tmp_path, row(exchange=exchange, mark_iv=vol)))


def test_faults_are_counted_and_the_rest_is_used(tmp_path: Path) -> None:
    gone = datetime(2026, 7, 4)  # noqa: DTZ001
    chain = read_option_chain(
        written(
            tmp_path,
            row(),
            row(mark_price=0.5),
            row(strike=50_000, expiry=gone),
            row(strike=0),
            row(strike=70_000, underlying_price=-1.0),
            row(strike=61_000, bid=0.03),
            row(strike=62_000, bid=None),
            row(strike=63_000, bid=0.0, ask=None),
            row(strike=64_000, mark_iv=None, mark_price=0.0, underlying_price=None),
        )
    )
    quality = chain.quality
    assert (quality.rows, quality.used) == (9, 5)
    assert (quality.repeated, quality.expired, quality.impossible) == (1, 1, 2)
    assert (quality.crossed, quality.no_bid, quality.no_ask, quality.no_vol) == (1, 2, 1, 1)
    assert chain.mark[0] == 0.02  # the first of the two rows
    np.testing.assert_array_equal(np.isnan(chain.bid), [False, True, True, True, False])
    np.testing.assert_array_equal(np.isnan(chain.ask), [False, True, False, True, False])
    assert np.isnan([chain.vol[4], chain.mark[4], chain.underlying_price[4]]).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(exchange="cme")], "exchange 'cme'; known are deribit, okx"),
        ([row(), row(exchange="okx")], "deribit, okx; expected one a file"),
        ([row(type="straddle")], "type 'straddle'; expected call or put"),
        ([{"ts": SNAPSHOT}], "lacks the columns"),
        ([row(expiry=datetime(2026, 7, 4))], "no option that is still alive"),  # noqa: DTZ001
    ],
)
def test_files_of_another_form_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_option_chain(written(tmp_path, *rows))


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chain.parquet").write_text("ts,strike")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_option_chain(tmp_path / "chain.parquet")
