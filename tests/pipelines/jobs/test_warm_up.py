"""Kernels are compiled before readiness, or before there is an endpoint at all; never by a request.

numba writes a file for each kernel that it compiles, so the folder of the kernels says who compiled
what. None of this depends on how fast the machine is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from serving.http.starting import STARTING

Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any
Serve: TypeAlias = Callable[..., Any]

ACCOUNT = {
    "account_id": "acc-1",
    "cash": 1_000.0,
    "positions": [
        {"instrument": "BTCUSDT-PERP", "quantity": 0.1},
        {"instrument": "ETHUSDT-PERP", "quantity": -1.0},
    ],
}
BODY = {"accounts": [ACCOUNT]}


def kernels(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.nbc")}


def next_bars(trained: TrainedMarket) -> dict[str, Any]:
    prices = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    symbols = trained.simulated["symbols"]
    bars = [{"symbol": s, "ts": trained.newest, **prices, "volume": 1.0} for s in symbols]
    return {"interval": "1h", "bars": bars}


@pytest.mark.slow
def test_without_kernels_it_is_live_at_once_and_ready_when_they_are_compiled(
    workspace: Workspace, begin: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "kernels-empty"
    endpoint = begin(workspace, NUMBA_CACHE_DIR=str(folder))
    endpoint.until_live()
    compiled = kernels(folder)
    assert endpoint.get("/health/ready", 503) == {"status": "unavailable", "reasons": [STARTING]}
    assert "compiling kernels" in STARTING
    endpoint.until_ready()
    ready = kernels(folder)
    assert ready > compiled, "it was live before all kernels were compiled"
    (decision,) = endpoint.post("/v1/score", BODY)["decisions"]
    assert decision["degraded"] is None
    (explained,) = endpoint.post("/v1/score", {**BODY, "explain": True})["decisions"]
    assert explained["explain"]
    assert kernels(folder) == ready, "the first scores compile nothing"
    page = endpoint.get("/v1/accounts/warm-up-0-1/decisions")
    assert page["decisions"] == [], "the warm-up score is not on record"


@pytest.mark.slow
def test_an_endpoint_compiles_nothing_after_the_command(
    trained: TrainedMarket, workspace: Workspace, bare: Workspace, serve: Serve, tmp_path: Path
) -> None:
    """The command knows neither the market nor the model that are served later."""
    folder = tmp_path / "kernels-image"
    spoken = {"NUMBA_CACHE_DIR": str(folder), "MARGINCAST_QUIET": ""}
    first = bare.run("warm-up", "--json", "report.json", **spoken)
    report = json.loads((bare.folder / "report.json").read_text())
    (line,) = first.stderr.splitlines()
    assert line.startswith("progress: compiling kernels once, about a minute; ")
    compiled = kernels(folder)
    assert report["new_files"] == report["files"] == len(list(folder.rglob("*.nbc"))) > 0
    assert sorted(path.name for path in bare.folder.iterdir()) == ["margincast.toml", "report.json"]

    endpoint = serve(workspace, NUMBA_CACHE_DIR=str(folder))
    (decision,) = endpoint.post("/v1/score", BODY)["decisions"]
    assert decision["model"] == trained.champion
    assert decision["degraded"] is None
    question = {"account_id": "acc-1", "instrument": "BTCUSDT-PERP", "side": "sell"}
    asked = {"target_headroom": 10.0, "marginal": True, "largest": [question]}
    endpoint.post("/v1/what-if", {**BODY, **asked})
    endpoint.post("/v1/market/bars", next_bars(trained))
    endpoint.post("/v1/score", BODY)
    assert sorted(kernels(folder) - compiled) == []

    again = bare.run("warm-up", "--json", "-", **spoken)
    assert json.loads(again.stdout)["new_files"] == 0
    assert again.stderr == "", "nothing is compiled"
