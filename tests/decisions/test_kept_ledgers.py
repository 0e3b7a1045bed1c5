"""Ledgers that earlier versions wrote are read, verified, served from and replayed."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

import decisions.replay as replay_module
from decisions.levels_in_force import LevelsInForce
from decisions.records import CALCULATION
from decisions.replay import CHANGES, Change, replay
from ledger.chain import packed_row
from ledger.contents import put
from ledger.packing import pack
from ledger.records import Record
from ledger.statements import statements
from ledger.store import Ledger
from ledger.verify import verify
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.cli.main import app
from tests.endpoint_fixtures import levels_of

FOLDER = Path(__file__).parent / "ledgers"
KEPT_LEDGERS = sorted(path.stem for path in FOLDER.glob("*.json"))
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kept:
    """A kept ledger in a database of this test, and its bundles."""

    url: str
    ledger: Ledger
    bundles: Path
    decisions: list[Record]

    def load(self, sha: str) -> Forecaster:
        return Forecaster(load_bundle(self.bundles / sha))


@pytest.fixture(params=KEPT_LEDGERS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    content = json.loads((FOLDER / f"{request.param}.json").read_text(encoding="utf-8"))
    bundles = tmp_path / "kept-bundles"
    for sha, files in content["bundle"].items():
        (bundles / sha).mkdir(parents=True)
        for name, data in files.items():
            (bundles / sha / name).write_bytes(base64.b64decode(data))
    url = f"sqlite:///{tmp_path}/kept.db"
    with Ledger(url, chain="serving") as ledger:
        with ledger.transaction() as connection:
            shared = [(row["kind"], json.loads(row["content"])) for row in content["contents"]]
            put(connection, shared)
            rows = [packed_row(row, pack(row["payload"].encode())) for row in content["records"]]
            connection.exec_driver_sql(statements(connection).insert_record, rows)
        yield Kept(url, ledger, bundles, list(ledger.records("decision")))


def test_kept_ledger_is_intact(kept: Kept) -> None:
    found = verify(kept.ledger.engine)
    assert found.problems == []
    assert len(kept.decisions) >= 10
    bindings = {record.payload["decision"]["binding"] for record in kept.decisions}
    assert {"model", "cap", "dead_band", "floor", "fallback"} <= bindings


def test_every_kept_decision_replays_as_equal_or_superseded_by_changes_since(kept: Kept) -> None:
    for record in kept.decisions:
        found = replay(kept.ledger, record.id, kept.load)
        context = (record.account_id, found.differences)
        assert found.verdict in ("equal", "superseded"), context
        assert (found.verdict == "equal") == found.equal == (found.superseded_by == ()), context
        since = record.payload.get("calculation", 0)
        assert all(change.revision > since for change in found.superseded_by)


def test_kept_decisions_are_returned_as_recorded(kept: Kept, serve: Any, monkeypatch: Any) -> None:
    endpoint = serve()
    monkeypatch.setattr(endpoint.ledger, "engine", kept.ledger.engine)
    for record in kept.decisions:
        found = endpoint.client.get(f"/v1/decisions/{record.id}").json()
        assert {key: found[key] for key in record.payload["decision"]} == record.payload["decision"]
    page = endpoint.client.get("/v1/accounts/desk%2F7/decisions").json()
    assert [d["account_id"] for d in page["decisions"]] == ["desk/7"]


def test_kept_decisions_are_explained(
    kept: Kept, serve: Any, bundles: Any, monkeypatch: Any
) -> None:
    shutil.copytree(kept.bundles, bundles.root, dirs_exist_ok=True)
    endpoint = serve()
    monkeypatch.setattr(endpoint.ledger, "engine", kept.ledger.engine)
    for record in kept.decisions:
        found = endpoint.client.get(f"/v1/decisions/{record.id}/explanation").json()
        replayed = replay(kept.ledger, record.id, kept.load)
        assert found["verdict"] == replayed.verdict in ("equal", "superseded")
        assert found["differences"] == list(replayed.differences)
        assert bool(found["superseded_by"]) == (found["verdict"] == "superseded")
        assert found["explain"]["reasons"] == found["reasons"]
        recorded = record.payload["decision"]
        if "reasons" not in found["differences"]:
            assert found["reasons"] == recorded["reasons"]
        if "explain" not in found["differences"]:
            assert {key: found["explain"][key] for key in recorded["explain"]} == {
                **recorded["explain"]
            }


def test_kept_decisions_are_shown_and_replayed_on_their_pages(
    kept: Kept, serve: Any, bundles: Any, monkeypatch: Any
) -> None:
    shutil.copytree(kept.bundles, bundles.root, dirs_exist_ok=True)
    endpoint = serve()
    monkeypatch.setattr(endpoint.ledger, "engine", kept.ledger.engine)
    for record in kept.decisions:
        asked = {"id": record.id, "replay": "1"}
        page = endpoint.client.get("/decision", params=asked)
        assert page.status_code == 200, page.text
        verdict = replay(kept.ledger, record.id, kept.load).verdict
        assert f'class="state {verdict}"' in page.text
        unnamed = "did not name the marks" in page.text
        assert unnamed == ("marks" not in record.payload["decision"])
        account = endpoint.client.get("/account", params={"id": record.account_id})
        assert account.status_code == 200, account.text
        assert f"/decision?id={record.id}" in account.text


def test_kept_ledgers_are_of_each_schema_that_holds_explanations() -> None:
    kept = (json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in KEPT_LEDGERS)
    schemas = {
        json.loads(row["payload"]).get("schema", 0)
        for content in kept
        for row in content["records"]
        if row["kind"] == "decision"
    }
    assert {0, 1} <= schemas


def test_the_market_recovers_from_a_kept_ledger(kept: Kept, serve: Any, market: Any) -> None:
    bars = list(kept.ledger.records("bars"))
    assert bars
    live = market.head(150).live()
    live.recover(kept.ledger)
    assert live.newest_close is not None


def test_pace_goes_on_from_the_level_before_kept_fallbacks(kept: Kept) -> None:
    of_account = [record for record in kept.decisions if record.account_id == "two coins"]
    by_model = [r for r in of_account if r.payload["decision"]["binding"] != "fallback"]
    assert [r.payload["decision"]["binding"] for r in of_account[-2:]] == ["fallback"] * 2
    level = levels_of(LevelsInForce(kept.ledger), "two coins")["two coins"]
    assert level.amount == by_model[-1].payload["decision"]["add_on"]
    assert level.as_of == by_model[-1].as_of
    assert level.carried


def test_a_version_with_more_features_serves_the_bundle_and_replays_the_decisions(
    kept: Kept,
) -> None:
    grown = load_script("with_more_features")
    here = {r.id: replay(kept.ledger, r.id, kept.load).verdict for r in kept.decisions}
    kept.ledger.close()
    ran = subprocess.run(
        [
            sys.executable,
            str(FOLDER / "with_more_features.py"),
            kept.url,
            str(kept.bundles),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    there = json.loads(ran.stdout)
    assert there["verdicts"] == here
    decided = json.loads(json.dumps([grown.served(path) for path in kept.bundles.iterdir()]))
    assert there["served"] == decided
    assert all(one["degraded"] is None for served in decided for one in served)


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed_record(kept: Kept, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Record:
    """The first decision as if it had been recorded with other figures, or payload keys, before
    the first revision of the calculation."""
    record = next(r for r in kept.decisions if r.payload["decision"]["binding"] == "model")
    decision = {k: v for k, v in fields.items() if k in record.payload["decision"]}
    payload = (
        record.payload | {"calculation": 0} | {k: v for k, v in fields.items() if k not in decision}
    )
    other = replace(record, payload=payload | {"decision": payload["decision"] | decision})
    monkeypatch.setattr(kept.ledger, "get_record", lambda name: other)
    return other


@pytest.fixture
def one_change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Revision 1 as if it had moved the initial margin alone, by any amount."""
    change = Change(1, "0099", "another margin", frozenset({"initial_margin"}), lambda basis: True)
    monkeypatch.setattr(replay_module, "CHANGES", (change,))
    return change


def test_a_difference_that_a_change_explains_is_superseded_and_any_other_is_different(
    kept: Kept, one_change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next(r for r in kept.decisions if r.payload["decision"]["binding"] == "model")
    as_now = replay(kept.ledger, record.id, kept.load)
    now = {key: replayed for key, (_, replayed) in as_now.differences.items()}
    changed_record(kept, monkeypatch, **now, initial_margin=1.0)
    found = replay(kept.ledger, record.id, kept.load)
    assert (found.verdict, found.superseded_by) == ("superseded", (one_change,))
    changed_record(kept, monkeypatch, **now, initial_margin=1.0, equity=1.0)
    found = replay(kept.ledger, record.id, kept.load)
    assert (found.verdict, found.superseded_by) == ("different", ())
    assert set(found.differences) == {"initial_margin", "equity"}
    changed_record(kept, monkeypatch, **now, initial_margin=1.0, calculation=1)
    assert replay(kept.ledger, record.id, kept.load).verdict == "different"
    changed_record(kept, monkeypatch, **now)
    assert replay(kept.ledger, record.id, kept.load).verdict == "equal"


def test_a_change_by_rounding_alone_explains_no_more_than_rounding(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Change(1, "0099", "another order", None, lambda basis: True, rounding_only=True)
    monkeypatch.setattr(replay_module, "CHANGES", (change,))
    record = next(r for r in kept.decisions if r.payload["decision"]["binding"] == "model")
    as_now = replay(kept.ledger, record.id, kept.load)
    now = {key: replayed for key, (_, replayed) in as_now.differences.items()}
    equity = now.get("equity", record.payload["decision"]["equity"])
    for factor, verdict in ((1.0 + 1e-12, "superseded"), (1.0 + 1e-6, "different")):
        changed_record(kept, monkeypatch, **now, equity=factor * equity)
        assert replay(kept.ledger, record.id, kept.load).verdict == verdict


def test_only_recorded_keys_are_compared_at_any_depth(
    kept: Kept, one_change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next(r for r in kept.decisions if r.payload["decision"]["binding"] == "model")
    as_now = replay(kept.ledger, record.id, kept.load)
    now = {key: replayed for key, (_, replayed) in as_now.differences.items()}
    explain = dict(now.get("explain", record.payload["decision"]["explain"]))
    name = next(key for key, value in explain.items() if isinstance(value, dict) and value)
    inner = dict(explain[name])
    dropped = inner.pop(next(iter(inner)))
    changed_record(kept, monkeypatch, **now, explain=explain | {name: inner})
    assert replay(kept.ledger, record.id, kept.load).verdict == "equal"
    changed_record(kept, monkeypatch, **now, explain=explain | {name: inner | {"gone": dropped}})
    found = replay(kept.ledger, record.id, kept.load)
    assert set(found.differences) == {"explain"}
    assert found.verdict == "different"


@pytest.mark.parametrize(
    ("fields", "code", "verdict"),
    [
        ({}, 0, "equal"),
        ({"initial_margin": 1.0}, 0, "superseded"),
        ({"equity": 1.0}, 4, "different"),
    ],
)
def test_the_command_exits_4_only_for_a_difference_that_nothing_explains(
    fields: dict[str, float],
    code: int,
    verdict: str,
    kept: Kept,
    one_change: Change,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = next(r for r in kept.decisions if r.payload["decision"]["binding"] == "model")
    as_now = replay(kept.ledger, record.id, kept.load)
    now = {key: replayed for key, (_, replayed) in as_now.differences.items()}
    other = changed_record(kept, monkeypatch, **now | fields)
    monkeypatch.setattr(Ledger, "get_record", lambda self, name: other)
    config, out = tmp_path / "margincast.toml", tmp_path / "replay.json"
    config.write_text(f'[serving]\nbundles = "{kept.bundles}"\n[ledger]\nurl = "{kept.url}"\n')
    ran = CliRunner().invoke(
        app, ["ledger", "replay", record.id, "--config", str(config), "--json", str(out)]
    )
    assert ran.exit_code == code, ran.output
    report = json.loads(out.read_text())
    assert report["verdict"] == verdict
    named = [{"adr": "0099", "title": "another margin"}] if verdict == "superseded" else []
    assert report["superseded_by"] == named
    assert ("ADR 0099: another margin" in ran.output) == (verdict == "superseded")


def test_changes_are_in_order_and_named_by_their_decision_records() -> None:
    assert [change.revision for change in CHANGES] == sorted(c.revision for c in CHANGES)
    assert max(change.revision for change in CHANGES) == CALCULATION
    assert all(len(change.adr) == 4 and change.adr.isdigit() for change in CHANGES)
