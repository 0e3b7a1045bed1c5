"""The life cycle as a job: recorded once, continued, replayed bit for bit, or found different."""

from __future__ import annotations

import json
import shutil
import sys
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
from ledger.chain import packed_row
from ledger.contents import put
from ledger.packing import pack
from ledger.records import Entry
from ledger.statements import statements
from ledger.store import Ledger
from ledger.verify import verify
from margin.pricing.black76 import black76_price
from market.core.clock import DAY, parse_time
from market.core.errors import LedgerError
from market.core.instruments import parse_expiry
from monitoring.quotes.quote_updates import QUOTES
from pipelines.cli.main import app, main
from pipelines.config.config import load_config
from pipelines.data.loaders import read_history, read_rule_history
from pipelines.jobs.life_cycle import _Closes, run_life_cycle
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
    (folder / "venue.toml").write_text(rules + "\n[life_cycle]\ncall_hours = 1.0\n")
    config = CONFIG.format(seed=1) + '[rules]\nruleset = "venue.toml"\n'
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
    snapshot = {"ts": [datetime.fromisoformat(BEGIN)], "account_id": ["seller"]}
    pq.write_table(
        pa.table(snapshot | {"instrument": [SOLD], "quantity": [-1.0]}),
        accounts / "positions.parquet",
    )
    pq.write_table(
        pa.table(snapshot | {"asset": ["USD"], "amount": [cash]}), accounts / "collateral.parquet"
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

    jump, forward = "2025-01-12T00:00:00Z", 170_000.0
    quote(config, (BEGIN, 110_000.0, 0.5), (jump, forward, 0.8))
    differs = run_life_cycle(load_config(config), accounts, BEGIN, END)
    # Quotes recorded since give another history than the recorded one.
    assert (differs["recorded"], differs["equal"]) == (False, False)
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("ledger.db", "other.db"))
    quote(other, (BEGIN, 110_000.0, 0.5), (jump, forward, 0.8))
    first = run_life_cycle(load_config(other), accounts, BEGIN, END, out=tmp_path / "first.jsonl")
    assert first["unknown"]["account_bars"] == 0
    events = [json.loads(line) for line in (tmp_path / "first.jsonl").read_text().splitlines()]
    stop = events[0]
    assert (stop["reason"], stop["time"]) == ("stop_out", parse_time(jump))
    years = (parse_expiry(EXPIRY) - parse_time(jump)) / (365 * DAY)
    worth = float(black76_price(forward, STRIKE, years, 0.8, True))
    assert stop["figures"]["equity"] == pytest.approx(60_000.0 - worth)
    (close,) = (
        event for event in events if event.get("kind") == "close" and event["event"] == "issued"
    )
    assert close["parameters"]["instrument"] == SOLD
    assert close["parameters"]["quantity"] == 1.0
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
    monkeypatch.setattr("pipelines.data.loaders.read_history", lambda *_: gapped)
    with Ledger(config.ledger.url) as ledger:
        span = parse_time(BEGIN), parse_time(END)
        closes = _Closes(config, read_rule_history(config), span, ledger)
        views = [snapshot.view() for snapshot, _ in closes.between(*span)]
    assert [view.age_hours[0] for view in views[-4:]] == [0.0, 1.0, 2.0, 3.0]
    assert np.isnan(views[-1].age_hours[1]), "no bar has closed yet"
    assert {view.mark_max_age_hours for view in views} == {0.5}


RECORD_FOLDER = Path(__file__).parent / "kept_life_cycle"
KEPT_SPAN = ("2025-01-01T02:00:00Z", "2025-01-02T12:00:00Z")


def kept_venue(tmp_path: Path, *, recorded: bool) -> Path:
    """Config of a venue whose bars crash, with or without the record that an earlier version made.

    Two longs go bankrupt at the same close; the rule set has a fee, a fund and deleverage.
    """
    shutil.copytree(RECORD_FOLDER, tmp_path / "venue")
    config = tmp_path / "venue" / "margincast.toml"
    if recorded:
        rows = json.loads((RECORD_FOLDER / "ledger.json").read_text())
        with (
            Ledger(load_config(config).ledger.url) as ledger,
            ledger.transaction() as connection,
        ):
            put(connection, [(row["kind"], json.loads(row["content"])) for row in rows["contents"]])
            packed = [packed_row(row, pack(row["payload"].encode())) for row in rows["records"]]
            connection.exec_driver_sql(statements(connection).insert_record, packed)
    return config


def replay_venue(config: Path, end: str = KEPT_SPAN[1], **options: Any) -> dict[str, Any]:
    accounts = config.parent / "accounts"
    return run_life_cycle(load_config(config), accounts, KEPT_SPAN[0], end, **options)


def test_a_record_of_an_earlier_calculation_stays_and_a_new_one_begins(tmp_path: Path) -> None:
    config = kept_venue(tmp_path, recorded=True)
    with Ledger(load_config(config).ledger.url) as ledger:
        before = [record.payload for record in ledger.records("life_cycle")]
    assert len(before) == 1
    with pytest.raises(LedgerError, match="Records of an earlier calculation"):
        replay_venue(config, replay=True)
    found = replay_venue(config)
    assert (found["calculation"], found["equal"], found["recorded"]) == (3, None, True)
    # The earlier calculation had the same shortfall, and nobody bore it.
    assert found["liquidation"]["shortfall"] == pytest.approx(2867.150295999996)
    with Ledger(load_config(config).ledger.url) as ledger:
        assert [record.payload for record in ledger.records("life_cycle")][:1] == before
        assert verify(ledger.engine).problems == []
    again = replay_venue(config)
    assert (again["equal"], again["recorded"]) == (True, False)


def test_a_shortfall_is_paid_by_the_fund_and_borne_by_winners(tmp_path: Path) -> None:
    config = kept_venue(tmp_path, recorded=False)
    found = replay_venue(config, out=tmp_path / "events.jsonl")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    resources = found["default_resources"]
    # The fund holds the fees of both liquidations, and the first account takes all of them.
    assert resources["fund"]["paid"] == resources["fund"]["fees"] == found["liquidation"]["fees"]
    assert resources["fund"]["balance"] == 0.0
    shortfalls = [event for event in events if event["record"] == "default_resources"]
    assert [event["account_id"] for event in shortfalls] == ["long-20x", "long-25x"]
    for event in shortfalls:
        assert event["shortfall"] == pytest.approx(
            event["fund_paid"] + event["deleveraged"] + event["uncovered"]
        )
    # Shorts of 0.9 BTC are left for the second account's 1.0: a tenth of its loss finds nobody.
    assert shortfalls[0]["uncovered"] == 0.0
    assert shortfalls[1]["uncovered"] == pytest.approx(0.1 * shortfalls[1]["shortfall"])
    assert resources["uncovered"] == shortfalls[1]["uncovered"]
    winners = [
        event
        for event in events
        if event.get("kind") == "deleverage" and event["event"] == "filled"
    ]
    assert {event["parameters"].get("bankrupt_account") for event in winners} >= {
        "long-20x",
        "long-25x",
    }
    losses = [event["parameters"].get("loss", 0.0) for event in winners]
    assert resources["deleveraged"] == pytest.approx(sum(losses))
    # What nobody covers is still owed; the other debt is made good, and its call ends.
    assert found["states"]["bad_debt"] == 1
    assert found["by_event"]["call.bad_debt"] == 2
    with Ledger(load_config(config).ledger.url) as ledger:
        recorded = [record.payload for record in ledger.records("default_resources")]
    assert [payload["shortfall"] for payload in recorded] == [
        event["shortfall"] for event in shortfalls
    ]


def test_a_span_before_the_record_or_after_a_gap_is_refused(tmp_path: Path) -> None:
    config = kept_venue(tmp_path, recorded=False)
    accounts = config.parent / "accounts"
    begin, end = "2025-01-01T06:00:00Z", "2025-01-01T20:00:00Z"
    first = run_life_cycle(load_config(config), accounts, begin, end)
    with pytest.raises(LedgerError, match="before the record of these accounts"):
        run_life_cycle(load_config(config), accounts, KEPT_SPAN[0], end)
    with pytest.raises(LedgerError, match="after the record of these accounts"):
        run_life_cycle(load_config(config), accounts, "2025-01-02T06:00:00Z", KEPT_SPAN[1])
    # A span that begins within the record is part of it, and continues it.
    part = run_life_cycle(load_config(config), accounts, "2025-01-01T12:00:00Z", end)
    assert (part["run"], part["equal"], part["recorded"]) == (first["run"], True, False)
    longer = run_life_cycle(load_config(config), accounts, "2025-01-01T12:00:00Z", KEPT_SPAN[1])
    assert (longer["run"], longer["continued_from"], longer["recorded"]) == (
        first["run"],
        end,
        True,
    )


def test_a_span_before_the_record_ends_with_exit_code_1_and_says_where_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = kept_venue(tmp_path, recorded=False)
    accounts = config.parent / "accounts"
    begin, end = "2025-01-01T06:00:00Z", "2025-01-01T20:00:00Z"
    run_life_cycle(load_config(config), accounts, begin, end)
    span = ["--accounts", str(accounts), "--from", KEPT_SPAN[0], "--to", end]
    monkeypatch.setattr(sys, "argv", ["margincast", "lifecycle", *span, "--config", str(config)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert f"it is recorded from {begin} to {end}; begin there, or use another ledger" in said


def test_a_longer_span_continues_the_record_and_a_shorter_one_is_part_of_it(
    tmp_path: Path,
) -> None:
    config = kept_venue(tmp_path, recorded=False)
    middle, end = "2025-01-01T20:00:00Z", "2025-01-02T20:00:00Z"
    first = replay_venue(config, middle)
    with pytest.raises(LedgerError, match="it up to 2025-01-01T20:00:00Z is"):
        replay_venue(config, end, replay=True)
    longer = replay_venue(config, end, out=tmp_path / "continued.jsonl")
    assert (longer["recorded"], longer["equal"], longer["run"]) == (True, True, first["run"])
    for span in (middle, KEPT_SPAN[1], end):
        again = replay_venue(config, span, replay=True)
        assert (again["recorded"], again["equal"], again["run"]) == (False, True, first["run"])
    at_once = kept_venue(tmp_path / "once", recorded=False)
    replay_venue(at_once, end, out=tmp_path / "once.jsonl")

    def events(name: str) -> list[dict[str, Any]]:
        lines = (tmp_path / name).read_text().splitlines()
        return [{**json.loads(line), "run": None} for line in lines]

    assert events("continued.jsonl") == events("once.jsonl")
    counts = []
    for venue in (config, at_once):
        with Ledger(load_config(venue).ledger.url) as ledger:
            assert verify(ledger.engine).problems == []
            kinds = ("call", "instruction", "default_resources")
            counts.append([len(list(ledger.records(kind))) for kind in kinds])
    assert counts[0] == counts[1]
    assert all(counts[0])


def test_a_longer_span_over_other_bars_is_different_and_appends_nothing(tmp_path: Path) -> None:
    config = kept_venue(tmp_path, recorded=False)
    replay_venue(config)
    path = config.parent / "bars" / "BTCUSDT.parquet"
    bars = pq.read_table(path).to_pylist()
    for bar in bars[25:]:
        bar |= {key: 0.99 * bar[key] for key in ("open", "high", "low", "close")}
    pq.write_table(pa.Table.from_pylist(bars), path)
    longer = replay_venue(config, "2025-01-02T20:00:00Z")
    assert (longer["recorded"], longer["equal"]) == (False, False)
    assert longer["difference"]["recorded"] != longer["difference"]["replayed"]
    with Ledger(load_config(config).ledger.url) as ledger:
        assert len(list(ledger.records("life_cycle"))) == 1
        assert verify(ledger.engine).problems == []
