"""Reports on their cron line: the newest whole day, written once and the same again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import DAY, format_time
from market.core.errors import DataError, LedgerError
from pipelines.cli.main import app
from pipelines.config.config import load_config
from pipelines.scheduler.schedule import Scheduler, job_lines
from pipelines.scheduler.scheduled_reports import scheduled_reports
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import snapshot, watched
from tests.pipelines.ledger_reports.helpers import RecordedDays


def config_file(tmp_path: Path, url: str, more: str = "") -> Path:
    path = tmp_path / "margincast.toml"
    path.write_text(
        f"[ledger]\nurl = '{url}'\n[schedule]\ncron = ''\n"
        f"[reports]\ncron = '5 0 * * *'\nformats = ['html', 'csv']\n{more}",
        encoding="utf-8",
    )
    return path


def test_the_newest_whole_day_is_written_into_the_folder_of_its_date(
    days: RecordedDays,
    tmp_path: Path,
) -> None:
    file = config_file(tmp_path, days.url, "kinds = ['daily-margin', 'coverage', 'calls']\n")
    date = format_time(days.span.end // DAY * DAY - DAY)[:10]
    result = tmp_path / "result.json"
    found = CliRunner().invoke(
        app, ["report", "scheduled", "--config", str(file), "--json", str(result)]
    )
    assert found.exit_code == 0, found.output
    report = json.loads(result.read_text("utf-8"))
    assert (report["verdict"], report["date"], report["left_out"]) == ("written", date, {})
    folder = tmp_path / "var" / "reports" / date
    assert {"daily-margin.html", "coverage.csv", "calls.facts.csv"} <= {
        path.name for path in folder.iterdir()
    }
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert scheduled_reports(load_config(file), date)["date"] == date
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_kind_without_records_of_the_day_is_left_out_with_its_reason(
    days: RecordedDays,
    tmp_path: Path,
) -> None:
    file = config_file(tmp_path, days.url, "kinds = ['coverage', 'calls']\n")
    found = scheduled_reports(load_config(file), "2020-01-01")
    assert list(found["left_out"]) == ["coverage"]
    assert all("calls" in path for path in found["written"])


def test_a_ledger_without_evaluations_is_an_error(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with pytest.raises(LedgerError, match="no ledger"):
        scheduled_reports(load_config(config_file(tmp_path, url)))
    assert not (tmp_path / "ledger.db").exists()
    Ledger(url).close()
    with pytest.raises(DataError, match=r"\[monitoring\]"):
        scheduled_reports(load_config(config_file(tmp_path, url)))


def test_the_scheduler_runs_the_verb_of_reports(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, f"sqlite:///{tmp_path}/ledger.db"))
    assert job_lines(config) == {"reports": "5 0 * * *"}
    assert Scheduler(config, None)._command("reports", Path("out.json"))[-4:] == [
        *("report", "scheduled", "--json", "out.json")
    ]


def test_a_day_ends_with_an_evaluation_later_than_its_close(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger, tmp_path: Path
) -> None:
    def newest() -> str:
        made = scheduled_reports(load_config(file))
        assert made["left_out"].keys() <= {"daily-margin"}
        return str(made["date"])

    row = 230
    w = watched(market, ruleset, bundles, ledger, row)
    w.update(snapshot("c", 1, 1e6, BTC=0.1))
    w.settle()
    while (w.market.live.state.newest_close or 0) % DAY:
        w.bars(row)
        w.settle()
        row += 1
    end = w.market.live.state.newest_close or 0
    url = ledger.engine.url.render_as_string(hide_password=False)
    file = config_file(tmp_path, url, "kinds = ['daily-margin']\n")
    assert newest() == format_time(end - 2 * DAY)[:10]
    # On the market's clock this update has the time of the close.
    w.update(snapshot("c", 2, 1_000.0, BTC=0.5))
    w.settle()
    assert w.records()[-1].as_of == end
    assert newest() == format_time(end - 2 * DAY)[:10]
    w.bars(row)
    w.settle()
    date = format_time(end - DAY)[:10]
    assert newest() == date
    folder = tmp_path / "var" / "reports" / date
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before
    w.update(snapshot("c", 3, 1e6, BTC=1.0))
    w.settle()
    assert newest() == date
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
