"""`docs/reliability.md`: every test it names exists, it names every test, its figures are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.measure import RESULTS
from benchmarks.reliability.page import PAGE, page_with_figures

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEXT = PAGE.read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([\w/]+\.py)::(test_\w+)(?:\[\w+\])?`", TEXT))


def test_every_test_that_the_page_names_exists() -> None:
    missing = []
    for file, name in NAMED:
        path = (ROOT if file.startswith("tests/") else HERE) / file
        if not path.is_file() or f"def {name}(" not in path.read_text(encoding="utf-8"):
            missing.append(f"{file}::{name}")
    assert missing == []
    assert len(NAMED) > 15


def test_the_page_names_every_test_of_reliability() -> None:
    there = {
        (path.name, name)
        for path in HERE.glob("test_*.py")
        if path != Path(__file__)
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert there - NAMED == set()


def test_the_figures_of_the_page_are_the_kept_ones() -> None:
    assert page_with_figures(TEXT) == TEXT, "run python -m benchmarks.reliability.page"


def test_nothing_was_lost_or_doubled_in_the_kept_runs() -> None:
    figures = json.loads((RESULTS / "reliability.json").read_bytes())["ratios"]
    bad = ("_lost", "_doubled", "_broken_levels", "_verify_problems", "_other_answers")
    assert {n: v for n, v in figures.items() if n.endswith(bad) and v} == {}
    resets = {name: value for name, value in figures.items() if name.endswith("_resets")}
    assert resets["kills_sqlite_resets"] >= 4, "each kill cut calls off"
    stopped = {n: v for n, v in resets.items() if not n.startswith("kills_")}
    assert not any(stopped.values()), "only a kill of the service itself resets a call"


def test_kills_of_the_monitor_changed_no_record_in_the_kept_run() -> None:
    kept = json.loads((RESULTS / "chaos.json").read_bytes())
    assert kept["settings"]["accounts"] == 100_000
    assert kept["settings"]["kills"] == 50
    figures = kept["medians"]
    assert figures["records"] > 500_000
    parts = ("missing", "in_excess", "different")
    assert [figures[f"records_{part}"] for part in parts] == [0.0, 0.0, 0.0]
    # `latest_hours` is of a run before `longest_delay_hours`, and leaves some calls out.
    delays = [figures[n] for n in ("latest_hours", "longest_delay_hours") if n in figures]
    assert delays == [0.0]
    assert figures["bytes_per_account_day"] < 2_000.0
