"""The pro-forma report: figures account by account, the verb, and the adoption that names it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from decisions.decision import decide
from decisions.messages import Decision
from ledger.store import Ledger
from margin.rules.ruleset import load_ruleset, ruleset_from_content
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.config.config import load_config
from pipelines.data.accounts import sample_book
from pipelines.data.loaders import read_market
from pipelines.pro_forma.comparison import Regime, compare_regimes
from pipelines.pro_forma.page import pro_forma_page
from pipelines.registry.rule_adoption import ADOPTION, promote_rules
from pipelines.rulesets.rulesets_import import ruleset_toml

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
TrainedMarket: TypeAlias = Any
Workspace: TypeAlias = Any

COUNT = 60


def raised(**add_on: Any) -> dict[str, Any]:
    """The default rules with maintenance of 3% in the place of 2%."""
    content = load_ruleset("linear-tiers").content()
    content["version"] = "2"
    content["tier"]["brackets"][0]["maintenance_rate"] = 0.03
    content["add_on"] |= add_on
    return content


def written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(ruleset_toml(ruleset_from_content(content)))
    return path


def test_figures_are_those_of_the_decisions(trained: TrainedMarket) -> None:
    config = load_config(trained.workspace.config)
    accounts, snapshot = sample_book(config, read_market(config), COUNT)
    model = Forecaster(load_bundle(trained.workspace.bundles / trained.champion))
    rules, other = load_ruleset("linear-tiers"), ruleset_from_content(raised())
    found = compare_regimes(accounts, snapshot, Regime(rules, None), Regime(other, model))
    before = decide(accounts, snapshot, rules, None, {})
    after = decide(accounts, snapshot, other, model, {})
    pairs = [
        (a, b)
        for a, b in zip(before, after, strict=True)
        if isinstance(a, Decision) and isinstance(b, Decision)
    ]
    assert found.account_ids == [a.account_id for a, _ in pairs]
    assert found.before.tolist() == [a.total_requirement for a, _ in pairs]
    assert found.after.tolist() == [b.total_requirement for _, b in pairs]
    assert found.binding_after == [b.binding for _, b in pairs]
    plain = found.to_dict()
    assert plain["calls"]["before"] == sum(a.deposit_to_meet > 0.0 for a, _ in pairs)
    new = [b for a, b in pairs if b.deposit_to_meet > 0.0 and a.deposit_to_meet == 0.0]
    assert plain["calls"]["new"] == len(new) > 0
    assert plain["calls"]["deposit_of_new"] == pytest.approx(sum(b.deposit_to_meet for b in new))
    assert plain["requirement"]["relative"] == found.change
    for name in ("before", "after"):
        total = plain["requirement"][name]
        assert sum(coin[name] for coin in plain["coins"]) == pytest.approx(total)
    for name, total in (("accounts", len(pairs)), ("change", plain["requirement"]["change"])):
        assert sum(row[name] for row in plain["bindings"]) == pytest.approx(total)
    changes = [row["change"] for row in plain["worst"]]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] == plain["change_by_account"]["most"]
    reverse = compare_regimes(accounts, snapshot, Regime(other, model), Regime(rules, None))
    calls = reverse.to_dict()["calls"]
    assert (calls["ended"], calls["new"]) == (len(new), 0)


def test_report_of_rules_with_a_phase_in(trained: TrainedMarket, tmp_path: Path) -> None:
    workspace, out = trained.workspace, tmp_path / "report.html"
    phase_in = {"starts": "2100-01-01T00:00:00Z", "ends": "2100-02-01T00:00:00Z"}
    rules = written(tmp_path / "2.toml", raised(phase_in=phase_in))
    report = workspace.report("report", "pro-forma", "--rules", rules, "--out", out)
    assert report["book"]["source"] == "sampled"
    assert report["incumbent"]["bundle"] == report["candidate"]["bundle"] == trained.champion
    assert report["candidate"]["model_weight"] == 0.0
    day_one, end = report["day_one"], report["end_of_phase_in"]
    assert {row["after"] for row in day_one["bindings"]} <= {"floor", "fallback"}
    assert day_one["requirement"]["after"] < end["requirement"]["after"]
    assert day_one["requirement"]["before"] == end["requirement"]["before"]
    page = out.read_text()
    assert "At the end of the phase-in" in page
    assert day_one["worst"][0]["account_id"] in page
    report["candidate"]["version"] = "<b>"
    assert "<b>" not in pro_forma_page(report)


def test_report_of_a_model_on_account_files(workspace: Workspace) -> None:
    bundle = workspace.bundles / workspace.champion
    (workspace.bundles / "champion").unlink()
    out = workspace.folder / "report.csv"
    as_of = load_bundle(bundle).manifest["training"]["span_ns"][1]
    time = str(np.datetime64(int(as_of), "ns").astype("datetime64[h]")) + ":00:00Z"
    report = workspace.report(
        *("report", "pro-forma", "--bundle", bundle, "--out", out),
        *("--accounts", workspace.accounts, "--as-of", time),
    )
    assert report["incumbent"]["bundle"] is None
    assert report["end_of_phase_in"] is None
    part = report["day_one"]
    assert part["requirement"]["change"] > 0.0, "rules only, then the model's add-on"
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == part["accounts"]
    assert sum(float(row["after"]) for row in rows) == pytest.approx(part["requirement"]["after"])


def test_impossible_reports_are_refused(trained: TrainedMarket, tmp_path: Path) -> None:
    workspace = trained.workspace

    def refusal(*options: str | Path, out: str = "report.html") -> str:
        text: str = workspace.refusal("report", "pro-forma", "--out", tmp_path / out, *options)
        return text

    assert "nothing would change" in refusal("--rules", "linear-tiers")
    assert ".html, .csv" in refusal(out="report.pdf")
    assert "go together" in refusal("--as-of", "2025-01-01T00:00:00Z")
    assert "is not known" in refusal("--rules", "nobodys")


def test_adoption_names_the_same_figures(workspace: Workspace) -> None:
    rules = written(workspace.folder / "2.toml", raised())
    report = workspace.report(
        "report", "pro-forma", "--rules", rules, "--out", workspace.folder / "report.html"
    )
    workspace.config.write_text(f'{workspace.config.read_text()}\n[rules]\nruleset = "{rules}"\n')
    calls, part = report["day_one"]["calls"], report["day_one"]
    refusal = workspace.refusal("serve")
    assert f"{part['changed']:,} of {part['accounts']:,} accounts change" in refusal
    assert f"{calls['new']:,} are called at once" in refusal
    config = load_config(workspace.config)
    (change,) = promote_rules(config, "reviewed")["changes"]
    assert change["pro_forma"]["requirement"] == part["requirement"]
    assert change["change"] == part["requirement"]["relative"]
    with Ledger(config.ledger.url) as ledger:
        recorded = [record.payload for record in ledger.records(ADOPTION)][-1]["changes"]
    assert recorded[0]["pro_forma"]["calls"] == calls
