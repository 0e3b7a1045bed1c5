"""The verbs as processes: exit codes, reports, files, and one clear line for what goes wrong."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market.core.clock import HOUR, format_time, parse_time
from models.bundle.bundle import write_bundle
from models.bundle.schema import canonical_json

SHA256 = re.compile(r"[0-9a-f]{64}")
EVALUATION = {
    "bundle",
    "span",
    "rows",
    "dropped",
    "symbols",
    "overlap_with_training_hours",
    "data",
    "horizons",
}
HORIZON = {
    "base_rate",
    "positives",
    "models",
    "best_baseline",
    "log_loss_skill",
    "log_loss_skill_ci95",
    "oracle_gap_closed",
}
BASELINES = {
    "margin_ratio",
    "lagged_breaches",
    "first_passage",
    "first_passage_isotonic",
    "logistic_distance",
    "lightgbm_plain",
}
FIGURES = {
    "auc",
    "average_precision",
    "brier",
    "brier_skill",
    "log_loss",
    "ece",
    "ece_over_base_rate",
    "calibration_slope",
    "calibration_intercept",
    "top_decile_ratio",
}
RETRAIN = {
    "verdict",
    "reasons",
    "bundle",
    "champion",
    "mlflow_run",
    "data_sha256",
    "ruleset_sha256",
    "rows",
    "gates",
    "seconds",
    "evaluation",
}
POLICIES = {
    "margincast",
    "margincast_with_hysteresis",
    "margincast_with_hysteresis_uncapped",
    "flat",
    "sigma_ewma_volatility_12h",
    "sigma_ewma_volatility_72h",
    "sigma_realised_volatility_24h",
    "sigma_realised_volatility_168h",
    "sigma_yang_zhang_volatility_24h",
    "sigma_long_volatility",
    "emir_buffer",
    "volatility_oracle",
}
UNCOVERED = {
    "uncovered",
    "breach_rate",
    "ratio_to_flat",
    "ratio_to_flat_ci95",
    "ratio_to_best_simple",
    "ratio_to_best_simple_ci95",
}
CALLERS = {
    "margincast",
    "margincast_with_hysteresis",
    "none",
    "flat",
    "best_simple",
    "volatility_oracle",
}
CALLS = {
    "calls",
    "needed",
    "in_vain",
    "prevented_breaches",
    "missed_breaches",
    "collected",
    "median_lead_hours",
    "flips_per_account_day",
}
DECISION = {
    "decision_id",
    "account_id",
    "as_of",
    "equity",
    "initial_margin",
    "maintenance_margin",
    "headroom",
    "add_on",
    "total_requirement",
    "deposit_to_meet",
    "floor",
    "model_add_on",
    "cap",
    "binding",
    "degraded",
    "reasons",
    "model",
    "ruleset",
}
CASE: dict[str, Any] = {
    "portfolio": {
        "cash": 1_000.0,
        "stable_price": 1.0,
        "underlyings": {"BTC": {"spot": 100_000.0, "perp_price": 100_000.0, "expiries": []}},
        "positions": [
            {"kind": "perp", "underlying": "BTC", "quantity": 0.1, "entry_price": 100_000.0}
        ],
        "collateral": [],
    },
    "ruleset": "linear-tiers",
}


# Fixtures live in conftest.py, which no test can import: their classes are Any here.
NO_REVIEW = {
    "MARGINCAST__REVIEW__FOLDS": "0",
    "MARGINCAST__REVIEW__ABLATION": "false",
    "MARGINCAST__REVIEW__BACKTEST": "false",
}
"""What a retraining does for its review alone takes time, and must not change the bundle."""

Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any


@dataclass(frozen=True)
class Scored:
    """A trained workspace and its book, scored and recorded. Shared: do not change it."""

    workspace: Workspace
    report: dict[str, Any]
    table: pa.Table
    heads: Path

    @property
    def decision_id(self) -> str:
        name: str = self.table["decision_id"][0].as_py()
        return name


@pytest.fixture(scope="module")
def scored(trained: TrainedMarket, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    workspace = trained.workspace.copied(tmp_path_factory.mktemp("scored") / "copy")
    out, heads = workspace.folder / "scored.parquet", workspace.folder / "heads.json"
    report = workspace.report(
        "score",
        "--accounts",
        workspace.accounts,
        "--as-of",
        trained.newest,
        "--out",
        out,
        "--record",
    )
    workspace.run("ledger", "heads", "--out", heads)
    return Scored(workspace, report, pq.read_table(out), heads)


@pytest.fixture
def audited(scored: Scored, tmp_path: Path) -> Workspace:
    """A copy whose ledger a test may falsify; it holds the decisions of `scored`."""
    return scored.workspace.copied(tmp_path / "copy")


def check_evaluation(report: Mapping[str, Any]) -> None:
    assert report.keys() >= EVALUATION
    assert report["dropped"].keys() >= {"warm_up", "already_called", "horizon_past_end"}
    expected = {
        "prices": "simulated",
        "accounts": "sampled",
        "labels": "computed",
        "population": "reference-v1",
        "extremes": "close",
        "book": "static",
    }
    assert report["data"].items() >= expected.items()
    assert list(report["horizons"]) == ["1", "8", "24"]
    for hours, horizon in report["horizons"].items():
        assert horizon.keys() >= HORIZON
        models = horizon["models"]
        assert models.keys() >= {"margincast", "volatility_oracle", *BASELINES}
        for name in ("margincast", *BASELINES):
            assert models[name].keys() >= FIGURES, name
        assert (models["volatility_oracle"] is None) == (hours == "1"), "hourly bars only"
        assert horizon["best_baseline"] in BASELINES
        low, high = horizon["log_loss_skill_ci95"]
        assert low <= high
        skill = 1 - models["margincast"]["log_loss"] / models[horizon["best_baseline"]]["log_loss"]
        assert horizon["log_loss_skill"] == pytest.approx(skill)


def score_arguments(trained: TrainedMarket, accounts: Path, out: Path) -> tuple[str | Path, ...]:
    return ("score", "--accounts", accounts, "--as-of", trained.newest, "--out", out)


def test_simulate_writes_bars_and_accounts_in_the_data_contract(trained: TrainedMarket) -> None:
    folder = trained.workspace.folder / "simulated"
    bars = {path.stem: pq.read_table(path) for path in (folder / "bars").glob("*.parquet")}
    assert sorted(bars) == trained.simulated["symbols"]
    for table in bars.values():
        assert len(table) == 45 * 24
        assert {"ts", "open", "high", "low", "close", "volume"} <= set(table.column_names)
    columns = {
        "positions": {"ts", "account_id", "instrument", "quantity"},
        "collateral": {"ts", "account_id", "asset", "amount"},
        "events": {"ts", "account_id", "kind", "amount"},
    }
    for name, expected in columns.items():
        names = pq.read_schema(folder / "accounts" / f"{name}.parquet").names
        assert expected <= set(names)


def test_retrain_reports_every_key_and_the_verdict_agrees_with_the_exit_code(
    trained: TrainedMarket,
) -> None:
    report = trained.retrained
    assert report.keys() >= RETRAIN
    assert report["verdict"] == {0: "promoted", 3: "refused"}[trained.retrain_code]
    assert bool(report["reasons"]) == (report["verdict"] == "refused")
    for key in ("bundle", "data_sha256", "ruleset_sha256"):
        assert SHA256.fullmatch(report[key]), key
    assert report["champion"] == (report["bundle"] if trained.retrain_code == 0 else None)
    assert report["mlflow_run"]
    assert all(report["rows"][part] > 0 for part in ("fit", "calibrate", "test"))
    assert report["seconds"].keys() >= {"features", "labels", "fit", "evaluate"}
    assert report["gates"]["parity"]["passed"] is True
    for name, gate in report["gates"].items():
        assert gate.keys() >= {"passed", "value", "limit"}, name
    check_evaluation(report["evaluation"])
    assert report["evaluation"]["bundle"] == report["bundle"]


def test_pointer_file_is_one_line_with_the_digest_of_a_bundle_folder(
    trained: TrainedMarket,
) -> None:
    text = (trained.workspace.bundles / "champion").read_text()
    assert SHA256.fullmatch(text.strip())
    assert len(text.splitlines()) == 1
    assert text.strip() == trained.retrained["bundle"] == trained.champion
    assert (trained.workspace.bundles / trained.champion / "manifest.json").is_file()


@pytest.mark.slow
def test_second_retrain_makes_the_same_bundle_and_leaves_the_champion(
    trained: TrainedMarket, workspace: Workspace
) -> None:
    # The gates judge the bundle again, and its rival is itself: the code stays what it was.
    report = workspace.report("retrain", code=trained.retrain_code, **NO_REVIEW)
    same = ("bundle", "data_sha256", "ruleset_sha256", "rows", "gates", "verdict", "reasons")
    assert {key: report[key] for key in same} == {key: trained.retrained[key] for key in same}
    assert report["evaluation"] == trained.retrained["evaluation"]
    assert report["champion"] == workspace.champion == trained.champion
    folders = [path.name for path in workspace.bundles.iterdir() if path.is_dir()]
    assert folders == [trained.champion], "nothing half done is left behind"


def test_concurrent_retrain_is_refused_and_changes_nothing(bare: Workspace) -> None:
    bare.bundles.mkdir(parents=True)
    with (bare.bundles / "retrain.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        out = bare.folder / "retrain.json"
        assert "another retrain is running" in bare.refusal("retrain", "--json", out)
    report = json.loads(out.read_text())
    assert report["verdict"] == "failed"
    assert "another retrain" in report["reasons"][0]
    assert [path.name for path in bare.bundles.iterdir()] == ["retrain.lock"]


def test_evaluate_of_the_pointer_file_answers_every_key(trained: TrainedMarket) -> None:
    workspace = trained.workspace
    report = workspace.report("evaluate", "--bundle", workspace.bundles / "champion")
    check_evaluation(report)
    assert report["bundle"] == trained.champion
    assert report["symbols"] == trained.simulated["symbols"]
    # Without [market] start, what the bundle was trained on is left out and counted.
    manifest = json.loads((workspace.bundles / trained.champion / "manifest.json").read_text())
    assert parse_time(report["span"][0]) >= manifest["training"]["ends_ns"][1]
    assert report["span"][0] <= trained.retrained["evaluation"]["span"][0]
    assert report["overlap_with_training_hours"] == 0.0
    assert report["warnings"] == []
    assert report["dropped"]["in_training"] > report["considered"], "four fifths of the span"


def test_evaluate_from_an_explicit_start_warns_of_the_overlap(trained: TrainedMarket) -> None:
    workspace, out = trained.workspace, trained.workspace.folder / "overlap.json"
    start = {"MARGINCAST__MARKET__START": trained.simulated["span"][0]}
    arguments = ("evaluate", "--bundle", workspace.bundles / "champion", "--json", out)
    done = workspace.run(*arguments, **start)
    report = json.loads(out.read_text())
    assert report["overlap_with_training_hours"] > 0.0
    assert report["dropped"]["in_training"] == 0
    (warning,) = report["warnings"]
    assert f"{report['overlap_with_training_hours']:,.0f} h" in warning
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("margincast:")]
    assert warning in line


def test_evaluate_of_data_that_end_with_the_training_has_no_rows(
    trained: TrainedMarket,
) -> None:
    workspace = trained.workspace
    manifest = json.loads((workspace.bundles / trained.champion / "manifest.json").read_text())
    end = format_time(manifest["training"]["ends_ns"][1] - HOUR)
    line = workspace.refusal(
        "evaluate", "--bundle", workspace.bundles / "champion", MARGINCAST__MARKET__END=end
    )
    assert "the bundle's training data" in line
    assert format_time(manifest["training"]["ends_ns"][1]) in line


def test_backtest_of_a_bundle_folder_answers_every_key(trained: TrainedMarket) -> None:
    workspace = trained.workspace
    report = workspace.report("backtest", "--bundle", workspace.bundles / trained.champion)
    assert report.keys() >= {"span", "calibration_span", "account_hours", "days"}
    found = report["uncovered"]
    assert found["horizon_hours"] == 24
    assert [budget["flat_coverage"] for budget in found["budgets"]] == [0.9, 0.95, 0.99]
    for budget in found["budgets"]:
        assert budget["policies"].keys() >= POLICIES | {found["best_simple"]}
        for name, figures in budget["policies"].items():
            assert figures.keys() >= UNCOVERED, name
    assert report["calls"]["policies"].keys() == CALLERS
    for figures in report["calls"]["policies"].values():
        assert figures.keys() >= CALLS
    for table in ("procyclicality", "coverage"):
        assert report[table]["policies"].keys() >= POLICIES
    moves = report["procyclicality"]["policies"]["margincast"]
    assert moves.keys() >= {"peak_to_trough", "response_to_one_extreme_return"}
    assert moves["n_day_max_increase"].keys() >= {"1", "5", "20"}
    covered = report["coverage"]["policies"]["margincast"]
    assert covered.keys() >= {"coverage", "kupiec_p", "christoffersen_p", "share_not_rejected"}
    assert report["frontier"].keys() >= {"margincast", "flat"}
    assert 1.0 in [point["factor"] for point in report["p_star"]["points"]]
    assert all(len(point) == 2 for points in report["frontier"].values() for point in points)


def test_score_writes_a_row_an_account_with_probabilities_and_decision_fields(
    scored: Scored, trained: TrainedMarket
) -> None:
    table = scored.table
    assert set(table.column_names) >= DECISION | {"p_1", "p_8", "p_24"}
    names = table["account_id"].to_pylist()
    assert len(set(names)) == len(names) == scored.report["accounts"] == 150
    assert len(set(table["decision_id"].to_pylist())) == 150
    p = np.array([table[f"p_{hours}"].to_numpy() for hours in (1, 8, 24)])
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p, axis=0) >= 0).all(), "a longer horizon cannot be safer"
    add_on, floor = table["add_on"].to_numpy(), table["floor"].to_numpy()
    assert (add_on >= floor).all()
    assert set(table["model"].to_pylist()) == {trained.champion}
    assert set(table["degraded"].to_pylist()) == {None}
    assert scored.report["errors"] == []
    assert set(table["explain"].to_pylist()) == {None}
    assert max(len(json.loads(text)) for text in table["reasons"].to_pylist()) <= 3


def test_score_explains_every_decision_where_it_is_asked_to(
    scored: Scored, trained: TrainedMarket
) -> None:
    workspace = trained.workspace
    out = workspace.folder / "explained.parquet"
    workspace.report(*score_arguments(trained, workspace.accounts, out), "--explain")
    for row in pq.read_table(out).to_pylist():
        explain, reasons = json.loads(row["explain"]), json.loads(row["reasons"])
        assert explain["total_requirement"] == row["total_requirement"]
        assert all(reason in explain["reasons"] for reason in reasons)


def test_score_without_a_champion_gives_the_floor_with_a_reason(
    bare: Workspace, trained: TrainedMarket
) -> None:
    out = bare.folder / "scored.parquet"
    report = bare.report(*score_arguments(trained, trained.workspace.accounts, out), code=5)
    table = pq.read_table(out)
    assert report["degraded"] == len(table) == 150
    assert report["with_model_add_on"] == 0
    assert set(table["binding"].to_pylist()) == {"fallback"}
    assert set(table["decision_id"].to_pylist()) == {None}, "recorded without --record"
    assert (table["add_on"].to_numpy() > 0).all(), "a missing model is no reason for zero"


def test_ledger_of_scored_book_is_intact_against_stored_heads(scored: Scored) -> None:
    report = scored.workspace.report("ledger", "verify", "--heads", scored.heads)
    assert report["intact"] is True
    assert report["problems"] == []
    assert report["chains"]["score"]["records"] == 150


def test_replay_of_a_scored_decision_is_equal(scored: Scored) -> None:
    report = scored.workspace.report("ledger", "replay", scored.decision_id)
    assert report["equal"] is True
    assert report["differences"] == {}


def test_faults_of_bars_are_counted_and_marks_named(
    workspace: Workspace, trained: TrainedMarket
) -> None:
    path = workspace.folder / "simulated" / "bars" / "BTCUSDT.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(5, 2)]), path)
    workspace.config.write_text(
        workspace.config.read_text() + "[market]\nbars = ['simulated/bars']\n"
    )
    out = workspace.folder / "score.json"
    done = workspace.run(
        *("score", "--accounts", workspace.accounts, "--as-of", trained.newest),
        *("--out", workspace.folder / "faulty.parquet", "--json", out),
    )
    assert "2 duplicates" in done.stdout
    bars = json.loads(out.read_text())["bars"]
    assert {file["symbol"]: file["duplicates"] for file in bars["files"]}["BTCUSDT"] == 2
    assert bars["marks"]["BTCUSDT"] == {"spot": len(table)}


def test_replay_of_an_unknown_decision_is_one_line(scored: Scored) -> None:
    assert "'nobody'" in scored.workspace.refusal("ledger", "replay", "nobody")


def test_altered_record_is_not_intact(audited: Workspace) -> None:
    audited.sql(
        "UPDATE records SET payload = "
        "packed(replace(unpacked(payload), '\"add_on\":', '\"add_on\":1'))"
        " WHERE chain = 'score' AND seq = 75"
    )
    report = audited.report("ledger", "verify", code=4)
    assert report["intact"] is False
    assert "75" in report["problems"][0]
    ((name,),) = audited.sql(
        "SELECT lower(hex(id)) FROM records WHERE chain = 'score' AND seq = 75"
    )
    assert "was altered" in audited.run("ledger", "replay", name, code=4).stderr


def test_cut_end_shows_against_heads_only(audited: Workspace, scored: Scored) -> None:
    audited.sql("DELETE FROM records WHERE chain = 'score' AND seq = 150")
    assert audited.report("ledger", "verify")["intact"] is True, "a shorter chain is a chain"
    report = audited.report("ledger", "verify", "--heads", scored.heads, code=4)
    assert any("score" in problem for problem in report["problems"])


def test_verify_without_a_ledger_makes_none(bare: Workspace) -> None:
    assert "ledger" in bare.refusal("ledger", "verify")
    assert not (bare.folder / "var").exists()


def test_margin_keeps_the_order_and_exits_2_for_a_bad_case(bare: Workspace) -> None:
    bad = {**CASE, "id": "bad", "portfolio": {**CASE["portfolio"], "cash": "much"}}
    cases, out = bare.folder / "in.jsonl", bare.folder / "out.jsonl"
    lines = [{"id": "first", **CASE}, bad, {"id": "last", "expected": 1, **CASE}]
    cases.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = bare.run("margin", "--cases", cases, "--out", out, code=2)
    assert "1 case(s) failed" in done.stderr
    first, failed, last = map(json.loads, out.read_text().splitlines())
    assert (first["id"], failed["id"], last["id"]) == ("first", "bad", "last")
    assert failed.keys() == {"id", "error"}
    assert "cash" in failed["error"]
    # 1 000 in cash less 2% and 4% of a notional of 10 000.
    assert first["maintenance_net_margin"] == pytest.approx(800.0)
    assert first["initial_net_margin"] == pytest.approx(600.0)
    assert first["mark_to_market"] == pytest.approx(1_000.0)
    for kind in ("initial", "maintenance"):
        total = sum(first["components"][kind].values())
        assert total == pytest.approx(first[f"{kind}_net_margin"])
    assert SHA256.fullmatch(first["ruleset_sha256"])

    cases.write_text(json.dumps(lines[0]) + "\n")
    bare.run("margin", "--cases", cases, "--out", out)
    assert json.loads(out.read_text()) == first


def test_rulesets_list_names_the_presets(bare: Workspace) -> None:
    out = bare.folder / "rules.json"
    shown = bare.run("rulesets", "list", "--json", out).stdout
    listed = json.loads(out.read_text())
    assert "linear-tiers" in listed
    assert all(name in shown for name in listed)
    assert all(SHA256.fullmatch(preset["sha256"]) for preset in listed.values())
    assert listed["linear-tiers"]["floors"] == ["liquidity", "stale_data"]
    assert "volatility" in listed["emir-tiers"]["floors"]
    assert "stressed_buffer" not in listed["emir-tiers"]["floors"]


def test_margin_cases_by_the_name_of_every_tier_preset(bare: Workspace) -> None:
    cases, out = bare.folder / "venues.jsonl", bare.folder / "margins.jsonl"
    market = {"BTC": {"spot": 60_000.0, "perp_price": 60_000.0, "open_interest": 1e9}}
    portfolio = {
        "cash": 20_000.0,
        "stable_price": 1.0,
        "underlyings": market,
        "positions": [{"kind": "perp", "underlying": "BTC", "quantity": -1.0}],
        "collateral": [],
    }
    maintenance = {  # of 60,000: by hand from each venue's figures
        "binance-usdm": 60_000 * 0.005 - 50,
        "drift-v2": 60_000 * 0.05,
        "dydx-v4": 60_000 * 0.012,
        "hyperliquid": 60_000 * 0.0125,
        "linear-tiers": 60_000 * 0.02,
    }
    lines = [{"id": name, "portfolio": portfolio, "ruleset": name} for name in maintenance]
    cases.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bare.run("margin", "--cases", cases, "--out", out)
    results = {line["id"]: line for line in map(json.loads, out.read_text().splitlines())}
    for name, margin in maintenance.items():
        assert results[name]["maintenance_net_margin"] == pytest.approx(20_000 - margin)
        assert results[name]["initial_net_margin"] < results[name]["maintenance_net_margin"]


def test_rulesets_list_shows_the_validity_of_a_preset(bare: Workspace) -> None:
    out = bare.folder / "rules.json"
    bare.run("rulesets", "list", "--json", out)
    listed = json.loads(out.read_text())
    assert listed["binance-usdm"]["effective_from"] == "2024-05-30T04:26:21Z"
    assert listed["linear-tiers"]["effective_from"] == ""


@pytest.mark.realdata
def test_rulesets_import_and_list_of_what_it_wrote(bare: Workspace, data_dir: Path) -> None:
    source = data_dir / "margin_params" / "binance_leverage_tier_changes.parquet"
    out, report = bare.folder / "versions", bare.folder / "import.json"
    arguments = ("rulesets", "import", source, "--out", out, "--symbols", "BTCUSDT, ETHUSDT")
    shown = bare.run(*arguments, "--json", report).stdout
    found = json.loads(report.read_text())
    assert found["source"] in shown
    listed = bare.folder / "versions.json"
    bare.run("rulesets", "list", out, "--json", listed)
    versions = json.loads(listed.read_text())
    assert list(versions) == [version["version"] for version in found["versions"]]
    assert len(versions) == len(list(out.glob("*.toml"))) > 5
    assert "money per contract" in bare.refusal(
        *("rulesets", "import", data_dir / "margin_params" / "exchange_futures_margins.parquet"),
        *("--out", bare.folder / "none"),
    )


def test_rulesets_depth_refuses_an_empty_folder_in_one_line(bare: Workspace) -> None:
    out = bare.folder / "depth.toml"
    line = bare.refusal("rulesets", "depth", bare.folder, "--out", out)
    assert "no parquet file" in line
    assert not out.exists()


@pytest.mark.realdata
def test_rulesets_depth_shows_where_the_figures_come_from(bare: Workspace, data_dir: Path) -> None:
    out, report = bare.folder / "depth.toml", bare.folder / "depth.json"
    source = data_dir / "liquidity_perps_minute"
    shown = bare.run("rulesets", "depth", source, "--out", out, "--json", report).stdout
    found = json.loads(report.read_text())
    assert found["rows"]["read"] == sum(
        found["rows"][key] for key in ("without_spread", "aggregated_levels", "used")
    )
    assert "liquidity_perps_minute" in shown
    assert found["sha256"] in out.read_text()


@pytest.mark.parametrize("name", ["a" * 64, "nobody", "../bundles"])
def test_promotion_of_an_unknown_bundle_is_one_line_and_moves_nothing(
    trained: TrainedMarket, name: str
) -> None:
    workspace = trained.workspace
    before = workspace.sql("SELECT count(*) FROM records WHERE chain = 'registry'")
    line = workspace.refusal("promote", name)
    assert "Traceback" not in line
    assert name in line
    assert workspace.champion == trained.champion
    assert workspace.sql("SELECT count(*) FROM records WHERE chain = 'registry'") == before


def test_promotion_without_a_name_needs_a_challenger(trained: TrainedMarket) -> None:
    assert "no challenger" in trained.workspace.refusal("promote")


def test_bundle_that_failed_a_safety_gate_needs_a_reason_that_is_recorded(
    workspace: Workspace, trained: TrainedMarket
) -> None:
    failed = [
        name
        for name, gate in trained.retrained["gates"].items()
        if gate["kind"] == "safety" and not gate["passed"]
    ]
    assert failed, "so small a sample passes every gate: make it smaller"
    (workspace.bundles / "champion").unlink()
    sha = trained.champion
    for reason in ([], ["--override", " "]):
        line = workspace.refusal("promote", sha, *reason)
        assert all(name in line for name in failed)
        assert not (workspace.bundles / "champion").exists()
    workspace.run("promote", sha, "--override", "drill of 2025-01")
    assert workspace.champion == sha
    ((content,),) = workspace.sql(
        "SELECT unpacked(payload) FROM records WHERE chain = 'registry' ORDER BY seq DESC LIMIT 1"
    )
    payload = json.loads(content)
    assert payload["override"] == "drill of 2025-01"
    assert payload["failed_gates"] == sorted(failed)


def test_rollback_without_a_previous_champion_is_one_line(trained: TrainedMarket) -> None:
    assert "no previous champion" in trained.workspace.refusal("rollback")
    assert trained.workspace.champion == trained.champion


@pytest.mark.slow
def test_promotion_and_rollback_move_pointers_ledger_and_aliases(
    workspace: Workspace, trained: TrainedMarket
) -> None:
    # Other accounts give another bundle; whether the gates like it does not matter here.
    retrained = workspace.report(
        "retrain", code=(0, 3), MARGINCAST__ACCOUNTS__SEED="8", **NO_REVIEW
    )
    other = retrained["bundle"]
    assert other != trained.champion
    if retrained["verdict"] == "refused":
        assert "failed the safety gate(s)" in workspace.refusal("promote", other)
        assert workspace.champion == trained.champion
    # Without a name it is the challenger that is promoted; a refused bundle never is one.
    who = [] if retrained["verdict"] == "kept" else [other, "--override", "a test"]
    assert workspace.report("promote", *who) == {"champion": other, "previous": trained.champion}
    assert workspace.champion == other
    assert workspace.report("rollback") == {"champion": trained.champion, "previous": other}
    assert workspace.champion == trained.champion
    kinds = workspace.sql("SELECT kind FROM records WHERE chain = 'registry' ORDER BY seq DESC")
    moves = ["rollback"] if retrained["verdict"] == "promoted" else ["rollback", "promotion"]
    assert [kind for (kind,) in kinds[: len(moves)]] == moves


def test_promotion_of_a_bundle_that_mlflow_does_not_know_moves_nothing(
    workspace: Workspace, trained: TrainedMarket
) -> None:
    before = workspace.sql("SELECT count(*) FROM records")
    assert "not registered" in workspace.refusal(
        "promote", _twin(workspace.bundles, trained.champion)
    )
    assert workspace.champion == trained.champion
    assert workspace.sql("SELECT count(*) FROM records") == before


def _twin(bundles: Path, sha: str) -> str:
    """Another sound bundle: the same model with a remark in its manifest."""
    files = {path.name: path.read_bytes() for path in (bundles / sha).iterdir()}
    del files["checksums.json"]
    manifest = json.loads(files["manifest.json"])
    manifest["training"]["remark"] = "twin"
    return write_bundle(bundles, files | {"manifest.json": canonical_json(manifest)})


def test_key_is_shown_once_listed_without_secret_and_revoked(bare: Workspace) -> None:
    secret = bare.run("keys", "add", "--scopes", "score,read").stdout.strip()
    key_id = secret.split("_")[1]
    out = bare.folder / "keys.json"
    shown = bare.run("keys", "list", "--json", out).stdout
    assert key_id in shown
    assert secret not in shown + out.read_text()
    assert json.loads(out.read_text())[key_id]["scopes"] == ["score", "read"]
    assert secret.encode() not in (bare.folder / "var" / "ledger.db").read_bytes()
    bare.run("keys", "revoke", key_id)
    ((revoked_at,),) = bare.sql("SELECT revoked_at FROM api_keys WHERE key_id = ?", key_id)
    assert revoked_at is not None
    assert "nobody" in bare.refusal("keys", "revoke", "nobody")
    assert "'write'" in bare.refusal("keys", "add", "--scopes", "score,write")
    bare.run("ledger", "verify")
