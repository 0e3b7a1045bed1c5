"""The main job: simulate, retrain, score a book, and say where to look.

What an earlier run left is used again where another run would only repeat it: an identical training
(`pipelines.registry.training_inputs`) is left out, and the book is not scored again by the same
model. Then neither MLflow nor LightGBM is loaded, and the endpoint is up within seconds.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from sqlalchemy import select

from ledger.schema import records
from ledger.store import Ledger
from market.core.redaction import display_address
from models.bundle.pointer import CHAMPION, read_pointer
from pipelines.cli.settings import warn
from pipelines.config.config import DEFAULT_FILE, Config
from pipelines.data.loaders import read_market
from pipelines.jobs.score import degraded_line, score_book
from pipelines.jobs.simulate import describe_market, write_market
from pipelines.jobs.workers import listen
from pipelines.registry.training_inputs import identical_training
from pipelines.reports.book_table import book_table, summarise_book
from pipelines.reports.report import console, facts, retrain_tables
from pipelines.venue.client_files import clients_folder, write_clients
from pipelines.venue.process import check_venue

_SCORED = "scored.parquet"


def check_run(config: Config, *, serving: bool) -> None:
    """Refuse at once what would fail after the training.

    Raises
    ------
    ConfigError
        The port is used, or the simulated market cannot go on beside the endpoint; only where it
        is to be served.
    LedgerError
        The ledger cannot be written.
    """
    if serving:
        check_venue(config)
        listen(config.serving.host, config.serving.port).close()
    with Ledger(config.ledger.url) as ledger, ledger.transaction() as connection:
        connection.execute(select(records.c.seq).limit(1))


def run(config: Config, config_file: Path | None = None) -> dict[str, Any]:
    """Simulate a market and a book, retrain, gate, register, score the book.

    `config_file` is named in what is printed.

    Returns
    -------
    dict
        ``simulate`` and ``score`` are None where what is there was used again; ``retrain`` has
        ``skipped``; ``book`` is `summarise_book`.
    """
    work = config.serving.bundles.parent
    retrained: dict[str, Any] = {"skipped": False}
    known = identical_training(config)
    if known is not None:
        again = command_line("margincast", "retrain", config_file=config_file)
        console.print(
            "retrain: skipped, as data, rules, configuration and code are those of the newest "
            f"training ({known['verdict']}, bundle {known['bundle'][:12]}); to train anyway: "
            f"{again}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
        retrained = {"skipped": True, **known}
        if _scored_by_champion(config):
            rows = summarise_book(pq.read_table(work / _SCORED))
            book_table(rows)
            return {"simulate": None, "retrain": retrained, "score": None, "book": rows}
    simulated = _simulate(config, work / "simulated")
    if known is None:
        from pipelines.jobs.retrain import retrain

        retrained |= retrain(config)
        retrain_tables(retrained)
    scored = score_book(
        config,
        clients_folder(config),
        simulated["span"][1],
        work / _SCORED,
        record=True,
        explain=True,
    )
    facts("score", {key: value for key, value in scored.items() if key not in ("errors", "bars")})
    line = degraded_line(scored)
    if line is not None:
        warn(line)
    rows = summarise_book(pq.read_table(work / _SCORED))
    book_table(rows)
    return {"simulate": simulated, "retrain": retrained, "score": scored, "book": rows}


def print_addresses(config: Config, *, serving: bool, config_file: Path | None = None) -> None:
    """Print the addresses and files of the results, one a line; those of the endpoint if it is
    started. Commands can be pasted into a shell in any folder."""
    console.print("look here", highlight=False)
    for name, text in addresses(config, serving=serving, config_file=config_file).items():
        console.print(f"  {name + ':':<14}{text}", soft_wrap=True, markup=False, highlight=False)
    if serving and config.simulate.speed > 0.0:
        console.print(f"the market moves on, {config.simulate.speed:g} times as fast as the clock")
    if serving:
        console.print("endpoint runs until Ctrl-C")


def addresses(config: Config, *, serving: bool, config_file: Path | None = None) -> dict[str, str]:
    """Addresses, files and commands by what they show."""
    url = f"http://{config.serving.host}:{config.serving.port}"
    here = {"console": f"{url}/", "API page": f"{url}/docs", "health": f"{url}/health/ready"}
    if config.monitoring.enabled:
        here["live book"] = f"curl -s '{url}/v1/accounts?sort=deposit_to_meet&limit=5'"
    if config.enforcement.enabled:
        here["calls"] = f"curl -s '{url}/v1/calls?open=true&limit=5'"
        here["missed"] = f"curl -s '{url}/v1/calls?state=reduce_only&limit=5'"
        here["instructions"] = f"curl -s '{url}/v1/instructions?limit=5'"
    if not serving:
        here = {"endpoint": command_line("margincast", "serve", config_file=config_file)}
    store = display_address(config.tracking.uri)
    return {
        **here,
        "decisions": shlex.quote(str((config.serving.bundles.parent / _SCORED).absolute())),
        "experiments": command_line("mlflow", "ui", "--backend-store-uri", store),
        "review": command_line(
            *("margincast", "review", "--out", str(Path.cwd() / "review.html")),
            config_file=config_file,
        ),
        "audit": command_line("margincast", "ledger", "verify", config_file=config_file),
    }


def command_line(program: str, *arguments: str, config_file: Path | None = None) -> str:
    """A command as it can be pasted into a fresh shell in any folder.

    The program is the one beside the running interpreter, by its name alone where ``PATH`` leads
    to it. Of margincast, the configuration is named by its absolute path; without such a file the
    command changes to the current folder, at which the paths of the default start.
    """
    beside = Path(sys.executable).with_name(program)
    found = shutil.which(program)
    on_path = found is not None and (not beside.exists() or Path(found).samefile(beside))
    command = [program if on_path or not beside.exists() else str(beside), *arguments]
    if program != "margincast":
        return shlex.join(command)
    file = (config_file or DEFAULT_FILE).absolute()
    if file.exists():
        return shlex.join([*command, "--config", str(file)])
    return f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(command)}"


def _simulate(config: Config, out: Path) -> dict[str, Any]:
    """Write the market and the clients of its venue."""
    market = read_market(config)
    write_market(config, market, out)
    accounts = write_clients(config, market)
    return {"out": str(out), **describe_market(market), "accounts": accounts}


def _scored_by_champion(config: Config) -> bool:
    """Whether the champion scored the book that is there, with all reasons."""
    path = config.serving.bundles.parent / _SCORED
    if not (path.is_file() and (clients_folder(config) / "positions.parquet").is_file()):
        return False
    table = pq.read_table(path, columns=["model", "explain"])
    models = set(table["model"].to_pylist())
    champion = read_pointer(config.serving.bundles, CHAMPION)
    return models == {champion} and table["explain"].null_count == 0
