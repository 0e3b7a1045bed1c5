"""The study from account files to its tables, on a small simulated market."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from market.accounts.account_files import CLOSED, Event, write_accounts
from market.accounts.book import Account, Book, Position
from market.core.clock import HOUR
from market.core.errors import DataError
from market.sources.base import AccountUpdates
from pipelines.config.config import load_config
from pipelines.data.loaders import read_market, read_rules
from pipelines.jobs.retrain import retrain
from research.real_accounts.__main__ import main
from research.real_accounts.population import holding_hours
from research.real_accounts.scored_rows import priced_intervals
from research.real_accounts.study import study, why_not_scored

TOML = """
[simulate]
days = 30
symbols = 2
[accounts]
count = 60
[training]
max_rows = 6000
[review]
folds = 1
ablation = false
[tracking]
uri = "sqlite:///mlflow.db"
[serving]
bundles = "bundles"
[ledger]
url = "sqlite:///ledger.db"
"""


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    path = tmp_path / "margincast.toml"
    path.write_text(TOML)
    return path


def test_books_without_bars_and_empty_books_are_left_out(sampled: Path, tmp_path: Path) -> None:
    config = load_config(sampled)
    market = read_market(config)
    closes, first = market.history.bars.closes, market.history.bars.symbols[0]
    held = Account("a", 100.0, (Position(f"{first}-PERP", 1.0, 5.0),))
    odd = Account("b", 100.0, (*held.positions, Position("XYZUSDT-PERP", 1.0, 5.0)))
    states = [
        AccountUpdates(int(closes[200]), Book.of([held, odd])),
        AccountUpdates(int(closes[260]), Book.of([Account("a", 90.0)])),
    ]
    history = write_accounts(tmp_path / "book", states)
    intervals, coverage = priced_intervals(history, market, read_rules(config, market))
    assert (intervals.first_row.tolist(), intervals.last_row.tolist()) == ([200], [260])
    assert coverage["priced_account_hours"] == 60
    assert coverage["open_account_hours"] == 60 + 61  # to the newest record
    assert coverage["hours_without_bars"] == {"XYZUSDT-PERP": 61}
    assert holding_hours(history)["hours"]["median"] == 60.0
    assert why_not_scored(history, market, 0, int(closes[270])) == "flat or not followed"
    assert why_not_scored(history, market, 1, int(closes[270])) == "no bars"

    history = write_accounts(tmp_path / "odd", [AccountUpdates(int(closes[200]), Book.of([odd]))])
    with pytest.raises(DataError, match="none of 1 accounts holds only instruments with bars"):
        priced_intervals(history, market, read_rules(config, market))


def test_sampled_accounts_are_refused(
    sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"\[accounts\] source is not a folder"):
        study(load_config(sampled), tmp_path)
    arguments = ["study", "--config", str(sampled), "--bundle", str(tmp_path)]
    assert main(arguments) == 1
    assert "error: [accounts] source is not a folder" in capsys.readouterr().err


@pytest.mark.slow
def test_study_of_account_files(sampled: Path, tmp_path: Path) -> None:
    config = load_config(sampled)
    sha = retrain(config)["bundle"]
    market = read_market(config)
    symbols = market.history.bars.symbols
    closes, mark = market.history.bars.closes, market.history.mark
    states = []
    for i in range(12):
        price = float(mark[400, i % 2])
        leverage = 30.0 if i == 0 else 2.0
        position = Position(f"{symbols[i % 2]}-PERP", 1.0, price)
        states.append(Account(f"a{i:02d}", price / leverage, (position,)))
    end = int(closes[500]) + HOUR // 4
    events = [Event(end, "a00", "liquidation", 100.0), Event(end, "a00", CLOSED)]
    events.append(Event(int(closes[-1]), "a01", "deposit", 1.0))
    write_accounts(tmp_path / "book", [AccountUpdates(int(closes[400]), Book.of(states))], events)
    arguments = ["study", "--config", str(sampled), "--bundle", str(tmp_path / "bundles" / sha)]
    arguments += ["--accounts", str(tmp_path / "book"), "--count", "40"]
    arguments += ["--json", str(tmp_path / "out.json"), "--markdown", str(tmp_path / "out.md")]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["bundle"] == sha
    assert report["liquidations"] == {"accounts": 1, "count": 1, "isolated": 0}
    assert report["coverage"]["accounts_priced"] == 12
    assert report["population"]["recorded"]["one_coin"]["mean"] == 1.0
    for hours in ("1", "8", "24"):
        assert set(report["horizons"][hours]["models"]) >= {"margincast", "first_passage"}
    assert "| 24 h | first_passage |" in (tmp_path / "out.md").read_text()
