"""``drift`` and ``schedule`` as their users run them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest

from ledger.store import Ledger
from market.core.clock import DAY, format_time, parse_time
from models.bundle.bundle import MANIFEST_FILE, load_bundle, write_bundle
from models.drift.reference_file import REFERENCE_FILE
from pipelines.scheduler.schedule_state import JobState, ScheduleState
from serving.telemetry.metrics.watch import STORED_SECONDS

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any
Endpoint: TypeAlias = Any

# Accounts of one coin each, floors so low and a level so high that two weeks of them are an alarm.
ANXIOUS = {
    "MARGINCAST__ACCOUNTS__POPULATION": "one-coin-v1",
    "MARGINCAST__DRIFT__DISTRIBUTION": "0.0001",
    "MARGINCAST__DRIFT__LEVEL": "0.99",
}


@pytest.fixture(scope="module")
def report(trained: TrainedMarket) -> dict[str, Any]:
    found: dict[str, Any] = trained.workspace.report("drift", code=(0, 5))
    return found


def test_champion_is_compared_with_its_training(
    trained: TrainedMarket, report: dict[str, Any]
) -> None:
    assert report["bundle"] == trained.champion
    assert report["source"] == "data"
    assert report["verdict"] in {"stable", "drift", "undecided"}
    training = load_bundle(trained.workspace.bundles / trained.champion).manifest["training"]
    ends = training["ends_ns"]
    trained_to, first = (
        parse_time(part["span"][i])
        for part, i in ((report["reference"], 1), (report["current"], 0))
    )
    assert trained_to < ends[1] <= first, "no row is on both sides"
    purged = training["sample"]["uniform"] - sum(
        report[part]["rows"] for part in ("reference", "current")
    )
    assert 0 <= purged <= 0.1 * training["sample"]["uniform"], "all others of the uniform draw"
    assert report["current"]["rows"] == trained.retrained["rows"]["test"]
    kinds = {monitor["kind"] for monitor in report["monitors"].values()}
    assert kinds == {"feature", "missing", "score", "labels"}
    for hours, horizon in trained.retrained["evaluation"]["horizons"].items():
        monitor = report["monitors"][f"observed_over_predicted_{hours}h"]
        ratio = 1.0 / horizon["predicted_over_observed"]
        assert monitor["current"] == pytest.approx(ratio, rel=0.15), "but for the halves added"


def test_drift_exits_5_and_sends_a_notification(workspace: Workspace) -> None:
    heard = workspace.folder / "heard.json"
    notify = json.dumps(["/bin/cp", "/dev/stdin", str(heard)])
    found = workspace.report("drift", code=5, MARGINCAST__NOTIFY__COMMAND=notify, **ANXIOUS)
    assert found["verdict"] == "drift"
    assert found["drifted"]
    notification = json.loads(heard.read_text())
    assert notification["events"] == ["drift"]
    assert notification["drift"]["drifted"] == found["drifted"]
    assert workspace.report("ledger", "verify")["intact"]


def test_the_metrics_of_a_running_endpoint_show_the_newest_verdict_on_the_champion(
    workspace: Workspace, trained: TrainedMarket, serve: Callable[..., Endpoint]
) -> None:
    begin = "margincast_last_drift_info{"

    def shown(endpoint: Endpoint) -> list[str]:
        lines = endpoint.client.get("/metrics").text.splitlines()
        return [line for line in lines if line.startswith(begin)]

    own = {
        "MARGINCAST__LEDGER__URL": "sqlite:///var/own.db",
        "MARGINCAST__SERVING__AUTH": "off",
        "MARGINCAST__SERVING__WORKERS": "2",
    }
    endpoint = serve(workspace, **own)
    assert shown(endpoint) == [], "nothing was recorded in this ledger"
    started = time.time()
    workspace.report("drift", code=5, **own, **ANXIOUS)
    deadline = time.monotonic() + 3 * STORED_SECONDS + 120.0
    while shown(endpoint) != [f'{begin}verdict="drift"}} 1.0']:
        assert time.monotonic() < deadline, shown(endpoint)
        time.sleep(0.5)
    (checked,) = re.findall(
        r"^margincast_last_drift_seconds (\S+)$", endpoint.client.get("/metrics").text, re.MULTILINE
    )
    assert started < float(checked) < time.time()
    bundle = load_bundle(workspace.bundles / trained.champion)
    files = {name: bundle.read(name) for name in bundle.checksums if name != REFERENCE_FILE}
    other = workspace.bundles / write_bundle(workspace.bundles, files)
    workspace.report("drift", "--bundle", other, **own)
    verify = workspace.report("ledger", "verify", **own)
    assert verify["intact"]
    with Ledger(f"sqlite:///{workspace.folder}/var/own.db", chain="registry") as ledger:
        verdicts = [record.payload["verdict"] for record in ledger.records("drift")]
    assert verdicts == ["drift"], "a bundle that does not serve is not shown"


def test_recent_days_narrow_what_is_looked_at(
    trained: TrainedMarket, report: dict[str, Any]
) -> None:
    narrow = trained.workspace.report("drift", code=(0, 5), MARGINCAST__DRIFT__RECENT_DAYS="2")
    first, last = map(parse_time, narrow["current"]["span"])
    assert last - first < 2 * DAY
    assert last == parse_time(report["current"]["span"][1])


def test_recorded_decisions_are_looked_at_with_the_labels_that_matured(
    trained: TrainedMarket, workspace: Workspace
) -> None:
    out = workspace.folder / "scored.parquet"
    score = ("score", "--accounts", workspace.accounts, "--out", out, "--record", "--as-of")
    assert "has no decision of bundle" in workspace.refusal("drift", "--recorded")
    day = parse_time(trained.newest) - 3 * DAY
    scored = workspace.report(*score, format_time(day + 1_800 * 10**9))
    workspace.run(*score, trained.newest)  # too young to have matured
    found = workspace.report("drift", "--recorded", code=(0, 5))
    assert found["source"] == "ledger"
    assert found["current"]["span"] == [format_time(day), format_time(day)]
    assert 0 < found["current"]["rows"] <= scored["decisions"]
    assert found["current"]["rows"] > 0.8 * scored["decisions"], "but those already called"


def test_bundle_without_a_reference_is_unavailable(
    trained: TrainedMarket, workspace: Workspace
) -> None:
    bundle = load_bundle(workspace.bundles / trained.champion)
    files = {name: bundle.read(name) for name in bundle.checksums if name != REFERENCE_FILE}
    assert MANIFEST_FILE in files
    older = workspace.bundles / write_bundle(workspace.bundles, files)
    found = workspace.report("drift", "--bundle", older)
    assert found["verdict"] == "unavailable"
    assert "reference.json" in found["reason"]


def test_champion_of_other_horizons_does_not_fail_a_retraining(
    trained: TrainedMarket,
) -> None:
    found = trained.workspace.report("drift", MARGINCAST__TRAINING__HORIZONS="[1, 8]")
    assert found["verdict"] == "unavailable"
    assert "[1, 8]" in found["reason"]


def test_schedule_runs_the_real_verb_that_is_due_and_prints_what_comes_next(
    workspace: Workspace,
) -> None:
    settings = {
        "MARGINCAST__SCHEDULE__CRON": "",
        "MARGINCAST__SCHEDULE__DRIFT_CRON": "0 4 * * *",
        "MARGINCAST__SCHEDULE__MISFIRE_GRACE": "90000",
    }
    (moment,) = workspace.report("schedule", "--next", "1", **settings)["drift"]
    assert datetime.fromisoformat(moment).hour == 4
    state = ScheduleState(workspace.bundles.parent / "schedule" / "state.json")
    due = datetime.now(UTC) - timedelta(hours=3)
    state.put("drift", JobState("0 4 * * * UTC", due.isoformat()))
    job = workspace.report("schedule", "--once", **settings)["jobs"]["drift"]
    assert job["last"]["exit"] in {0, 5}
    assert job["last"]["verdict"] in {"stable", "drift", "undecided"}
    assert job["last"]["bundle"] == workspace.champion
    assert datetime.fromisoformat(job["next"]) > datetime.now(UTC)
