"""Each command of docs/reports.md on the ledger runs; its program finds changes of an extract."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ledger.verify import verify
from pipelines.cli.main import app
from pipelines.cli.report import LEDGER_REPORTS
from pipelines.config.config import load_config
from tests.pipelines.ledger_reports.helpers import RecordedDays

PAGE = (Path(__file__).parents[3] / "docs" / "reports.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


# The second block, of pages on a model, is executed by tests/pipelines/reports.
COMMANDS = [shlex.split(line)[1:] for line in blocks("bash")[0].splitlines()]


@pytest.fixture
def config(days: RecordedDays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "margincast.toml"
    file.write_text(f"[ledger]\nurl = '{days.url}'\n", encoding="utf-8")
    return file


def test_the_page_has_every_kind() -> None:
    assert [words[1] for words in COMMANDS] == [*LEDGER_REPORTS, "scheduled"]
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert rows == [*LEDGER_REPORTS, "drift", "evaluate", "backtest"]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[1])
def test_each_command_runs(config: Path, words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--json", "report.json"])
    assert result.exit_code == 0, result.output
    if "--out" in words:
        out = config.parent / words[words.index("--out") + 1]
        begins = {".html": b"<!doctype html>", ".pdf": b"%PDF-", ".parquet": b"PAR1", ".csv": b""}
        assert out.read_bytes().startswith(begins[out.suffix])


def test_the_program_verifies_an_extract_and_finds_an_altered_record(
    days: RecordedDays, config: Path
) -> None:
    result = CliRunner().invoke(app, COMMANDS[list(LEDGER_REPORTS).index("audit-extract")])
    assert result.exit_code == 0, result.output
    extract = config.parent / "reports" / "extract.csv"
    (config.parent / "check.py").write_text(blocks("python")[0], encoding="utf-8")

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "check.py", str(extract)],
            cwd=config.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    found = check()
    assert found.returncode == 0, found.stderr
    assert {line.split()[0] for line in found.stdout.splitlines()} <= set(verify(days.url).chains)
    assert "monitoring" in found.stdout
    text = extract.read_text("utf-8")
    extract.write_text(text.replace('""trigger"":""bar""', '""trigger"":""bad""', 1), "utf-8")
    assert extract.read_text("utf-8") != text
    assert "was altered" in check().stderr
    lines = text.splitlines(keepends=True)
    extract.write_text("".join([*lines[:2], *lines[3:]]), "utf-8")
    assert "does not follow" in check().stderr


def test_the_section_of_the_page_is_read(tmp_path: Path) -> None:
    file = tmp_path / "margincast.toml"
    file.write_text(blocks("toml")[0], encoding="utf-8")
    stated = tomllib.loads(blocks("toml")[0])["reports"]
    reports = load_config(file).reports
    assert (reports.cron, list(reports.kinds)) == (stated["cron"], stated["kinds"])
    assert reports.folder == tmp_path / stated["folder"]
    assert set(stated) == set(type(reports).model_fields)
