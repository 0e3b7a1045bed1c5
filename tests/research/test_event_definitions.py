"""The table of event definitions: what it compares, and that an interrupted run continues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.config.config import Config, load_config
from research.experiments import event_definitions
from research.experiments.event_definitions import compare, definitions, table
from training.labels.dataset import DatasetOptions

HORIZON = {
    "positives": 1_234,
    "base_rate": 0.0123,
    "log_loss_skill": 0.02,
    "log_loss_skill_ci95": [0.01, 0.03],
    "predicted_over_observed": 1.04,
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "margincast.toml"
    path.write_text("[simulate]\ndays = 12\nsymbols = 2\n[accounts]\ncount = 4\n")
    return load_config(path)


def test_every_event_along_every_path_and_funding_along_closes() -> None:
    base = DatasetOptions(horizons=(1, 8))
    without = list(definitions(base, funding=False))
    assert len(without) == len({(o.event, o.extremes) for o in without}) == 12
    paid = [o for o in definitions(base, funding=True) if o.funding]
    assert [(o.event, o.extremes) for o in paid] == [
        (event, "close") for event in ("warning", "call", "liquidation", "bad_debt")
    ]


def test_interrupted_run_continues_until_code_or_rows_change(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[tuple[str, str]] = []
    allowed = 2

    def figures(*arguments: object) -> dict[str, object]:
        options = arguments[3]
        assert isinstance(options, DatasetOptions)
        if len(evaluated) == allowed:
            raise KeyboardInterrupt
        evaluated.append((options.event, options.extremes))
        return {"horizons": {"1": HORIZON}}

    monkeypatch.setattr(event_definitions, "evaluated", figures)
    out = tmp_path / "events.json"
    with pytest.raises(KeyboardInterrupt):
        compare(config, 1_000, out)
    assert len(json.loads(out.read_bytes())["definitions"]) == 2
    allowed = 12
    report = compare(config, 1_000, out)
    assert len(evaluated) == len(set(evaluated)) == len(report["definitions"]) == 12
    assert json.loads(out.read_bytes()) == report
    evaluated.clear()
    assert compare(config, 2_000, out)["rows"] == 2_000
    assert len(evaluated) == 12


def test_table_has_a_row_a_horizon_and_the_reason_of_what_is_missing() -> None:
    lines = table(
        [
            {"event": "call", "extremes": "close", "funding": False, "level": 1.0}
            | {"horizons": {"8": HORIZON}},
            {"event": "warning", "extremes": "bound", "funding": False}
            | {"not_evaluated": "no warning"},
        ]
    ).splitlines()
    assert lines[3].startswith("| call | 1 | close | no | 8 h | 1,234 | 1.230% | 2.0% |")
    assert lines[3].endswith("| 1.0% to 3.0% | 1.04 |")
    assert "not evaluated: no warning" in lines[2]
    assert {line.count("|") for line in lines} == {11}
