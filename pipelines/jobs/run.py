"""The main job: simulate, retrain, score the book."""

from __future__ import annotations

from typing import Any

from market.core.redaction import display_address
from pipelines.cli.settings import warn
from pipelines.config.config import Config
from pipelines.jobs.retrain import retrain
from pipelines.jobs.score import degraded_line, score_book
from pipelines.jobs.simulate import simulate
from pipelines.reports.report import console, facts, retrain_tables


def run(config: Config) -> dict[str, Any]:
    """Simulate a market and a book, retrain, gate, register, score the book."""
    work = config.serving.bundles.parent
    simulated = simulate(config, work / "simulated")
    report = retrain(config)
    retrain_tables(report)
    scored = score_book(
        config,
        work / "simulated" / "accounts",
        simulated["span"][1],
        work / "scored.parquet",
        record=True,
    )
    facts("score", {key: value for key, value in scored.items() if key not in ("errors", "bars")})
    line = degraded_line(scored)
    if line is not None:
        warn(line)
    return {"simulate": simulated, "retrain": report, "score": scored}


def print_addresses(config: Config, *, serving: bool) -> None:
    """Print the addresses and files of the results; those of the endpoint if it is started."""
    address = f"http://{config.serving.host}:{config.serving.port}"
    endpoint = {"API page": f"{address}/docs", "health": f"{address}/health/ready"}
    facts(
        "look here",
        {
            **(endpoint if serving else {"endpoint": "margincast serve"}),
            "decisions": str(config.serving.bundles.parent / "scored.parquet"),
            "experiments": f"mlflow ui --backend-store-uri {display_address(config.tracking.uri)}",
            "review": "margincast review --out review.html",
            "audit": "margincast ledger verify",
        },
    )
    if serving:
        console.print("endpoint runs until Ctrl-C")
