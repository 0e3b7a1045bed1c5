"""What is printed says all that it was given: brackets, long names and what identifies."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.reports import report
from pipelines.reports.report import drift_line, drift_table, facts

MONITOR = {
    "name": "missing_book_realised_volatility_168h",
    "kind": "missing",
    "reference": 0.0,
    "current": 0.2,
    "effect": 0.2,
    "floor": 0.05,
    "p_holm": 0.01,
    "verdict": "drift",
}


def test_brackets_are_text_and_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "[training] horizons are [1, 8], see [/data]"
    report = {"verdict": "unavailable", "reason": reason, "drifted": []}
    drift_table(report)
    drift_line(report, None)
    facts("score", {"out": "[/data]", "ends": ["[1]", None]})
    output = capsys.readouterr().out
    assert output.count(reason) == 2
    assert "│ [/data]" in output
    assert "│ [1] " in output


def test_values_are_printed_as_text(text: StringIO) -> None:
    counts = {"stale market data": 250, "liquidity": 20}
    report.facts(
        "score",
        {
            "degraded": counts,
            "failed": {},
            "chains": {"a": {"records": 1, "span": [1, 2]}},
            "recorded": True,
            "bundle": None,
            "owed": 52689609.06,
        },
    )
    rows = [
        [cell.strip() for cell in line.split("│")[1:3]] for line in text.getvalue().splitlines()
    ]
    assert rows[2:-1] == [
        ["degraded", "stale market data: 250"],
        ["", "liquidity: 20"],
        ["failed", "none"],
        ["chains", "a: records 1, span (1, 2)"],
        ["recorded", "yes"],
        ["bundle", "none"],
        ["owed", "52689609.06"],
    ]


def test_drifted_monitor_is_named_in_full_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    span = {"rows": 10, "span": ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]}
    drift_table({"verdict": "drift", "monitors": {"a": MONITOR}, "current": span})
    name = str(MONITOR["name"])
    cells = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines()
             if line.startswith("│")]  # fmt: skip
    assert name in "".join(cells), "the table has a row"
    assert not "".join(cells).replace(name, ""), "each part of the table names it"


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    out = StringIO()
    monkeypatch.setattr(report, "console", Console(width=80, file=out))
    return out


def test_models_are_printed_with_their_whole_names(text: StringIO) -> None:
    names = ("first_passage", "first_passage_isotonic", "volatility_oracle")
    figures = dict.fromkeys(
        ("auc", "average_precision", "brier_skill", "log_loss", "ece_over_base_rate"), -0.0123456
    )
    report.evaluation_tables(
        {
            "span": ["2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"],
            "rows": 1,
            "dropped": {},
            "horizons": {
                "1": {
                    "base_rate": 0.01,
                    "best_baseline": "first_passage_isotonic",
                    "log_loss_skill": 0.01,
                    "log_loss_skill_ci95": [0.0, 0.02],
                    "models": dict.fromkeys(names, figures),
                }
            },
        }
    )
    for name in names:
        assert f"│{name}" in text.getvalue()
    assert "…" not in text.getvalue()
    assert "-0.01235" in text.getvalue()


def test_digest_in_a_nested_value_is_printed_whole(text: StringIO) -> None:
    head = "".join(f"{i:02x}" for i in range(32))
    report.facts("ledger verify", {"chains": {"a": {"records": 1, "head": head}}, "intact": True})
    cells = [line.strip("│ ").split("│")[-1].strip() for line in text.getvalue().splitlines()]
    assert head in "".join(cells)


def test_help_of_a_verb_shows_what_is_in_brackets() -> None:
    shown = " ".join(CliRunner().invoke(app, ["ledger", "prune", "--help"]).output.split())
    assert "older than [ledger] answers_days" in shown
