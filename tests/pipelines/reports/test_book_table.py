from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pipelines.reports.book_table import book_table, summarise_book


def scored(*rows: tuple[str, float, float, dict[str, float]]) -> pa.Table:
    """Binding, headroom, deposit to meet, and rule floors of some accounts with an equity of 100,
    a requirement of 40 and an add-on of 10."""
    count = len(rows)
    return pa.table(
        {
            "binding": [row[0] for row in rows],
            "headroom": [row[1] for row in rows],
            "deposit_to_meet": [row[2] for row in rows],
            "explain": [json.dumps({"floors": row[3]}) for row in rows],
            "equity": [100.0] * count,
            "total_requirement": [40.0] * count,
            "add_on": [10.0] * count,
        }
    )


BOOK = scored(
    ("model", 60.0, 0.0, {"liquidity": 1.0, "stale_data": 0.0}),
    ("model", 5.0, 5.0, {"liquidity": 1.0, "stale_data": 0.0}),
    ("model", -5.0, 15.0, {"liquidity": 1.0, "stale_data": 0.0}),
    ("floor", 60.0, 0.0, {"liquidity": 10.0, "stale_data": 0.0}),
    ("fallback", 60.0, 0.0, {"liquidity": 1.0, "stale_data": 10.0}),
    ("fallback", 60.0, 0.0, {"liquidity": 0.0, "stale_data": 0.0}),
    ("cap", 60.0, 0.0, {"liquidity": 1.0, "stale_data": 0.0}),
)


def test_each_binding_is_one_row_with_the_floor_that_decides() -> None:
    rows = {row["binding"]: row for row in summarise_book(BOOK)}
    assert list(rows) == [
        "cap",
        "fallback",
        "fallback: stale_data",
        "floor: liquidity",
        "model",
        "all",
    ]
    assert rows["model"]["accounts"] == 3
    assert rows["model"]["equity"] == 300.0
    assert rows["model"]["requirement"] == 120.0
    assert rows["model"]["add_on"] == 30.0


def test_an_account_is_called_short_or_margined() -> None:
    rows = {row["binding"]: row for row in summarise_book(BOOK)}
    assert [rows["model"][key] for key in ("called", "short", "margined")] == [1, 1, 1]
    for row in rows.values():
        assert row["called"] + row["short"] + row["margined"] == row["accounts"]
    for key in ("accounts", "equity", "requirement", "add_on", "called", "short", "margined"):
        assert rows["all"][key] == sum(row[key] for name, row in rows.items() if name != "all")


def test_without_an_explanation_a_floor_has_no_name() -> None:
    bare = BOOK.set_column(
        BOOK.column_names.index("explain"), "explain", pa.nulls(len(BOOK), pa.string())
    )
    assert [row["binding"] for row in summarise_book(bare)] == [
        *("cap", "fallback", "floor", "model", "all")
    ]


def test_the_printed_table_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    book_table(summarise_book(BOOK))
    printed = capsys.readouterr().out
    for name in ("floor: liquidity", "fallback: stale_data", "model", "cap", "all"):
        assert name in printed
