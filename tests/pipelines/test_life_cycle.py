"""The life cycle as a job: recorded once, replayed bit for bit, refused where it differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import margin
from pipelines.cli import app
from pipelines.config import load_config
from pipelines.simulate import simulate

CONFIG = """
[simulate]
days = 16
symbols = 2
seed = {seed}
[accounts]
count = 25
[ledger]
url = "sqlite:///ledger.db"
"""
BEGIN, END = "2025-01-09T00:00:00Z", "2025-01-16T00:00:00Z"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for seed in (1, 2):
        (folder / f"{seed}.toml").write_text(CONFIG.format(seed=seed))
    simulate(load_config(folder / "1.toml"), folder / "simulated")
    return folder


def lifecycle(folder: Path, seed: int, *options: str, code: int = 0) -> dict[str, Any]:
    out = folder / "report.json"
    out.unlink(missing_ok=True)
    done = CliRunner().invoke(
        app,
        [
            "lifecycle",
            "--accounts",
            str(folder / "simulated" / "accounts"),
            "--from",
            BEGIN,
            "--to",
            END,
            "--config",
            str(folder / f"{seed}.toml"),
            "--json",
            str(out),
            *options,
        ],
    )
    assert done.exit_code == code, done.output
    report: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    return report


def test_recorded_once_and_replayed_to_the_last_bit(folder: Path) -> None:
    lifecycle(folder, 1, "--replay", code=1)
    first = lifecycle(folder, 1, "--out", str(folder / "first.jsonl"))
    assert first["recorded"]
    assert first["equal"] is None
    assert first["transitions"] == sum(first["reasons"].values()) > 0
    assert sum(first["states"].values()) == first["accounts"]
    for option in ((), ("--replay",)):
        again = lifecycle(folder, 1, *option, "--out", str(folder / "again.jsonl"))
        assert (again["recorded"], again["equal"]) == (False, True)
        assert again["history_sha256"] == first["history_sha256"]
        assert (folder / "again.jsonl").read_bytes() == (folder / "first.jsonl").read_bytes()
    done = CliRunner().invoke(app, ["ledger", "verify", "--config", str(folder / "1.toml")])
    assert done.exit_code == 0, done.output
    # Other prices under the same accounts and rules: the recorded history is not theirs.
    other = lifecycle(folder, 2, "--replay", code=4)
    assert other["equal"] is False
    assert other["difference"]["recorded"] != other["difference"]["replayed"]
    # A run of other rules is another run.
    rules = (Path(margin.__file__).parent / "rulesets" / "linear-tiers.toml").read_text()
    (folder / "house.toml").write_text(rules + "\n[life_cycle]\ncall_hours = 1.0\n")
    config = CONFIG.format(seed=1) + '[rules]\nruleset = "house.toml"\n'
    (folder / "3.toml").write_text(config)
    assert lifecycle(folder, 3)["run"] != first["run"]


def test_a_span_without_bars_is_refused(folder: Path) -> None:
    done = CliRunner().invoke(
        app,
        [
            "lifecycle",
            "--accounts",
            str(folder / "simulated" / "accounts"),
            "--from",
            "2031-01-01T00:00:00Z",
            "--to",
            "2031-02-01T00:00:00Z",
            "--config",
            str(folder / "1.toml"),
        ],
    )
    assert done.exit_code == 1
    assert "no bar closes" in str(done.exception)
