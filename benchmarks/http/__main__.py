"""``python -m benchmarks.http``: measure the endpoint beside its peers and write the results."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.http import report, scenarios, wrk
from benchmarks.http.closed_loop import Rounds
from benchmarks.http.contenders import bentoml_version
from benchmarks.http.process import choose_cores
from benchmarks.http.world import ACCOUNTS, DAYS, SYMBOLS, World, make_world
from benchmarks.measure import RESULTS, machine
from benchmarks.workloads.sample_book import TREES

LOOP = "closed_loop"
SCENARIOS: dict[str, Callable[[scenarios.Bench], Any]] = {
    LOOP: scenarios.one_account_a_call,
    "open_loop": scenarios.constant_rate,
    "accounts_1000": scenarios.many_accounts_a_call,
    "in_process": scenarios.in_process,
    "auth": scenarios.auth,
    "workers": scenarios.two_workers,
    "start_up": scenarios.start,
    "memory": scenarios.memory_use,
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Parse, measure, print, write; the results."""
    options = _parser().parse_args(arguments)
    chosen = [name.strip() for name in options.only.split(",") if name.strip()] or list(SCENARIOS)
    unknown = sorted(set(chosen) - set(SCENARIOS))
    if unknown:
        raise SystemExit(f"--only names {unknown}; choose among {', '.join(SCENARIOS)}")
    if wrk.find_wrk() is None:
        raise SystemExit(wrk.MISSING)
    if LOOP in chosen and bentoml_version() is None:
        raise SystemExit(
            "BentoML is not installed in .venv-peers; run `make bench-http`, which installs "
            "benchmarks/peers/requirements.lock there"
        )
    server_core, load_core = choose_cores()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        print("makes a market, a model and accounts", flush=True)
        world = make_world(Path(folder).resolve(), days=options.days, accounts=options.accounts)
        bench = scenarios.Bench(world, server_core, load_core, _sizes(options), _log)
        measured = {name: _run(name, bench) for name in chosen}
        result = {**_head(options, world, chosen), **_results(measured)}
    _print(measured)
    out = options.out or (RESULTS / "http.json" if len(chosen) == len(SCENARIOS) else None)
    if out is not None:
        report.write_json(result, out)
        print(f"\nwritten to {out}")
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    add = parser.add_argument
    add("--only", default="", help=f"scenarios, by comma: {', '.join(SCENARIOS)}; default all")
    add("--rounds", type=int, default=3, help="turns of each server at each connection count")
    add("--seconds", type=int, default=10, help="length of a turn")
    add("--warm-up", type=int, default=3, help="seconds of load before the first round")
    add("--rate", type=int, default=500, help="requests a second of the open loop")
    add("--open-loop-seconds", type=int, default=20, help="length of the open loop")
    add("--calls", type=int, default=20, help="calls of 1,000 accounts")
    add("--book-accounts", type=int, default=20_000, help="accounts scored in process")
    add("--starts", type=int, default=5, help="starts of the endpoint in each warm case")
    add("--decisions", type=int, default=20_000, help="decisions over which memory is watched")
    add("--days", type=int, default=DAYS, help="days of the simulated market")
    add("--accounts", type=int, default=ACCOUNTS, help="different accounts that are sent")
    add("--out", type=Path, help="file of results; default benchmarks/results/http.json if whole")
    return parser


def _sizes(options: argparse.Namespace) -> scenarios.Options:
    return scenarios.Options(
        Rounds(options.rounds, options.seconds, options.warm_up),
        options.rate,
        options.open_loop_seconds,
        options.calls,
        options.book_accounts,
        options.starts,
        options.decisions,
    )


def _run(name: str, bench: scenarios.Bench) -> Any:
    start = time.perf_counter()
    print(f"{name}", flush=True)
    figures = SCENARIOS[name](bench)
    print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    return figures


def _head(options: argparse.Namespace, world: World, chosen: list[str]) -> dict[str, Any]:
    """Machine and settings: what the figures depend on."""
    settings = {name: value for name, value in vars(options).items() if name not in ("out", "only")}
    return {
        "name": "http",
        "machine": {
            **machine(),
            "mlflow": version("mlflow"),
            "uvicorn": version("uvicorn"),
            "bentoml": bentoml_version() or "not installed",
            "wrk": wrk.version(),
        },
        "settings": {
            **settings,
            "scenarios": ", ".join(chosen),
            "symbols": SYMBOLS,
            "horizons": len(world.model.horizons),
            "trees_per_horizon": TREES,
            "columns": len(world.model.bundle.schema.features),
            "ledger": "sqlite on disk",
            "note": "Server on one core, load on another. margincast: whole decisions on one "
            "account, each committed to the ledger before its answer; mlflow_serve and bentoml: "
            "bare predictions of one row by the same ONNX graph, one worker, one thread. All in "
            "the same run, in turn, the others paused; medians of the rounds. cpu_ms: processor "
            "time of the server for one answer.",
        },
    }


def _results(measured: dict[str, Any]) -> dict[str, Any]:
    """The contenders at the top, the other scenarios beside them."""
    loops = measured.get(LOOP, {})
    others = {name: figures for name, figures in measured.items() if name != LOOP}
    shares = {"ratios": report.ratios(loops)} if loops else {}
    return {**loops, **shares, **{name: value for name, value in others.items() if value}}


def _print(measured: dict[str, Any]) -> None:
    for name, figures in measured.items():
        if name == LOOP:
            print("\none account a call; ratio: margincast over the peer, in answers a second")
            print(report.table(figures))
        elif figures is None:
            print(f"\n{name}: this version has none")
        else:
            print(f"\n{name}")
            print("\n".join(report.lines(name, figures)))


def _log(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
