"""``score``: a whole book, its counts, and what it says where no model could answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ledger.store import Ledger
from pipelines.config.config import load_config

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any

ALL_DEGRADED = 5


def read_report(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_book_scored_years_after_the_last_bar_exits_5_with_one_line(
    trained: TrainedMarket, bare: Workspace
) -> None:
    workspace, out = trained.workspace, bare.folder / "scored.parquet"
    written = bare.folder / "report.json"
    arguments = ("score", "--accounts", workspace.accounts, "--as-of", "2031-01-01", "--out", out)
    done = workspace.run(*arguments, "--json", written, code=ALL_DEGRADED)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("margincast:")]
    assert "150 of 150 decisions are degraded" in line
    assert "150 stale market data" in line
    assert "stale market data: 150" in done.stdout, "counts are printed, not only written"
    report = read_report(written)
    assert (report["decisions"], report["degraded"], report["failed"]) == (150, 150, 0)
    assert report["degraded_by_reason"] == {"stale market data": 150}
    assert pc.all(pc.starts_with(pq.read_table(out)["degraded"], "stale market data: ")).as_py()


def test_sound_book_prints_its_counts_and_no_warning(
    trained: TrainedMarket, bare: Workspace
) -> None:
    workspace, written = trained.workspace, bare.folder / "report.json"
    out = bare.folder / "scored.parquet"
    arguments = ("score", "--accounts", workspace.accounts, "--as-of", trained.newest, "--out", out)
    done = workspace.run(*arguments, "--json", written)
    assert "margincast:" not in done.stderr
    report = read_report(written)
    assert (report["decisions"], report["degraded"], report["failed"]) == (150, 0, 0)
    assert report["degraded_by_reason"] == report["failed_by_reason"] == {}
    for name in ("decisions", "degraded", "failed"):
        assert name in done.stdout


def test_accounts_that_fail_and_those_that_are_degraded_are_counted_apart(
    trained: TrainedMarket, workspace: Workspace
) -> None:
    positions = pq.read_table(workspace.accounts / "positions.parquet")
    held = positions["account_id"].to_pylist()
    names = [
        f"NOWHERE{row}-PERP" if account == held[-1] else instrument
        for row, (account, instrument) in enumerate(
            zip(held, positions["instrument"].to_pylist(), strict=True)
        )
    ]
    column = positions.column_names.index("instrument")
    changed = positions.set_column(column, "instrument", pa.array(names))
    pq.write_table(changed, workspace.accounts / "positions.parquet")
    (workspace.bundles / "champion").unlink()
    written, out = workspace.folder / "report.json", workspace.folder / "scored.parquet"
    arguments = ("score", "--accounts", workspace.accounts, "--as-of", trained.newest, "--out", out)
    done = workspace.run(*arguments, "--json", written, code=ALL_DEGRADED)
    report = read_report(written)
    assert (report["decisions"], report["degraded"], report["failed"]) == (149, 149, 1)
    assert report["degraded_by_reason"] == {"no model": 149}
    assert report["failed_by_reason"] == {"instrument": 1}
    assert [problem["account_id"] for problem in report["errors"]] == [held[-1]]
    assert "149 of 149 decisions are degraded" in done.stderr
    assert "1 of 150 accounts could not be decided on (1 instrument)" in done.stderr


def test_book_of_which_no_account_can_be_decided_on_exits_5_too(
    trained: TrainedMarket, workspace: Workspace
) -> None:
    positions = pq.read_table(workspace.accounts / "positions.parquet")
    column = positions.column_names.index("instrument")
    unknown = pa.array([f"NOWHERE{row}-PERP" for row in range(len(positions))])
    pq.write_table(
        positions.set_column(column, "instrument", unknown),
        workspace.accounts / "positions.parquet",
    )
    out = workspace.folder / "scored.parquet"
    arguments = ("score", "--accounts", workspace.accounts, "--as-of", trained.newest, "--out", out)
    done = workspace.run(*arguments, code=ALL_DEGRADED)
    assert "of 150 accounts could not be decided on" in done.stderr


@pytest.mark.parametrize("options", [(), ("--record",)], ids=["shown", "recorded"])
def test_an_altered_record_costs_its_account_alone_its_decision(
    trained: TrainedMarket, workspace: Workspace, options: tuple[str, ...]
) -> None:
    out, written = workspace.folder / "scored.parquet", workspace.folder / "report.json"
    arguments = ("score", "--accounts", workspace.accounts, "--as-of", trained.newest, "--out", out)
    workspace.run(*arguments, "--record")
    url = load_config(workspace.folder / "margincast.toml").ledger.url
    with Ledger(url) as ledger, ledger.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE records SET as_of = as_of + 1 WHERE chain = 'score'"
            " AND seq = (SELECT max(seq) FROM records WHERE chain = 'score')"
        )
    workspace.run(*arguments, *options, "--json", written)
    report = read_report(written)
    assert (report["decisions"], report["failed"]) == (149, 1)
    assert report["failed_by_reason"] == {"altered-record": 1}


@pytest.mark.parametrize("as_of", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "soon"])
def test_time_that_cannot_be_read_is_one_line(trained: TrainedMarket, as_of: str) -> None:
    workspace = trained.workspace
    out = workspace.folder / "never.parquet"
    line = workspace.refusal(
        "score", "--accounts", workspace.accounts, "--as-of", as_of, "--out", out
    )
    assert as_of in line
    assert "2025" in line or "1970" in line
    assert not out.exists()


def test_bars_posted_to_the_endpoint_are_in_the_batch(
    trained: TrainedMarket, workspace: Workspace, serve: Any
) -> None:
    symbols = trained.simulated["symbols"]
    last = {
        symbol: pq.read_table(workspace.folder / "simulated" / "bars" / f"{symbol}.parquet")[
            "close"
        ][-1].as_py()
        for symbol in symbols
    }
    names = ("open", "high", "low", "close")
    bars = [
        {"symbol": symbol, "ts": trained.newest, "volume": 5.0} | dict.fromkeys(names, price)
        for symbol, price in last.items()
    ]
    endpoint = serve(workspace)
    as_of = endpoint.post("/v1/market/bars", {"interval": "1h", "bars": bars})["as_of"]
    out, written = workspace.folder / "scored.parquet", workspace.folder / "report.json"
    arguments = ("score", "--accounts", workspace.accounts, "--as-of", as_of, "--out", out)
    workspace.run(*arguments, "--json", written)
    report = read_report(written)
    assert report["recorded_bars"] == {"filled": len(symbols), "replaced": 0, "differing": 0}
    marks = [m for row in pq.read_table(out)["marks"].to_pylist() for m in json.loads(row)]
    assert marks
    assert {mark["age_seconds"] for mark in marks} == {0.0}, "the newest bar is the endpoint's"
