"""``review --shadow``: both models on the same recorded decisions, by labels that have matured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pytest

from models.bundle.bundle import write_bundle
from models.bundle.pointer import set_challenger
from models.bundle.schema import canonical_json

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any
Serve: TypeAlias = Callable[..., Any]

ACCOUNTS = 40


def write_challenger(bundles: Path, champion: str) -> str:
    """The champion with a remark: another bundle whose probabilities are the same."""
    files = {path.name: path.read_bytes() for path in (bundles / champion).iterdir()}
    del files["checksums.json"]
    manifest = json.loads(files["manifest.json"])
    manifest["training"]["remark"] = "challenger"
    return write_bundle(bundles, files | {"manifest.json": canonical_json(manifest)})


def cut_bars(source: Path, target: Path, hours: int) -> Path:
    """The bar files without their last hours."""
    target.mkdir()
    for path in source.glob("*.parquet"):
        pd.read_parquet(path).iloc[:-hours].to_parquet(target / path.name)
    return target


def accounts(symbols: list[str], marks: dict[str, float]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    return [
        {
            "account_id": f"levered-{i}",
            "cash": 1_000.0,
            "positions": [
                {
                    "instrument": f"{symbols[i % len(symbols)]}-PERP",
                    "quantity": float(rng.uniform(5.0, 30.0))
                    * 1_000.0
                    / marks[symbols[i % len(symbols)]],
                }
            ],
        }
        for i in range(ACCOUNTS)
    ]


@pytest.fixture
def bars(trained: TrainedMarket) -> Path:
    (path, *_) = sorted((trained.workspace.folder / "simulated").rglob("*USDT.parquet"))
    return Path(path).parent


@pytest.mark.slow
def test_same_model_in_shadow_has_the_same_loss_on_matured_decisions(
    workspace: Workspace, trained: TrainedMarket, bars: Path, serve: Serve, tmp_path: Path
) -> None:
    challenger = write_challenger(workspace.bundles, trained.champion)
    set_challenger(workspace.bundles, challenger)
    symbols = sorted(path.stem for path in bars.glob("*.parquet"))
    decided = 0
    for hours in (76, 50, 6):  # the last one has not matured at 8 and 24 h
        folder = cut_bars(bars, tmp_path / f"bars-{hours}", hours)
        marks = {
            s: float(pd.read_parquet(folder / f"{s}.parquet")["close"].iloc[-1]) for s in symbols
        }
        endpoint = serve(workspace, MARGINCAST__MARKET__BARS=json.dumps([str(folder)]))
        answer = endpoint.post("/v1/score", {"accounts": accounts(symbols, marks)})
        assert {decision["model"] for decision in answer["decisions"]} == {trained.champion}
        decided += len(answer["decisions"])
        endpoint.stop()
    assert workspace.sql("SELECT count(*) FROM records WHERE kind = 'shadow'")[0][0] >= 3
    variables = {"MARGINCAST__MARKET__BARS": json.dumps([str(bars)])}
    out = workspace.folder / "review.json"
    shown = workspace.run("review", "--shadow", "--json", out, **variables).stdout
    found = json.loads(out.read_text())["shadow"]
    assert found["champion"] == trained.champion
    assert found["challenger"] == challenger
    assert found["decisions"] == decided
    assert 0 < found["rows"] <= 2 * ACCOUNTS
    assert found["add_on"]["champion"] == pytest.approx(found["add_on"]["challenger"])
    assert set(found["horizons"]) == {"1", "8", "24"}
    for figures in found["horizons"].values():
        assert figures["log_loss"]["champion"] == figures["log_loss"]["challenger"] > 0.0
        assert figures["skill"] == 0.0
        assert figures["skill_ci95"] == [0.0, 0.0]
    assert f"challenger {challenger[:12]} scored {decided} decisions" in shown


def test_comparison_without_a_challenger_is_one_line(trained: TrainedMarket) -> None:
    line = trained.workspace.refusal("review", "--shadow")
    assert "challenger none" in line


def test_comparison_before_any_shadow_score_is_one_line(
    workspace: Workspace, trained: TrainedMarket
) -> None:
    set_challenger(workspace.bundles, write_challenger(workspace.bundles, trained.champion))
    assert "no decision of champion" in workspace.refusal("review", "--shadow")
