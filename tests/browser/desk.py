"""An endpoint as a process, over a small book with calls, and keys for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.http.ports import free_port
from ledger.keys import Keys
from ledger.store import Ledger
from tests.endpoint_fixtures import Bundles
from tests.waiting import WAIT_SECONDS, wait_for

CALLED, ALSO_CALLED, WARNED = "desk/1 & co", "desk/2", "risky-<b>-7"
"""Ids as clients may choose them."""

_CONFIG = """
[simulate]
days = 12
symbols = 3
[serving]
port = {port}
bundles = "bundles"
clock = "market"
auth = "keys"
[ledger]
url = "sqlite:///ledger.db"
[monitoring]
enabled = true
[enforcement]
enabled = true
"""


_READY_SECONDS = 600.0
"""Kernels that the cache lacks are compiled first."""


@dataclass(frozen=True)
class LiveDesk:
    """A running endpoint.

    Attributes
    ----------
    url:
        Where it answers.
    keys:
        Secrets by what they may: ``read``, ``desk`` (accounts, approve and read), ``admin``.
    """

    url: str
    keys: dict[str, str]

    def get(self, path: str, **query: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.keys['admin']}"}
        answer = httpx.get(
            self.url + path, params=query or None, headers=headers, timeout=WAIT_SECONDS
        )
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.keys['admin']}"}
        answer = httpx.post(self.url + path, json=body, headers=headers, timeout=WAIT_SECONDS)
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    def open_call(self, account: str = CALLED) -> dict[str, Any]:
        (call,) = self.get("/v1/calls", account=account, open="true")["calls"]
        return dict(call)


@contextmanager
def live_desk(folder: Path) -> Iterator[LiveDesk]:
    """An endpoint with a monitor, until the block ends."""
    port = free_port()
    config = folder / "margincast.toml"
    config.write_text(_CONFIG.format(port=port), "utf-8")
    (folder / "bundles").mkdir()
    bundles = Bundles(folder / "bundles")
    bundles.promote(bundles.write())
    scopes = {"read": ["read"], "desk": ["read", "accounts", "approve"], "admin": ["admin"]}
    with Ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        keys = {name: Keys(ledger).add_key(given)[1] for name, given in scopes.items()}
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MARGINCAST")}
    program = str(Path(sys.executable).parent / "margincast")
    command = [program, "serve", "--config", str(config)]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=kept, stdout=log, stderr=log)
    desk = LiveDesk(f"http://127.0.0.1:{port}", keys)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not _ready(process, desk, folder):
            assert time.monotonic() < deadline, "the endpoint does not become ready"
            time.sleep(0.1)
        desk.post("/v1/accounts/updates", {"updates": _book()})
        wait_for(lambda: desk.get("/v1/calls", account=CALLED, open="true")["calls"], "no call")
        yield desk
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        finally:
            process.kill()


def _ready(process: subprocess.Popen[bytes], desk: LiveDesk, folder: Path) -> bool:
    assert process.poll() is None, (folder / "serve.log").read_text("utf-8", "replace")
    try:
        return httpx.get(f"{desk.url}/health/ready", timeout=WAIT_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def _book() -> list[dict[str, Any]]:
    """Accounts from calm to called."""

    def update(name: str, cash: float, btc: float, eth: float = 0.0) -> dict[str, Any]:
        legs = [("BTCUSDT-PERP", btc), ("ETHUSDT-PERP", eth)]
        held = [{"instrument": name, "quantity": size} for name, size in legs if size]
        return {"account_id": name, "sequence": 1, "snapshot": {"cash": cash, "positions": held}}

    ladder = [update(f"client-{n:03d}", 2e3 + 900.0 * n, 0.5, -1.0 * (n % 4)) for n in range(40)]
    called = [update(name, 1_000.0, 0.5) for name in (CALLED, ALSO_CALLED)]
    return [*called, update(WARNED, 2_500.0, 0.5, -1.0), *ladder]
