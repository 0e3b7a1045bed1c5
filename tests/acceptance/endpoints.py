"""Endpoints as their users see them, in a thread or a process, and the command line beside them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from serving.http.starting import STARTING
from tests.waiting import WAIT_SECONDS

MARGINCAST = Path(sys.executable).parent / "margincast"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
READY_SECONDS = 600.0
REQUEST_SECONDS = 120.0
"""Bounds on what hangs, not measures of speed: machines are shared."""

TRAINING = """
[simulate]
days = 32
symbols = 3

[accounts]
count = 150

[training]
fit_end = "2025-01-20T00:00:00Z"
calibrate_end = "2025-01-24T00:00:00Z"
test_end = "2025-01-28T00:00:00Z"
max_rows = 4000

[review]
folds = 0
ablation = false
backtest = false

[tracking]
uri = "sqlite:///var/mlflow.db"

[serving]
bundles = "var/bundles"
clock = "market"
auth = "off"

[ledger]
url = "sqlite:///var/ledger.db"
"""

ENDPOINT = """
[logging]
level = "warning"

[market]
bars = ["{bars}"]
{market}

[training]
fit_end = "2025-01-20T00:00:00Z"
calibrate_end = "2025-01-24T00:00:00Z"
test_end = "2025-01-28T00:00:00Z"
max_rows = 4000

[accounts]
count = 150

[rules]
ruleset = "{ruleset}"

[tracking]
uri = "sqlite:///var/mlflow.db"

[serving]
bundles = "{bundles}"
port = {port}
clock = "{clock}"
auth = "{auth}"
{serving}

[ledger]
url = "sqlite:///var/ledger.db"
"""


def instant(text: str) -> datetime:
    """A time of the interfaces."""
    return datetime.fromisoformat(text).astimezone(UTC)


def written(time: datetime) -> str:
    """A time as the interfaces write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def read_json(text: str | bytes) -> Any:
    """JSON without the constants that JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} has no place in JSON")

    return json.loads(text, parse_constant=refuse)


def clean_environment(**variables: str) -> dict[str, str]:
    """The surrounding environment without settings of Margincast, and with these."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MARGINCAST")}
    quiet = {"MARGINCAST_QUIET": "1"}  # stderr is the error alone
    return kept | {"OMP_WAIT_POLICY": "PASSIVE"} | quiet | variables


def write_config(folder: Path, **keys: object) -> Path:
    """The configuration of an endpoint."""
    config = folder / "margincast.toml"
    config.write_text(ENDPOINT.format(**keys))
    return config


@dataclass(frozen=True)
class Finished:
    """One run of the command line."""

    code: int
    out: str
    err: str


def run_cli(*arguments: str | Path) -> Finished:
    """The entry point of ``margincast`` in this process."""
    from pipelines.cli import main as cli

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("MARGINCAST"):
                patch.delenv(name)
        patch.setenv("MARGINCAST_QUIET", "1")
        patch.setattr(sys, "argv", ["margincast", *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Finished(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class TrainedMarket:
    """A simulated market in files and a bundle that was trained on its first days."""

    folder: Path
    bundle: str
    newest: datetime
    closes: Mapping[str, float]

    @property
    def bars(self) -> Path:
        return self.folder / "simulated" / "bars"

    @property
    def bundles(self) -> Path:
        return self.folder / "var" / "bundles"


@dataclass
class Endpoint:
    """A running endpoint, its configuration, and the market that it was started on."""

    config: Path
    client: httpx.Client
    market: TrainedMarket
    ruleset: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.config.parent

    def at(self, *, hours: float = 0.0, minutes: float = 0.0) -> str:
        """A time after the close of the newest bar in the files."""
        return written(self.market.newest + timedelta(hours=hours, minutes=minutes))

    def get(self, path: str, code: int = 200, **options: Any) -> Any:
        return self._json(self.client.get(path, headers=self.headers, **options), code)

    def post(
        self, path: str, body: object, code: int | tuple[int, ...] = 200, **options: Any
    ) -> Any:
        options.setdefault("headers", self.headers)
        return self._json(self.client.post(path, json=body, **options), code)

    def score(self, *accounts: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
        """The decision of each account by its id; every account must be answered."""
        answer = self.post("/v1/score", {"accounts": list(accounts), **rest})
        assert answer["errors"] == []
        return {decision["account_id"]: decision for decision in answer["decisions"]}

    def decision(self, account: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
        decision: dict[str, Any]
        (decision,) = self.score(account, **rest).values()
        return decision

    def quotes(self, *quotes: Mapping[str, Any]) -> list[str]:
        """Post quotes; what became of each."""
        answer = self.post("/v1/market/quotes", {"quotes": list(quotes)})
        return [result["status"] for result in answer["results"]]

    def marks(self, at: str, **marks: float) -> list[str]:
        """Post marks of one time; a name like ``BTCUSDT_PERP`` stands for ``BTCUSDT-PERP``."""
        return self.quotes(
            *(
                {"instrument": name.replace("_", "-"), "ts": at, "mark": mark}
                for name, mark in marks.items()
            )
        )

    def bars(self, *bars: Mapping[str, Any], **rest: Any) -> list[str]:
        """Post hourly bars; what became of each."""
        body = {"interval": "1h", "bars": list(bars), **rest}
        answer = self.post("/v1/market/bars", body)
        return [result["status"] for result in answer["results"]]

    def bar(
        self, symbol: str, hours: float, close: float, *, opened: float | None = None
    ) -> dict[str, Any]:
        """The bar that opens so many hours after the files end, without wicks."""
        first = close if opened is None else opened
        return {
            "symbol": symbol,
            "ts": self.at(hours=hours),
            "open": first,
            "high": max(first, close),
            "low": min(first, close),
            "close": close,
            "volume": 100.0,
        }

    def quiet_bars(self, hours: float, *without: str, **closes: float) -> list[dict[str, Any]]:
        """The bars of one hour in which nothing moves except to the closes that are given."""
        return [
            self.bar(symbol, hours, closes.get(symbol, self.market.closes[symbol]))
            for symbol in SYMBOLS
            if symbol not in without
        ]

    def cli(self, *arguments: str | Path) -> Finished:
        """A verb of the command line on the endpoint's configuration."""
        return self.cli_with(self.config, *arguments)

    @staticmethod
    def cli_with(config: Path, *arguments: str | Path) -> Finished:
        """A verb of the command line on another configuration."""
        return run_cli(*arguments, "--config", config)

    def score_files(
        self, accounts: Path, as_of: str, *options: str, code: int = 0
    ) -> dict[str, dict[str, Any]]:
        """What ``margincast score`` writes: the row of each account by its id."""
        out = self.folder / "scored.parquet"
        out.unlink(missing_ok=True)
        done = self.cli("score", "--accounts", accounts, "--as-of", as_of, "--out", out, *options)
        assert done.code == code, done.err
        rows = pq.read_table(out).to_pylist()
        return {row["account_id"]: row for row in rows}

    def key(self, *scopes: str) -> dict[str, str]:
        """Headers with a new key of these scopes."""
        done = self.cli("keys", "add", "--scopes", ",".join(scopes))
        assert done.code == 0, done.err
        return {"Authorization": f"Bearer {done.out.split()[-1]}"}

    @staticmethod
    def _json(response: httpx.Response, code: int | tuple[int, ...]) -> Any:
        expected = (code,) if isinstance(code, int) else code
        assert response.status_code in expected, response.text
        return read_json(response.content)


def serve_in_thread(config: Path, failures: list[BaseException]) -> None:
    from pipelines.config.config import load_config
    from pipelines.jobs.serve import serve

    try:
        serve(load_config(config))
    except BaseException as error:  # noqa: BLE001 - the test that waits reports it
        failures.append(error)


def wait_until_started(client: httpx.Client, failures: list[BaseException]) -> None:
    """Until the market is read; it may be unfit to decide on all the same."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if failures:
            raise failures[0]
        try:
            if STARTING not in client.get("/health/ready").json()["reasons"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.01)
    pytest.fail(f"the endpoint did not start within {READY_SECONDS:g} s")


class Service:
    """``margincast serve`` as a process, for what could stop a thread of the tests."""

    def __init__(self, config: Path, port: int) -> None:
        self._config = config
        self.folder = config.parent
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=REQUEST_SECONDS
        )
        self.process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        with (self._config.parent / "serve.err").open("ab") as errors:
            process = subprocess.Popen(
                [MARGINCAST, "serve", "--config", self._config],
                cwd=self._config.parent,
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        wait_until_started(self.client, [])
        return process

    def answers(self) -> bool:
        """Whether it runs and says so."""
        try:
            return self.client.get("/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def restart(self) -> None:
        """A new process in the place of one that no longer answers."""
        self.process.kill()
        self.process.wait(WAIT_SECONDS)
        self.process = self._begin()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, body: object, timeout: float = REQUEST_SECONDS) -> httpx.Response:
        return self.client.post(
            path,
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
            timeout=timeout,
        )

    def try_post(self, path: str, body: object, timeout: float) -> httpx.Response | None:
        """An answer, or none within the time."""
        try:
            return self.post(path, body, timeout)
        except httpx.HTTPError:
            return None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_SECONDS)
