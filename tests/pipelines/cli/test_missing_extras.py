"""A base installation: verbs of the training extra say what to install, the others work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from market.core.errors import MissingExtraError
from pipelines.cli.extras import MODULES, missing_module, require

TRAINING_VERBS: dict[str, list[str]] = {
    "retrain": ["retrain", "--json", "retrain.json"],
    "evaluate": ["evaluate", "--bundle", "bundle"],
    "backtest": ["backtest", "--bundle", "bundle"],
    "policy": ["policy", "--bundle", "bundle"],
    "run": ["run", "--once"],
    "promote": ["promote"],
    "rollback": ["rollback"],
    "review": ["review"],
    "drift": ["drift"],
    "schedule": ["schedule", "--once"],
}
BASE_VERBS: list[list[str]] = [
    ["rulesets", "list"],
    ["keys", "list"],
    ["ledger", "verify"],
    ["margin", "--cases", "cases.jsonl", "--out", "answers.jsonl"],
    ["simulate", "--out", "simulated"],
    ["data"],
    ["report", "pro-forma", "--rules", "emir-tiers", "--out", "report.html"],
    ["lifecycle", "--accounts", "simulated/accounts", "--from", "2025-01-11", "--to", "2025-01-12"],
]
PROGRAM = """
import contextlib, io, json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Absent())
from pipelines.cli.main import main

answers = []
for arguments in json.loads(sys.argv[2]):
    sys.argv = ["margincast", *arguments]
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            main()
        code = 0
    except SystemExit as left:
        code = left.code
    answers.append([code, output.getvalue()])
print("\\n" + json.dumps(answers))
"""


def run_without(blocked: list[str], verbs: list[list[str]], folder: Path) -> list[list[Any]]:
    """Exit code and stderr of each verb in a process where these modules are not installed."""
    (folder / "margincast.toml").write_text("[simulate]\ndays = 16\nsymbols = 2\n")
    (folder / "cases.jsonl").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(blocked), json.dumps(verbs)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_verbs_of_the_training_extra_name_in_one_line_what_to_install(tmp_path: Path) -> None:
    answers = run_without(list(MODULES["training"]), list(TRAINING_VERBS.values()), tmp_path)
    for verb, (code, output) in zip(TRAINING_VERBS, answers, strict=True):
        (line,) = output.splitlines()
        assert code == 1, verb
        assert line.startswith(f"margincast: {verb} needs the training extra"), verb
        assert line.endswith("-m pip install 'margincast[training]'"), verb
    report = json.loads((tmp_path / "retrain.json").read_text())
    assert report["verdict"] == "failed"
    assert "margincast[training]" in report["reasons"][0]
    assert not (tmp_path / "var").exists(), "nothing is begun"


def test_other_verbs_need_nothing_of_the_extras(tmp_path: Path) -> None:
    blocked = [name for modules in MODULES.values() for name in modules] + ["pandas", "polars"]
    for verb, (code, output) in zip(
        BASE_VERBS, run_without(blocked, BASE_VERBS, tmp_path), strict=True
    ):
        assert code == 0, (verb, output)


def test_one_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pipelines.cli.extras.find_spec", lambda name: None if name == "onnx" else name
    )
    with pytest.raises(MissingExtraError, match=r"retrain needs the training extra, and onnx "):
        require("training", "retrain")


@pytest.mark.parametrize("name", ["lightgbm", "mlflow.entities", "psycopg"])
def test_import_that_fails_within_a_verb_names_what_to_install(name: str) -> None:
    text = missing_module(ModuleNotFoundError(f"No module named {name!r}", name=name))
    assert text is not None
    assert "-m pip install 'margincast[" in text


def test_import_of_something_else_is_left_to_its_traceback() -> None:
    assert missing_module(ModuleNotFoundError("No module named 'pipelinez'", name="x")) is None
