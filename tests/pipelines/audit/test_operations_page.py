"""The commands of the operations page, run in its order."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ledger.audit.signing import KEY_VARIABLE, make_key_pair
from ledger.records import Entry
from ledger.store import Ledger
from pipelines.cli.main import app

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
SECTIONS = ("Signed heads and verification", "Backup and restore", "Retention")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAIR = make_key_pair()


def section(title: str) -> str:
    return PAGE.read_text("utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


def run_all(title: str) -> list[str]:
    """Run the commands of a section; returns them."""
    lines = [line for block in BLOCK.findall(section(title)) for line in block.splitlines()]
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "margincast":
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (line, result.output, result.exception)
        else:
            subprocess.run([program, *arguments], check=True)
    return lines


@pytest.fixture(autouse=True)
def _installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger, and the page's own configuration with paths of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, PAIR.private)
    (block,) = re.findall(r"^```toml\n(.*?)^```", section(SECTIONS[0]), re.MULTILINE | re.DOTALL)
    text = block.replace("…", PAIR.public)
    assert tomllib.loads(text)["ledger"]["heads_command"] == ["cp", "{file}", "outside/"]
    Path("margincast.toml").write_text(text)
    Path("outside").mkdir()
    with Ledger(f"sqlite:///{tmp_path}/var/ledger.db") as ledger:
        ledger.append([Entry("decision", {"n": n}, account_id="a") for n in range(5)])


def test_the_commands_of_the_page_do_what_it_says() -> None:
    assert len(run_all(SECTIONS[0])) == 4
    run_all(SECTIONS[1])
    # What was recorded after the backup and its heads is missing after a restore.
    with Ledger("sqlite:///var/ledger.db") as ledger:
        ledger.append([Entry("decision", {"n": n}, account_id="b") for n in range(3)])
    assert CliRunner().invoke(app, ["ledger", "heads"]).exit_code == 0
    shutil.copy("backup/ledger.db", "var/ledger.db")
    verb = ["ledger", "verify", "--heads", "outside", "--json", "out.json"]
    assert CliRunner().invoke(app, verb).exit_code == 4
    (problem,) = json.loads(Path("out.json").read_text())["problems"]
    assert "3 records are gone" in problem


def test_the_commands_of_retention_run() -> None:
    CliRunner().invoke(app, ["ledger", "heads"])
    assert len(run_all(SECTIONS[2])) == 3


def test_every_verb_of_the_page_exists() -> None:
    named = {
        line.split()[2]
        for title in SECTIONS
        for line in re.findall(r"margincast ledger [a-z]+", section(title))
    }
    assert named >= {"keygen", "heads", "verify", "backup", "archive", "replay"}
    for verb in named:
        assert CliRunner().invoke(app, ["ledger", verb, "--help"]).exit_code == 0, verb
