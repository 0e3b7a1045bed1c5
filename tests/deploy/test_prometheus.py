"""Dashboard and alerts on a real service: two workers, a kill, and Prometheus where it is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.http.ports import free_port
from ledger.records import Entry
from ledger.store import Ledger
from tests.enforcement.delivery.receiver import call_event, put

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "margincast.json"
PAGE = ROOT / "docs" / "operations.md"
MARGINCAST = str(Path(sys.executable).parent / "margincast")
WAIT_SECONDS = 240.0
SCORES = 100
ACCOUNT = {"cash": 3_000.0, "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}]}

CONFIG = """
[simulate]
days = 12
symbols = 3
[serving]
bundles = "var/bundles"
clock = "market"
auth = "off"
workers = 2
[ledger]
url = "sqlite:///var/ledger.db"
heads_dir = "var/heads"
[logging]
format = "json"
"""

_NAME = re.compile(r"\b(?:margincast_\w+|up)\b")
_SAMPLE = re.compile(r"^(margincast_\w+)(?:\{(.*?)\})? (\S+)$")


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


class Service:
    """``margincast serve`` with two workers, after some scores."""

    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.url = f"http://127.0.0.1:{self.port}"
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [MARGINCAST, "serve", "--port", str(self.port)], cwd=folder, stderr=log
            )

    def ready(self) -> bool:
        try:
            ready = httpx.get(f"{self.url}/health/ready", timeout=WAIT_SECONDS)
            return ready.status_code == 200
        except httpx.HTTPError:
            return False

    def score(self, count: int) -> None:
        for i in range(count):  # each on a connection of its own: any worker may get it
            body = {"accounts": [ACCOUNT | {"account_id": f"acc-{i}"}]}
            answer = httpx.post(f"{self.url}/v1/score", json=body, timeout=WAIT_SECONDS)
            assert answer.status_code == 200, answer.text

    def series(self) -> dict[tuple[str, str], float]:
        text = httpx.get(f"{self.url}/metrics", timeout=WAIT_SECONDS).text
        found = [match for match in map(_SAMPLE.match, text.splitlines()) if match]
        return {(m[1], m[2] or ""): float(m[3]) for m in found}

    def total(self, name: str) -> float:
        return sum(value for (found, _), value in self.series().items() if found == name)

    def lines(self) -> list[dict[str, Any]]:
        whole, _, _ = (self.folder / "log").read_text().rpartition("\n")  # one may be half there
        return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, made_bundles: tuple[Path, str]
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "margincast.toml").write_text(CONFIG)
    shutil.copytree(made_bundles[0], folder / "var" / "bundles")
    heads = folder / "var" / "heads"
    heads.mkdir()
    (heads / "heads-00000001.json").write_text("{}")
    (heads / ".copied").write_text("")
    with Ledger(f"sqlite:///{folder}/var/ledger.db", chain="registry") as ledger:
        ledger.append([Entry("retrain", {"verdict": "kept", "drift": "stable"})])
        put(ledger, [call_event("acc-0", 1)], ["venue"])
    running = Service(folder)
    try:
        wait_for(running.ready, "the service is not ready")
        wait_for(
            lambda: (
                ("margincast_last_retrain_info", 'verdict="kept",drift="stable"')
                in running.series()
                or ("margincast_last_retrain_info", 'drift="stable",verdict="kept"')
                in running.series()
            ),
            "the state of disk and ledger is not shown",
        )
        running.score(SCORES)
        yield running
    finally:
        running.process.terminate()
        running.process.wait(WAIT_SECONDS)


def expressions() -> Iterator[tuple[str, str]]:
    """Title and expression of each panel's targets, and the text of the alerts."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    yield ALERTS.name, ALERTS.read_text()


def test_every_worker_answers_for_all_and_a_kill_loses_no_count(service: Service) -> None:
    name = "margincast_decisions_total"
    made = service.total(name)
    assert made >= SCORES
    for _ in range(12):
        assert service.total(name) == made
        assert service.total("margincast_probability_count") == 3 * made
    live = {labels for (found, labels) in service.series() if found == "margincast_ready"}
    assert live == {'worker="1"', 'worker="2"'}
    (victim,) = {line["pid"] for line in service.lines() if line.get("worker") == 2}
    before = service.series()
    os.kill(victim, signal.SIGKILL)
    wait_for(
        lambda: len({line["pid"] for line in service.lines() if line.get("worker") == 2}) == 2,
        "the worker is not restarted",
    )
    wait_for(service.ready, "the service is not ready again")
    after = service.series()
    gone = {
        series: (value, after.get(series))
        for series, value in before.items()
        if series[0].endswith(("_total", "_count", "_sum", "_bucket"))
        and after.get(series, -1.0) < value
    }
    assert not gone
    service.score(10)
    wait_for(lambda: service.total(name) == made + 10, "the new worker does not count on")


def test_every_line_of_both_workers_is_json_with_its_worker(service: Service) -> None:
    lines = service.lines()
    requests = [line for line in lines if line["logger"] == "margincast.access"]
    assert {line["worker"] for line in requests} == {1, 2}, "of a hundred connections"
    assert sum(line["route"] == "/v1/score" for line in requests) >= SCORES
    assert all({"time", "level", "logger", "pid"} <= line.keys() for line in lines)


def test_dashboard_and_alerts_use_what_the_endpoint_shows(service: Service) -> None:
    shown = {name for name, _ in service.series()} | {"up"}
    unknown = {
        (title, name)
        for title, expression in expressions()
        for name in _NAME.findall(expression)
        if name not in shown
    }
    assert not unknown
    assert len(list(expressions())) > 40


def test_the_page_lists_every_metric_and_every_alert(service: Service) -> None:
    page = PAGE.read_text(encoding="utf-8")
    text = httpx.get(f"{service.url}/metrics", timeout=WAIT_SECONDS).text
    families = re.findall(r"^# TYPE (margincast_\w+) ", text, re.MULTILINE)
    assert len(families) > 40
    assert not [name for name in families if f"`{name}`" not in page]
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert not [name for name in alerts if f"`{name}`" not in page]


def test_an_event_that_waits_for_a_sink_is_shown_with_its_age(service: Service) -> None:
    shown = service.series()
    waiting = {labels: value for (name, labels), value in shown.items() if "notifications" in name}
    assert waiting == {
        f'sink="venue",status="{status}"': float(status == "pending")
        for status in ("pending", "dead", "delivered", "skipped")
    }
    assert shown["margincast_notification_age_seconds", 'sink="venue"'] > 1e9  # created in 1970


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; the package prometheus of Debian has it")
    return found


def promtool(*arguments: str) -> str:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_rules_and_configuration() -> None:
    assert "23 rules found" in promtool("check", "rules", str(ALERTS))
    promtool("check", "config", str(ALERTS.parent / "prometheus.yml"))


def test_each_alert_is_raised_when_it_must_and_only_then() -> None:
    cases = Path(__file__).with_name("alerts_test.yml")
    promtool("test", "rules", str(cases))
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    for name in alerts:
        for wanted in ("raised", "not raised"):
            assert f"name: {name} is {wanted}\n" in cases.read_text(), name


def test_every_panel_has_data_after_some_scores(service: Service, tmp_path: Path) -> None:
    program, port = tool("prometheus"), free_port()
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text())
    (tmp_path / "prometheus.yml").write_text(
        "global: { scrape_interval: 1s, evaluation_interval: 1s }\n"
        "rule_files: [alerts.yml]\n"
        "scrape_configs:\n  - job_name: margincast\n    static_configs:\n"
        f'      - targets: ["127.0.0.1:{service.port}"]\n'
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=log,
        )
    try:

        def ask(expression: str) -> list[float]:
            for variable, value in (("$job", ".*"), ("$__rate_interval", "1m")):
                expression = expression.replace(variable, value)
            answer = httpx.get(
                f"http://127.0.0.1:{port}/api/v1/query",
                params={"query": expression},
                timeout=WAIT_SECONDS,
            )
            answer.raise_for_status()
            return [float(series["value"][1]) for series in answer.json()["data"]["result"]]

        def scraped() -> bool:
            try:
                return bool(ask("margincast_build_info"))
            except httpx.HTTPError:
                return False

        wait_for(scraped, "Prometheus has no figures")
        service.score(20)
        empty: list[str] = []

        def shows_all() -> bool:
            """Whether every panel has a number: rates need some scrapes after the scores."""
            empty[:] = [
                panel["title"]
                for panel in json.loads(DASHBOARD.read_text())["panels"]
                if panel["type"] != "row"
                and not any(
                    value == value
                    for target in panel.get("targets", ())
                    for value in ask(target["expr"])
                )
            ]
            return not empty

        deadline = time.monotonic() + WAIT_SECONDS
        while not shows_all():
            assert time.monotonic() < deadline, empty
            time.sleep(0.5)
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)
