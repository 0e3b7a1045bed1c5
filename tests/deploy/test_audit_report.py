from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPORT = Path(__file__).resolve().parents[2] / "deploy" / "audit" / "report.py"
SOUND = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "X-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found"}


def run(path: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, REPORT, path], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("packages", "code", "last"),
    [
        ([SOUND], 0, "checked 1 of 1 packages"),
        ([SOUND, BAD], 1, "b 2: X-1, fixed in 2.1"),
        ([SOUND, SKIPPED], 3, "not checked: c"),
        ([SKIPPED, SKIPPED], 3, "not checked: all of them"),
        ([], 3, "not checked: all of them"),
    ],
)
def test_an_audit_that_checked_nothing_is_no_success(
    packages: list[dict[str, Any]], code: int, last: str, tmp_path: Path
) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"dependencies": packages, "fixes": []}))
    found, lines = run(path)
    assert (found, lines[-1]) == (code, last)


def test_an_audit_without_a_service_says_so(tmp_path: Path) -> None:
    assert run(tmp_path / "none.json") == (3, ["not checked: no advisory service was reached"])
