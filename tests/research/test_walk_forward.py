"""The study trains on the past of each block alone, pools seeds, and continues where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import research.experiments.walk_forward
from market.core.clock import HOUR, format_time, parse_time
from pipelines.config.config import Config, load_config
from research.experiments.walk_forward import main, tables, walk_forward
from training.evaluation.evaluate import Forecasts
from training.labels.dataset import Dataset
from training.labels.splits import Block

CONFIG = """
[simulate]
days = 120
symbols = 8

[accounts]
count = 40

[training]
max_rows = 3000
"""


@dataclass(frozen=True)
class Known:
    """A stand-in for a candidate: it forecasts the first passage, and worse for the baselines."""

    def forecast(self, data: Dataset) -> Forecasts:
        by_horizon = {}
        for hours in data.horizons:
            p = np.clip(data.columns[f"first_passage_{hours}"], 0.001, 0.999)
            by_horizon[hours] = {"margincast": p, "first_passage": np.clip(1.2 * p, 0.0, 1.0)}
        return Forecasts(by_horizon)


@dataclass
class Fits:
    """Spans of the trainings: last learnt decision time, first and last one held out."""

    spans: list[tuple[int, int, int]]

    def fit(self, data: Dataset, block: npt.NDArray[np.int8], **_: bool) -> Known:
        learnt = data.time[(block == Block.FIT) | (block == Block.CALIBRATE)]
        held = data.time[block == Block.TEST]
        self.spans.append((int(learnt.max()), int(held.min()), int(held.max())))
        assert int(data.time.max()) <= held.max() + 25 * HOUR, "no row after the block is read"
        return Known()


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    found = Fits([])
    monkeypatch.setattr(research.experiments.walk_forward, "fit_candidate", found.fit)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "walk.toml"
    path.write_text(CONFIG)
    return load_config(path)


def test_every_block_of_every_seed_learns_from_the_past_only(
    config: Config, fits: Fits, tmp_path: Path
) -> None:
    report = walk_forward(config, [1, 2], tmp_path / "parts")
    assert report["block_length"].startswith("1 calendar month")
    assert len(report["blocks"]) == 3
    assert len(fits.spans) == 6
    for learnt, begin, _ in fits.spans:
        assert learnt + 24 * HOUR <= begin
    for hours, pooled in report["pooled"].items():
        rows = [block["horizons"][hours]["rows"] for block in report["blocks"]]
        assert pooled["rows"] == sum(rows)
        assert pooled["rows"] == sum(report["by_seed"][seed][hours]["rows"] for seed in "12")
        assert pooled["best_baseline"] == "first_passage"
    assert "| all |" in tables(report)


def test_an_interrupted_study_continues_and_a_changed_one_starts_anew(
    config: Config, fits: Fits, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    whole = walk_forward(config, [1], parts)
    (parts / f"seed1_{whole['blocks'][1]['from'][:10]}.json").unlink()
    del fits.spans[:]
    assert walk_forward(config, [1], parts) == whole
    (span,) = fits.spans
    assert span[1] >= parse_time(whole["blocks"][1]["from"])
    training = config.training.model_copy(update={"max_rows": 2500})
    del fits.spans[:]
    walk_forward(config.model_copy(update={"training": training}), [1], parts)
    assert len(fits.spans) == 3


def test_command_writes_json_and_prints_the_tables(
    config: Config,
    fits: Fits,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.json"
    main([str(tmp_path / "walk.toml"), "--seeds", "7", "--json", str(out)])
    report = json.loads(out.read_text())
    assert report["seeds"] == [7]
    assert (tmp_path / "out.parts").is_dir()
    assert report["blocks"][0]["from"][:10] in capsys.readouterr().out
    assert format_time(fits.spans[0][1]) >= report["blocks"][0]["from"]
