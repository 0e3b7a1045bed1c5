"""The model card says what is real, what failed and what is unknown."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from market.core.clock import parse_time
from models.bundle.manifest import TrainingRecord, manifest_bytes
from models.bundle.schema import ModelSchema
from models.trees.tree_table import TreeTable
from training.reports.model_card import model_card, reliance

SCHEMA = ModelSchema(
    ("prior_1", "prior_24", "mix"), (1, 1, 0), (1, 24), ("prior_1", "prior_24"), "a" * 64
)
FIGURES = {"log_loss": 0.0345, "auc": 0.975, "brier_skill": None}
EVALUATION: dict[str, Any] = {
    "span": ["2025-01-01T00:00:00Z", "2025-08-01T00:00:00Z"],
    "rows": 123_456,
    "dropped": {"warm_up": 1000, "already_called": 7},
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "overlap_with_training_hours": 0.0,
    "data": {"prices": "real", "accounts": "sampled", "labels": "computed", "book": "static"},
    "horizons": {
        hours: {
            "base_rate": 0.0136,
            "positives": 1679,
            "models": {"margincast": FIGURES, "first_passage": FIGURES, "volatility_oracle": None},
            "best_baseline": "first_passage",
            "log_loss_skill": 0.0412,
            "log_loss_skill_ci95": [0.021, 0.063],
            "oracle_gap_closed": None,
            "predicted_over_observed": 1.02,
        }
        for hours in ("1", "24")
    },
}
GATES: dict[str, Any] = {
    "parity": {"passed": True, "value": 1e-15, "limit": 1e-9},
    "calibration": {"passed": False, "value": {"1": 0.2, "24": None}, "limit": [0.9, 1.1]},
}


def manifest() -> dict[str, Any]:
    training = {
        "span_ns": [parse_time("2022-05-01"), parse_time("2024-05-01")],
        "rows": {"fit": 600_000, "calibrate": 200_000},
    }
    empty = {h: TreeTable.empty(3) for h in SCHEMA.horizons}
    calibration = {1: (0.9, 0.1), 24: (1.05, -0.2)}
    record = TrainingRecord("1" * 64, "2" * 64, {}, training=training)
    decoded: dict[str, Any] = json.loads(manifest_bytes(SCHEMA, empty, calibration, record))
    return decoded


def card(evaluation: dict[str, Any] = EVALUATION, **changes: Any) -> str:
    given = {"bundle_sha256": "b" * 64, "verdict": "refused", "reasons": ["slope is off"]}
    return model_card(manifest(), evaluation, GATES, **(given | changes))


def test_card_has_every_section_in_order() -> None:
    titles = [line[3:] for line in card().splitlines() if line.startswith("## ")]
    assert titles == [
        "Intended use",
        "Data",
        "Model",
        "Test block at 1 h",
        "Test block at 24 h",
        "Gates",
        "Limits",
        "Who may rely on it",
        "Hashes",
    ]


def test_card_names_provenance_rows_spans_and_hashes() -> None:
    text = card()
    for part in (
        "prices real, accounts sampled",
        "2022-05-01T00:00:00Z to 2024-05-01T00:00:00Z, calibrate 200,000 rows, fit 600,000 rows",
        "2025-01-01T00:00:00Z to 2025-08-01T00:00:00Z, 123,456 rows",
        "already_called 7",
        "BTCUSDT, ETHUSDT",
        "Features: 3, 2 of them monotone",
        "Calibration at 24 h: logit p = 1.05 · score + -0.2",
        *(digit * 64 for digit in "12ab"),
    ):
        assert part in text


def test_figures_that_are_undefined_show_as_not_available_and_never_as_none() -> None:
    text = card()
    assert "None" not in text
    assert not re.search(r"\bnan\b", text)
    oracle = next(line for line in text.splitlines() if line.startswith("| volatility_oracle"))
    assert oracle.count("n/a") == 7


def test_best_baseline_is_marked() -> None:
    assert "| first_passage (best baseline) | 0.0345 |" in card()
    assert "skill against first_passage 0.0412 (95% interval 0.021 to 0.063)" in card()


def test_failed_gate_stands_out() -> None:
    text = card()
    assert "Verdict: **refused**" in text
    assert "- slope is off" in text
    assert "| calibration | **failed** | 1: 0.2, 24: n/a | [0.9, 1.1] |" in text
    assert "| parity | passed | 1e-15 | 1e-09 |" in text


def test_limits_follow_the_data() -> None:
    real = card()
    assert "Accounts are sampled" in real
    assert "The book is static" in real
    assert "Prices are simulated" not in real
    simulated = copy.deepcopy(EVALUATION)
    simulated["data"] = {"prices": "simulated", "accounts": "files", "book": "as_traded"}
    text = card(simulated)
    assert "Prices are simulated" in text
    assert "Accounts are sampled" not in text
    assert "The book is static" not in text


def test_backtest_adds_the_uncovered_loss_at_each_budget() -> None:
    ours = {
        "uncovered": 0.0012,
        "breach_rate": 0.05,
        "ratio_to_flat": 0.7,
        "ratio_to_best_simple": 0.9,
        "ratio_to_best_simple_ci95": [0.8, 0.99],
    }
    flat = {**ours, "ratio_to_best_simple": None, "ratio_to_best_simple_ci95": None}
    policies = {"margincast": ours, "flat": flat}
    budget = {"flat_coverage": 0.95, "average_add_on": 0.05, "policies": policies}
    found = {"horizon_hours": 24, "best_simple": "sigma_x", "budgets": [budget]}
    text = card(backtest={"uncovered": found})
    assert "the best simple estimate is sigma_x" in text
    assert "Average add-on 0.05, at which a flat level covers 95%:" in text
    assert "| margincast | 0.0012 | 0.05 | 0.7 | 0.9 | 0.8 to 0.99 |" in text
    assert "| flat | 0.0012 | 0.05 | 0.7 | n/a |" in text


def test_bars_and_line_breaks_do_not_break_a_table() -> None:
    gates = {"odd": {"passed": True, "value": "a|b\nc", "limit": 1}}
    text = model_card(
        manifest(), EVALUATION, gates, bundle_sha256="b" * 64, verdict="kept", reasons=[]
    )
    assert "| odd | passed | a\\|b c | 1 |" in text


def test_same_input_same_card() -> None:
    assert card() == card()


@pytest.mark.parametrize(
    ("prices", "verdict", "first"),
    [
        ("simulated", "promoted", "Nobody, for a decision on a real account"),
        ("real", "promoted", "A risk desk"),
        ("real", "kept", "Reviewers only"),
        ("real", "refused", "Nobody: a safety gate failed"),
        ("real", "unheard of", "Nobody: its training did not finish"),
    ],
)
def test_who_may_rely_on_it_follows_from_data_and_verdict(
    prices: str, verdict: str, first: str
) -> None:
    found = reliance({"prices": prices, "accounts": "sampled"}, verdict)
    assert found[0].startswith(first)
    assert any("evaluates it on its own accounts" in line for line in found) == (prices == "real")
