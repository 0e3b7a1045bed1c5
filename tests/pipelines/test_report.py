"""What is printed says all that it was given, square brackets and long names included."""

from __future__ import annotations

import pytest

from pipelines.report import drift_line, drift_table, facts

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
    facts("score", {"out": "[/data]", "ends": [None, None]})
    said = capsys.readouterr().out
    assert said.count(reason) == 2
    assert "│ [/data]" in said
    assert "[null, null]" in said


def test_drifted_monitor_is_named_in_full_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    span = {"rows": 10, "span": ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]}
    drift_table({"verdict": "drift", "monitors": {"a": MONITOR}, "current": span})
    cells = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines()
             if line.startswith("│")]  # fmt: skip
    assert "".join(cells) == MONITOR["name"]
