"""TLS, keys and limits on workers as processes."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.http.ports import free_port

MARGINCAST = str(Path(sys.executable).parent / "margincast")
WAIT_SECONDS = 300.0
"""A process that takes longer hangs; this is no measure of speed, as machines are shared."""

CONFIG = """
[simulate]
days = 12
symbols = 3
[serving]
port = {port}
workers = 2
clock = "market"
tls_cert = "tls.pem"
tls_key = "tls.key"
metrics_auth = true
[ledger]
url = "sqlite:///ledger.db"
"""
CURVE = "-pkeyopt ec_paramgen_curve:P-256"
ACCOUNT = {"account_id": "a", "cash": 1_000.0, "positions": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration for a free port, and a certificate."""
    port = free_port()
    (tmp_path / "margincast.toml").write_text(CONFIG.format(port=port))
    (tmp_path / "port").write_text(str(port))
    subprocess.run(
        (
            f"openssl req -x509 -newkey ec {CURVE} -nodes -days 2 -subj /CN=localhost "
            "-keyout tls.key -addext subjectAltName=IP:127.0.0.1 -out tls.pem"
        ).split(),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    return tmp_path


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "MARGINCAST" not in name}


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, ssl.SSLContext, Path]]:
    """Address, what trusts it, and its log."""
    log = folder / "serve.err"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [MARGINCAST, "serve"], cwd=folder, env=environment(), stdout=errors, stderr=errors
        )
    try:
        trust = ssl.create_default_context(cafile=folder / "tls.pem")
        url, deadline = f"https://127.0.0.1:{(folder / 'port').read_text()}", time.monotonic()
        while "workers listen" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - deadline < WAIT_SECONDS, log.read_text()
            time.sleep(0.1)
        yield url, trust, log
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(120.0)
        process.kill()
        process.wait()


def test_workers_speak_tls_to_keys_and_log_no_secret(folder: Path) -> None:
    added = subprocess.run(
        [MARGINCAST, "keys", "add", "--scopes", "score,read"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    secret = added.stdout.strip()
    key = {"authorization": f"Bearer {secret}"}
    with served(folder) as (url, trust, log):
        for _ in range(6):  # each on a connection of its own, so that both workers answer
            with httpx.Client(base_url=url, verify=trust, timeout=120.0, trust_env=False) as client:
                body = {"accounts": [ACCOUNT]}
                assert client.post("/v1/score", json=body, headers=key).status_code == 200
                assert client.post("/v1/score", json=body).status_code == 401
                assert client.get("/metrics").status_code == 401
                metrics = client.get("/metrics", headers=key)
                assert metrics.status_code == 200
                assert "max-age" in metrics.headers["strict-transport-security"]
                wrong = {"authorization": f"Bearer {secret}x"}
                assert client.get("/v1/model", headers=wrong).status_code == 401
        text = log.read_text()
    assert f"2 workers listen on {url}" in text
    assert secret.split("_", 2)[2] not in text


def test_a_key_of_another_certificate_ends_the_start_in_one_line(folder: Path) -> None:
    other = f"openssl genpkey -algorithm EC {CURVE} -out tls.key".split()
    subprocess.run(other, cwd=folder, capture_output=True, check=True)
    done = subprocess.run(
        [MARGINCAST, "serve"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is not the key of tls_cert" in line
