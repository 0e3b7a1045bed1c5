"""What every verb prints when it really runs: text of 80 columns, or one JSON document alone.

A verb that `RUNS` lacks fails the first test.
"""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from market.core.clock import DAY, format_time, parse_time
from pipelines.cli.main import app
from pipelines.reports import report
from tests.pipelines.cli.test_cli import CASE as LINEAR_CASE
from tests.pipelines.jobs.fits.test_surface import made as write_chains
from tests.pipelines.ledger_reports.helpers import FIRST_CALL, RecordedDays
from tests.pipelines.rulesets.test_depth import books, write as write_books
from tests.pipelines.rulesets.test_rulesets_import import table, write as write_brackets

# Defined in conftest.py, which pytest does not let us import.
TrainedMarket: TypeAlias = Any

CASE = {"id": "one", **LINEAR_CASE}

ACCOUNTS = "--accounts simulated/accounts"
BUNDLE = "--bundle var/bundles/champion"
CASES = "--cases cases.jsonl --out NEW.jsonl"
WEEK = "--from RECORDED_FROM --to RECORDED_TO"

RUNS: Mapping[str, str] = {
    "init": "",
    "run": "--once",
    "data": ACCOUNTS,
    "simulate": "--out NEW",
    "score": f"{ACCOUNTS} --out NEW.parquet --record",
    "warm-up": "",
    "schedule": "--next 3",
    "retrain": "",
    "evaluate": f"{BUNDLE} --out NEW.html",
    "backtest": f"{BUNDLE} --out NEW.html",
    "policy": f"{BUNDLE} --out NEW.toml",
    "review": "--out NEW.html",
    "promote": "CHAMPION --override small-sample",
    "rollback": "",
    "drift": "--out NEW.html",
    "features": "--out NEW.parquet --column prior_logit_8h",
    "fit-volatility": "--end 2025-02-25 --out NEW.json",
    "surface": "chains",
    "lifecycle": f"{ACCOUNTS} --from DAY_BEFORE --to NEWEST",
    **dict.fromkeys(("margin", "explain", "what-if", "liquidation"), CASES),
    "rulesets list": "",
    "rulesets depth": "books.parquet --out NEW.toml",
    "rulesets import": "record.parquet --out NEW",
    "ledger upgrade": "",
    "ledger verify": "",
    "ledger heads": "--out NEW",
    "ledger keygen": "",
    "ledger replay": "DECISION",
    "ledger archive": "--before 2025-01-01 --out NEW",
    "ledger prune": "",
    "ledger backup": "--out NEW.db",
    "keys add": "--scopes score,market,accounts,read --label a-desk-with-a-long-name",
    "keys list": "",
    "keys rotate": "KEY --overlap 24h",
    "keys revoke": "KEY",
    "report pro-forma": "--rules emir-tiers --out NEW.html",
    "report scheduled": "",
    "report client-statement": f"{WEEK} --account client-03 --out NEW.html",
    "report call-notice": f"{WEEK} --call CALL --out NEW.html",
    **{
        f"report {kind}": f"{WEEK} --out NEW.html"
        for kind in (
            *("daily-margin", "calls", "coverage", "procyclicality", "concentration"),
            *("overrides", "change-events", "audit-extract"),
        )
    },
}
"""Options with which each verb runs; words in capitals are replaced, see `Market.words`."""

ENDLESS = {"serve", "monitor"}
"""Verbs that run until a signal, and have neither tables nor a result."""

JOBS = {
    "retrain": "pipelines.jobs.retrain.retrain",
    "run": "pipelines.jobs.retrain.retrain",
    "rollback": "pipelines.registry.promotion.rollback",
    "evaluate": "pipelines.jobs.evaluate.evaluate_bundle",
    "backtest": "pipelines.jobs.backtest.backtest_bundle",
    "policy": "pipelines.jobs.fits.policy.choose_policy",
    "drift": "pipelines.jobs.drift.check_drift",
}
"""Long jobs: they run once, with ``--json -``, and the tables are of the same report.

The training is that of the fixture `trained`, which reads its JSON from stdout too.
"""

EXIT_CODES = {"drift": 5, "retrain": 3, "run": 3}
"""With which code a verb may end, beside 0, for what it found in so small a market."""

SETTINGS = {"fit-volatility": {"MARGINCAST__SIMULATE__DAYS": "60"}}
"""What a verb needs beside the configuration of all."""


def verbs() -> Iterator[str]:
    """Every verb that the app has."""

    def of(group: Any, prefix: str) -> Iterator[str]:
        for name, command in group.commands.items():
            inner = hasattr(command, "commands")
            yield from of(command, f"{prefix}{name} ") if inner else (prefix + name,)

    from typer.main import get_command

    yield from of(get_command(app), "")


@dataclass
class Market:
    """A trained market in which every verb can run any number of times."""

    folder: Path
    newest: str
    champion: str
    recorded: RecordedDays
    reports: dict[str, dict[str, Any]]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, verb: str, *options: str, patch: pytest.MonkeyPatch) -> Result:
        """A run of a verb that ends as it should."""
        if verb == "report scheduled" or WEEK in RUNS[verb]:
            patch.setenv("MARGINCAST__LEDGER__URL", self.recorded.url)
        for name, value in SETTINGS.get(verb, {}).items():
            patch.setenv(name, value)
        if verb in JOBS:
            module, _, function = JOBS[verb].rpartition(".")
            job = getattr(importlib.import_module(module), function)

            def once(*arguments: Any, **options: Any) -> dict[str, Any]:
                if verb not in self.reports:
                    self.reports[verb] = job(*arguments, **options)
                return self.reports[verb]

            patch.setattr(JOBS[verb], once)
        patch.chdir(self._new("init") if verb == "init" else self.folder)
        words = [self._word(word) for word in RUNS[verb].split()]
        done = CliRunner().invoke(app, [*verb.split(), *words, *options], catch_exceptions=False)
        assert done.exit_code in {0, EXIT_CODES.get(verb, 0)}, done.output
        return done

    def _new(self, name: str) -> Path:
        folder = self.folder / f"{name}-{next(self.numbers)}"
        folder.mkdir()
        return folder

    def _word(self, word: str) -> str:
        if word.startswith("NEW") and word != "NEWEST":
            return f"new-{next(self.numbers)}{word.removeprefix('NEW')}"
        replace: dict[str, Callable[[], str]] = {
            "NEWEST": lambda: self.newest,
            "DAY_BEFORE": lambda: format_time(parse_time(self.newest) - DAY),
            "RECORDED_FROM": lambda: format_time(self.recorded.span.start),
            "RECORDED_TO": lambda: format_time(self.recorded.span.end),
            "DECISION": self._decision,
            "CALL": lambda: FIRST_CALL,
            "CHAMPION": lambda: self.champion,
            "KEY": self._key,
        }
        return replace.get(word, lambda: word)()

    def _decision(self) -> str:
        return str(pq.read_table(self.folder / "recorded.parquet")["decision_id"][0])

    def _key(self) -> str:
        added = CliRunner().invoke(app, ["keys", "add", "--scopes", "read", "--json", "-"])
        return str(json.loads(added.stdout)["key_id"])


@pytest.fixture(scope="module")
def verb_market(
    trained: TrainedMarket, days: RecordedDays, tmp_path_factory: pytest.TempPathFactory
) -> Market:
    folder = tmp_path_factory.mktemp("output") / "copy"
    workspace = trained.workspace.copied(folder)
    shutil.copy(trained.workspace.folder / "var" / "dataset.parquet", folder / "var")
    workspace.run("score", *ACCOUNTS.split(), "--out", "recorded.parquet", "--record")
    (folder / "cases.jsonl").write_text(json.dumps(CASE) + "\n")
    write_chains(folder / "chains")
    write_books(folder, books("BTC", 301, 1))
    write_brackets(folder, table(0, "BTC/USDT"), table(1, "BTC/USDT", (0.02, 0.05)))
    champions = {"champion": trained.champion, "previous": trained.champion}
    known = {"retrain": trained.retrained, "run": trained.retrained, "rollback": champions}
    return Market(folder, trained.newest, trained.champion, days, known)


def test_every_verb_of_the_app_is_run_here() -> None:
    assert set(verbs()) == RUNS.keys() | ENDLESS


@pytest.mark.parametrize("verb", RUNS)
def test_json_is_alone_on_stdout(
    verb_market: Market, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = verb_market.run(verb, "--json", "-", patch=monkeypatch)
    assert isinstance(json.loads(done.stdout), dict)
    assert "\x1b" not in done.output


@pytest.mark.parametrize("verb", RUNS)
def test_what_it_prints_fits_80_columns_and_cuts_nothing(
    verb_market: Market, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.console, "width", 80)
    done = verb_market.run(verb, patch=monkeypatch)
    lines = done.stdout.splitlines()
    assert lines, "a verb that did something says what"
    assert [line for line in lines if len(line) > 80] == []
    assert "…" not in done.stdout
    assert "\x1b" not in done.output
