"""``margincast data --accounts`` and ``score`` on files that a text editor could have written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq
import pytest

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "my accounts"
    folder.mkdir()
    (folder / "positions.csv").write_text(
        "account_id,instrument,quantity\nalice,BTCUSDT-PERP,0.5\n=bob,BTCUSDT-PERP,-0.1\n"
    )
    (folder / "collateral.csv").write_text(
        "account_id,asset,amount\nalice,USD,20000\n=bob,USD,9000\n"
    )
    return folder


def test_clean_accounts_exit_0_with_equity_and_margin(bare: Workspace, mine: Path) -> None:
    found = bare.report("data", "--accounts", mine)
    assert (found["accounts"], found["refused"], found["errors"]) == (2, 0, [])
    assert found["instruments"] == ["BTCUSDT-PERP"]
    assert found["cash_assets"] == ["USD"]
    first = {one["account_id"]: one for one in found["sample"]}["alice"]
    # They enter at the mark, so equity is cash.
    assert first["equity"] == pytest.approx(20_000.0)
    assert 0.0 < first["maintenance_margin"] <= first["initial_margin"]


def test_accounts_that_would_be_refused_exit_6_by_name(bare: Workspace, mine: Path) -> None:
    with (mine / "positions.csv").open("a") as file:
        file.write("carol,NOPEUSDT-PERP,1\n")
    done = bare.run("data", "--accounts", mine, "--json", "-", code=6)
    found = json.loads(done.stdout)
    assert found["refused"] == 1
    assert found["errors"][0]["account_id"] == "carol"
    assert found["quality"]["unpriced_symbols"] == ["NOPEUSDT"]
    assert found["quality"]["without_collateral"] == 1
    assert "refused: carol" in bare.run("data", "--accounts", mine, code=6).stdout


def test_a_time_of_accounts_needs_accounts(bare: Workspace) -> None:
    assert "give it with --accounts" in bare.refusal("data", "--as-of", "2025-01-20")


def test_own_csv_is_scored_at_the_newest_close_into_csv_as_into_parquet(
    trained: TrainedMarket, mine: Path, tmp_path: Path
) -> None:
    workspace = trained.workspace
    text, columns = tmp_path / "mine.csv", tmp_path / "mine.parquet"
    report = workspace.report("score", "--accounts", mine, "--out", text)
    assert report["as_of"] == trained.newest
    workspace.run("score", "--accounts", mine, "--as-of", trained.newest, "--out", columns)
    with text.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = pq.read_table(columns).to_pylist()
    assert [row["account_id"] for row in rows] == ["'=bob", "alice"], "no cell is a formula"
    for row, other in zip(rows, expected, strict=True):
        assert row["as_of"] == trained.newest
        for name in ("equity", "add_on", "total_requirement", "p_24"):
            assert float(row[name]) == other[name]
    assert "ends in .parquet or .csv" in workspace.refusal(
        "score", "--accounts", mine, "--out", tmp_path / "mine.xlsx"
    )
