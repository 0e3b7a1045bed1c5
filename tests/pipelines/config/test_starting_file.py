"""The configuration that `init` and a first `run` write where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from market.core.errors import ConfigError
from pipelines.cli.main import app
from pipelines.config.config import load_config
from pipelines.config.starting_file import write_starting_file

ROOT = Path(__file__).resolve().parents[3]


def test_init_writes_the_file_of_the_repository_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init"], catch_exceptions=False)
    assert (done.exit_code, "margincast.toml" in done.output) == (0, True)
    file = tmp_path / "margincast.toml"
    file.unlink()
    done = CliRunner().invoke(app, ["init", "--json", "-"], catch_exceptions=False)
    assert json.loads(done.stdout) == {"written": str(file)}
    assert "margincast.toml written" in done.stderr
    assert file.read_bytes() == (ROOT / "margincast.toml").read_bytes()
    file.write_text("[simulate]\nseed = 5\n")
    with pytest.raises(ConfigError, match=r"'margincast\.toml' exists and is not overwritten"):
        write_starting_file(Path("margincast.toml"))
    assert file.read_text() == "[simulate]\nseed = 5\n"


def test_run_without_a_file_writes_it_and_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARGINCAST__LEDGER__URL", f"sqlite:///{tmp_path}/absent/ledger.db")
    (tmp_path / "absent").touch()  # no ledger can be there: refused before the market is simulated
    done = CliRunner().invoke(app, ["run", "--once"])
    assert done.exit_code != 0
    assert "margincast.toml written, as there was none" in done.output
    assert load_config().serving.auth == "off"


def test_run_leaves_a_file_that_is_there_or_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = tmp_path / "other.toml"
    given.write_text("[simulate]\nseeed = 5\n")
    done = CliRunner().invoke(app, ["run", "--once", "--config", "other.toml"])
    assert "simulate.seeed" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["other.toml"]
