"""The life cycle as a job: recorded once, replayed bit for bit, refused where it differs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import margin
from ledger.records import Entry
from ledger.store import Ledger
from margin.pricing.black76 import black76_price
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import DAY, HOUR, Interval, parse_time
from market.core.instruments import parse_expiry
from monitoring.quotes.quote_updates import QUOTES
from pipelines.cli.main import app
from pipelines.config.config import load_config
from pipelines.data.loaders import read_history, read_rule_history
from pipelines.jobs.life_cycle import _Ages, _Views, run_life_cycle
from pipelines.jobs.simulate import simulate

CONFIG = """
[simulate]
days = 16
symbols = 2
seed = {seed}
[accounts]
count = 25
[ledger]
url = "sqlite:///ledger.db"
"""
BEGIN, END = "2025-01-09T00:00:00Z", "2025-01-16T00:00:00Z"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for seed in (1, 2):
        (folder / f"{seed}.toml").write_text(CONFIG.format(seed=seed))
    simulate(load_config(folder / "1.toml"), folder / "simulated")
    return folder


def lifecycle(folder: Path, seed: int, *options: str, code: int = 0) -> dict[str, Any]:
    out = folder / "report.json"
    out.unlink(missing_ok=True)
    done = CliRunner().invoke(
        app,
        [
            "lifecycle",
            "--accounts",
            str(folder / "simulated" / "accounts"),
            "--from",
            BEGIN,
            "--to",
            END,
            "--config",
            str(folder / f"{seed}.toml"),
            "--json",
            str(out),
            *options,
        ],
    )
    assert done.exit_code == code, done.output
    report: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    return report


def test_recorded_once_and_replayed_to_the_last_bit(folder: Path) -> None:
    lifecycle(folder, 1, "--replay", code=1)
    first = lifecycle(folder, 1, "--out", str(folder / "first.jsonl"))
    assert first["recorded"]
    assert first["equal"] is None
    assert first["transitions"] == sum(first["reasons"].values()) > 0
    assert sum(first["states"].values()) == first["accounts"]
    for option in ((), ("--replay",)):
        again = lifecycle(folder, 1, *option, "--out", str(folder / "again.jsonl"))
        assert (again["recorded"], again["equal"]) == (False, True)
        assert again["history_sha256"] == first["history_sha256"]
        assert (folder / "again.jsonl").read_bytes() == (folder / "first.jsonl").read_bytes()
    done = CliRunner().invoke(app, ["ledger", "verify", "--config", str(folder / "1.toml")])
    assert done.exit_code == 0, done.output
    # Other prices under the same accounts and rules: the recorded history is not theirs.
    other = lifecycle(folder, 2, "--replay", code=4)
    assert other["equal"] is False
    assert other["difference"]["recorded"] != other["difference"]["replayed"]
    # A run of other rules is another run.
    rules = (Path(margin.__file__).parent / "rules" / "presets" / "linear-tiers.toml").read_text()
    (folder / "house.toml").write_text(rules + "\n[life_cycle]\ncall_hours = 1.0\n")
    config = CONFIG.format(seed=1) + '[rules]\nruleset = "house.toml"\n'
    (folder / "3.toml").write_text(config)
    assert lifecycle(folder, 3)["run"] != first["run"]


def test_a_span_without_bars_is_refused(folder: Path) -> None:
    done = CliRunner().invoke(
        app,
        [
            "lifecycle",
            "--accounts",
            str(folder / "simulated" / "accounts"),
            "--from",
            "2031-01-01T00:00:00Z",
            "--to",
            "2031-02-01T00:00:00Z",
            "--config",
            str(folder / "1.toml"),
        ],
    )
    assert done.exit_code == 1
    assert "no bar closes" in str(done.exception)


EXPIRY = "BTC-28FEB25"
STRIKE = 110_000.0
SOLD = f"{EXPIRY}-110000-C"


def sold_call(folder: Path, cash: float) -> Path:
    """Account files of one account that has sold a call, without an entry price."""
    accounts = folder / "accounts"
    accounts.mkdir()
    own = {"ts": [datetime.fromisoformat(BEGIN)], "account_id": ["seller"]}
    pq.write_table(
        pa.table(own | {"instrument": [SOLD], "quantity": [-1.0]}), accounts / "positions.parquet"
    )
    pq.write_table(
        pa.table(own | {"asset": ["USD"], "amount": [cash]}), accounts / "collateral.parquet"
    )
    return accounts


def quote(config: Path, *quotes: tuple[str, float, float]) -> None:
    """Record (time, forward, vol) of the expiry, as the endpoint does."""
    with Ledger(load_config(config).ledger.url) as ledger:
        ledger.append(
            [
                Entry(
                    QUOTES,
                    {
                        "quotes": [
                            {
                                "instrument": EXPIRY,
                                "ts": at,
                                "forward": forward,
                                "vols": {f"{STRIKE:.0f}": vol},
                            }
                        ]
                    },
                    as_of=parse_time(at),
                )
                for at, forward, vol in quotes
            ]
        )


def test_options_are_replayed_at_the_quotes_that_were_known(tmp_path: Path) -> None:
    config = tmp_path / "margincast.toml"
    config.write_text(CONFIG.format(seed=1) + '[rules]\nruleset = "deribit-standard"\n')
    accounts = sold_call(tmp_path, 60_000.0)
    found = run_life_cycle(load_config(config), accounts, BEGIN, END, out=tmp_path / "none.jsonl")
    assert found["transitions"] == 0
    assert found["unknown"]["account_bars"] == found["unknown"]["of"] == found["bars"]
    assert f"its expiry {EXPIRY} is not quoted" in found["unknown"]["problems"]["seller"]

    jump, told = "2025-01-12T00:00:00Z", 170_000.0
    quote(config, (BEGIN, 110_000.0, 0.5), (jump, told, 0.8))
    differs = run_life_cycle(load_config(config), accounts, BEGIN, END)
    # Told since: the history that is recorded is not theirs.
    assert (differs["recorded"], differs["equal"]) == (False, False)
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("ledger.db", "other.db"))
    quote(other, (BEGIN, 110_000.0, 0.5), (jump, told, 0.8))
    first = run_life_cycle(load_config(other), accounts, BEGIN, END, out=tmp_path / "first.jsonl")
    assert first["unknown"]["account_bars"] == 0
    events = [json.loads(line) for line in (tmp_path / "first.jsonl").read_text().splitlines()]
    stop = events[0]
    assert (stop["reason"], stop["as_of"]) == ("stop_out", jump)
    years = (parse_expiry(EXPIRY) - parse_time(jump)) / (365 * DAY)
    worth = float(black76_price(told, STRIKE, years, 0.8, True))
    assert stop["figures"]["equity"] == pytest.approx(60_000.0 - worth)
    assert events[1]["closed"] == [{"instrument": SOLD, "share": 1.0}]
    again = run_life_cycle(load_config(other), accounts, BEGIN, END, replay=True)
    assert again["equal"] is True
    assert again["history_sha256"] == first["history_sha256"]


def test_rules_that_simulate_history_have_the_days_of_the_bars(
    folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "margincast.toml"
    config.write_text(CONFIG.format(seed=1) + '[rules]\nruleset = "emir-ccp"\n')
    found = run_life_cycle(
        load_config(config), folder / "simulated" / "accounts", BEGIN, "2025-01-09T06:00:00Z"
    )
    assert found["accounts"] > 0
    assert found["unknown"]["account_bars"] == 0, found["unknown"]


def test_views_carry_the_age_of_bars_and_the_limit_of_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "margincast.toml"
    file.write_text(CONFIG.format(seed=1) + "[market]\nmark_max_age = '30m'\n")
    config = load_config(file)
    history = read_history(config)
    end = int(np.searchsorted(history.bars.closes, parse_time(END)))
    values = history.bars.values.copy()
    values[end - 2 : end + 1, 0] = np.nan
    values[: end + 1, 1] = np.nan
    gapped = replace(history, bars=replace(history.bars, values=values))
    monkeypatch.setattr("pipelines.jobs.life_cycle.read_history", lambda *_: gapped)
    with Ledger(config.ledger.url) as ledger:
        rules = read_rule_history(config)
        views = list(_Views(config, rules, parse_time(BEGIN), parse_time(END), ledger))
    assert [view.age_hours[0] for view in views[-4:]] == [0.0, 1.0, 2.0, 3.0]
    assert np.isnan(views[-1].age_hours[1]), "no bar has closed yet"
    assert {view.mark_max_age_hours for view in views} == {0.5}


def test_ages_of_a_replay_count_from_the_newest_accepted_bar() -> None:
    rows = np.full((6, 2, 5), np.nan)
    rows[[0, 3], 0] = 1.0
    rows[2, 1] = 1.0
    opens = HOUR * np.arange(6, dtype=np.int64)
    panel = BarPanel(Interval.parse("1h"), ("A", "B"), opens, rows)
    ages = _Ages(MarketHistory.from_panel(panel))
    found = [ages.at(row).tolist() for row in range(1, 6)]
    np.testing.assert_array_equal(
        found, [[1.0, np.nan], [2.0, 0.0], [0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    )
