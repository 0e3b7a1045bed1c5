"""What the command line says and how it ends, where it used to say nothing or too much."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq
import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any
Start: TypeAlias = Callable[..., Endpoint]

SECRET = "hunter2-not-to-be-shown"  # noqa: S105 - looked for in what is printed


@pytest.fixture(scope="module")
def endpoint(start: Start) -> Endpoint:
    """A configuration with data, a bundle and a ledger; the verbs use no more of it."""
    return start(own_bundles=True)


def holders(endpoint: Endpoint, *extra: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    price = endpoint.market.closes["BTCUSDT"]
    return [
        {
            "account_id": f"holder-{index}",
            "cash": 0.2 * price,
            "positions": [
                {"instrument": "BTCUSDT-PERP", "quantity": 1.0 + index, "entry_price": price}
            ],
            "collateral": [],
        }
        for index in range(3)
    ] + list(extra)


UNKNOWN = {
    "account_id": "unknown-instrument",
    "cash": 1_000.0,
    "positions": [{"instrument": "XYZUSDT-PERP", "quantity": 1.0, "entry_price": 1.0}],
    "collateral": [],
}


def score(endpoint: Endpoint, folder: Path, as_of: str) -> tuple[Any, dict[str, Any], Path]:
    """One run of the verb: how it ended, its report if any, and its file."""
    out, report = folder / "scored.parquet", folder / "score.json"
    done = endpoint.cli(
        "score", "--accounts", folder, "--as-of", as_of, "--out", out, "--json", report
    )
    return done, json.loads(report.read_text()) if report.exists() else {}, out


def printed(text: str, name: str) -> bool:
    """Whether a number stands beside a word in a line of what was printed."""
    beside = rf"\b{name}\b[^\d\n]*\d|\d[^\d\n]*\b{name}\b"
    return re.search(beside, text) is not None


def test_score_prints_how_many_are_degraded_and_how_many_failed(
    endpoint: Endpoint, account_files: Callable[..., Path], tmp_path: Path
) -> None:
    folder = account_files(tmp_path, endpoint.at(), holders(endpoint, UNKNOWN))
    done, report, out = score(endpoint, folder, endpoint.at())
    assert done.code == 0, done.err
    assert report["degraded"] == 0
    assert [error["account_id"] for error in report["errors"]] == ["unknown-instrument"]
    assert pq.read_table(out).num_rows == 3
    said = done.out + done.err
    assert printed(said, "degraded"), said
    assert printed(said, "failed"), said


def test_score_long_after_the_last_bar_says_so_and_exits_5(
    endpoint: Endpoint, account_files: Callable[..., Path], tmp_path: Path
) -> None:
    folder = account_files(tmp_path, endpoint.at(), holders(endpoint))
    done, _, _ = score(endpoint, folder, "2031-01-01T00:00:00Z")
    assert done.code == 5, done.out
    lines = [line for line in done.err.splitlines() if line.strip()]
    (line,) = [line for line in lines if "degraded" in line]
    assert line.startswith("margincast: ")
    assert "3" in line
    assert printed(done.out + done.err, "degraded")


def test_score_without_a_champion_says_so_and_exits_5(
    endpoint: Endpoint, account_files: Callable[..., Path], tmp_path: Path
) -> None:
    pointer = endpoint.folder / "bundles" / "champion"
    kept = pointer.read_text()
    pointer.unlink()
    try:
        folder = account_files(tmp_path, endpoint.at(), holders(endpoint))
        done, _, _ = score(endpoint, folder, endpoint.at())
    finally:
        pointer.write_text(kept)
    assert done.code == 5, done.out
    assert any("degraded" in line for line in done.err.splitlines()), done.err


def evaluate(
    endpoint: Endpoint, folder: Path, start: str, *, simulated: bool = False
) -> tuple[Any, dict[str, Any]]:
    """The verb with decision times from `start`, empty: as configured by default."""
    config = folder / "evaluate.toml"
    text = endpoint.config.read_text().replace("[market]\n", f'[market]\nstart = "{start}"\n')
    if simulated:
        text = re.sub(r"(?m)^bars = .*$", "bars = []", text)
    config.write_text(text.replace('"sqlite:///var/', f'"sqlite:///{folder}/'))
    report = folder / "evaluate.json"
    from_root = endpoint.market.bundles / endpoint.market.bundle
    done = endpoint.cli_with(config, "evaluate", "--bundle", from_root, "--json", report)
    assert done.code == 0, done.err
    return done, json.loads(report.read_text())


END_OF_CALIBRATION = "2025-01-24T00:00:00Z"
"""Rows up to here shaped the bundle for certain, whatever else counts as training."""


def test_evaluate_leaves_out_what_the_bundle_was_trained_on(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    """On a simulated market: recorded bars that the coefficients have seen are left out too."""
    done, report = evaluate(endpoint, tmp_path, "", simulated=True)
    assert report["span"][0] >= END_OF_CALIBRATION
    assert report["rows"] > 0
    assert report["overlap_with_training_hours"] == 0
    left_out = {name: rows for name, rows in report["dropped"].items() if "train" in name}
    assert left_out, report["dropped"]
    assert all(rows > 0 for rows in left_out.values())
    assert not [line for line in done.err.splitlines() if "warning" in line.lower()], done.err


def test_evaluate_from_an_explicit_start_warns_of_the_overlap(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    start = "2025-01-15T00:00:00Z"
    done, report = evaluate(endpoint, tmp_path, start)
    assert report["span"][0][:10] == start[:10]
    assert report["overlap_with_training_hours"] > 0
    said = [line for line in done.err.splitlines() if "warning" in line.lower()]
    assert any("train" in line for line in said), done.err


class _NothingRegistered(BaseHTTPRequestHandler):
    """A tracking server that is reachable and knows nothing."""

    def _answer(self) -> None:
        body = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not here"}'
        self.send_response(404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def tracking_server() -> Iterator[int]:
    """Port of a tracking server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NothingRegistered)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_password_in_the_tracking_uri_is_never_printed(
    endpoint: Endpoint, tmp_path: Path, tracking_server: int
) -> None:
    """Whether the store is out of reach, or reachable and without the model that is asked for."""
    promote = ("promote", endpoint.market.bundle, "--override", "test")
    review = ("review", "--out", str(tmp_path / "review.html"))
    reachable = f"http://margin:{SECRET}@127.0.0.1:{tracking_server}"
    asked: list[tuple[str, tuple[str, ...]]] = [
        (f"postgresql://margin:{SECRET}@127.0.0.1:9/mlflow", promote),
        (f"sqlite:///file:{tmp_path}/mlflow.db?uri=true&password={SECRET}", promote),
        (reachable, promote),
        (reachable, ("rollback",)),
        (reachable, review),
    ]
    runs = []
    for index, (uri, verb) in enumerate(asked):
        config = tmp_path / f"{index}.toml"
        text = endpoint.config.read_text()
        config.write_text(text.replace('uri = "sqlite:///var/mlflow.db"', f'uri = "{uri}"'))
        runs += [[*verb, "--config", str(config)]]
    for run, result in zip(runs, separate_process(*runs), strict=True):
        assert result["code"] == 1, (run, result)
        assert result["err"].startswith("margincast: ")
        assert SECRET not in result["out"] + result["err"], run


def test_the_addresses_that_run_prints_show_no_password(
    endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last words of ``margincast run`` alone: what comes before takes minutes."""
    from pipelines.config.config import load_config
    from pipelines.jobs.run import print_addresses

    config = tmp_path / "margincast.toml"
    uri = f"postgresql://margin:{SECRET}@127.0.0.1:9/mlflow"
    text = endpoint.config.read_text()
    config.write_text(text.replace('uri = "sqlite:///var/mlflow.db"', f'uri = "{uri}"'))
    print_addresses(load_config(config), serving=False)
    said = capsys.readouterr()
    assert "mlflow" in said.out + said.err
    assert SECRET not in re.sub(r"\s", "", said.out + said.err)


def test_a_password_in_the_ledger_url_is_never_printed(endpoint: Endpoint, tmp_path: Path) -> None:
    config = tmp_path / "margincast.toml"
    url = f"postgresql+psycopg://margin:{SECRET}@127.0.0.1:9/ledger"
    text = endpoint.config.read_text().replace('url = "sqlite:///var/ledger.db"', f'url = "{url}"')
    config.write_text(text)
    done = endpoint.cli_with(config, "keys", "list")
    assert done.code == 1
    assert SECRET not in done.out + done.err


PROCESS = """
import contextlib, importlib.abc, io, json, sys

ABSENT = {absent!r}


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Absent())
from pipelines.cli import main as cli

for line in sys.stdin:
    sys.argv = ["margincast", *json.loads(line)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = f"traceback: {{error!r}}"
    print(json.dumps({{"code": code, "out": out.getvalue(), "err": err.getvalue()}}), flush=True)
"""

EXTRAS = (
    "apscheduler",
    "jinja2",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "onnx",
    "pandas",
    "polars",
    "psycopg",
    "sklearn",
    "scipy",
)
"""Top modules of what no base install has."""


def separate_process(*runs: list[str], absent: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Runs of the command line, one after the other in a process that lacks some modules."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS.format(absent=absent)],
        input="".join(json.dumps(arguments) + "\n" for arguments in runs),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_verbs_that_need_training_name_the_extra_in_a_base_install(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    config = ["--config", str(endpoint.config)]
    bundle = ["--bundle", str(endpoint.market.bundles / "champion")]
    verbs = [
        ["retrain", *config],
        ["evaluate", *bundle, *config],
        ["backtest", *bundle, *config],
        ["promote", endpoint.market.bundle, *config],
        ["rollback", *config],
        ["review", "--out", str(tmp_path / "review.html"), *config],
        ["run", "--once", *config],
    ]
    for verb, result in zip(verbs, separate_process(*verbs, absent=EXTRAS), strict=True):
        assert result["code"] == 1, (verb[0], result)
        (line,) = result["err"].splitlines()
        assert line.startswith("margincast: "), verb[0]
        assert "margincast[training]" in line, verb[0]


def test_verbs_that_answer_work_in_a_base_install(
    endpoint: Endpoint, account_files: Callable[..., Path], tmp_path: Path
) -> None:
    config = ["--config", str(endpoint.config)]
    folder = account_files(tmp_path / "accounts", endpoint.at(), holders(endpoint))
    out = str(tmp_path / "scored.parquet")
    when = endpoint.at()
    verbs = [
        ["rulesets", "list"],
        ["score", "--accounts", str(folder), "--as-of", when, "--out", out, *config],
        ["keys", "list", *config],
        ["ledger", "verify", *config],
    ]
    for verb, result in zip(verbs, separate_process(*verbs, absent=EXTRAS), strict=True):
        assert result["code"] == 0, (verb, result)


def test_limits_of_the_endpoint_are_configured(start: Start) -> None:
    small = start(serving="max_body_bytes = 3000\nmax_history_bytes = 200\nmax_page = 2")
    price = small.market.closes["BTCUSDT"]
    held = {
        "account_id": "a",
        "cash": price,
        "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 1.0}],
        "collateral": [],
    }
    for _ in range(3):
        small.decision(held)
    page = small.get("/v1/accounts/a/decisions", params={"limit": 2})
    assert len(page["decisions"]) == 2
    beyond = small.client.get("/v1/accounts/a/decisions", params={"limit": 3})
    assert beyond.status_code == 422 or len(beyond.json()["decisions"]) <= 2
    assert len(small.get("/v1/accounts/a/decisions")["decisions"]) <= 2
    long_history = {**held, "history": {"note": "x" * 300}}
    refused = small.client.post("/v1/score", json={"accounts": [long_history]})
    assert refused.status_code in {413, 422}, refused.text
    small.decision({**held, "history": {"note": "x" * 50}})
    many = {"accounts": [{**held, "account_id": f"a{index}"} for index in range(50)]}
    assert small.client.post("/v1/score", json=many).status_code == 413


def test_limits_left_at_zero_are_the_documented_defaults(start: Start) -> None:
    usual = start(serving="max_body_bytes = 0\nmax_history_bytes = 0\nmax_page = 0")
    price = usual.market.closes["BTCUSDT"]
    held = {
        "account_id": "a",
        "cash": price,
        "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 1.0}],
        "collateral": [],
    }
    many = [{**held, "account_id": f"a{index}"} for index in range(50)]
    assert len(usual.score(*many)) == 50
