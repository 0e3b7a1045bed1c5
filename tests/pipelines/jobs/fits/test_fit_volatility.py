"""The verb fit-volatility on a simulated market."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.market.volatility.forecast.coefficients import VolatilityCoefficients
from market.core.errors import DataError
from pipelines.cli.main import app
from pipelines.config.config import load_config
from pipelines.jobs.fits.volatility import fit_volatility

CONFIG = "[simulate]\ndays = 60\nsymbols = 4\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "margincast.toml"
    path.write_text(CONFIG)
    return path


def test_coefficients_are_written_with_their_provenance_and_errors(
    config: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "c.json", tmp_path / "report.json"
    arguments = ["--end", "2025-02-15", "--out", str(out), "--json", str(report)]
    done = CliRunner().invoke(app, ["fit-volatility", "--config", str(config), *arguments])
    assert done.exit_code == 0, done.output
    found = json.loads(report.read_text())
    fitted = VolatilityCoefficients.from_content(json.loads(out.read_text()), "c.json")
    assert found["end"] == "2025-02-15T00:00:00Z"
    assert found["bars_sha256"] == fitted.bars_sha256
    assert found["rows"] == dict(zip(("1", "8", "24", "168"), fitted.rows, strict=True))
    errors = found["rmse_of_log_volatility"]
    for spans in errors.values():
        assert spans["fitted_span"]["fitted"] < spans["fitted_span"]["mean_of_four"]
        assert spans["after"]["in_use"] > 0.0


def test_an_end_past_the_bars_is_refused_and_nothing_is_written(
    config: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="give an earlier end or more bars"):
        fit_volatility(load_config(config), "2035-01-01", tmp_path / "c.json")
    with pytest.raises(DataError, match="ISO 8601"):
        fit_volatility(load_config(config), "someday", tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()
