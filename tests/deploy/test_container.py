from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import containerfile
from tests.deploy.containerfile import Builder, Container, Image, StepError, read_steps

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"
WAIT_SECONDS = 600.0
SIMULATED = {
    "MARGINCAST__MARKET__BARS": "[]",
    "MARGINCAST__SERVING__CLOCK": "market",
    "MARGINCAST__SIMULATE__DAYS": "12",
    "MARGINCAST__SIMULATE__SYMBOLS": "4",
}
SCORE = """
import os, urllib.request as r
body = b'{"accounts": [{"account_id": "a", "cash": 3000.0, "positions":'
body += b' [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}]}]}'
headers = {"Authorization": "Bearer " + os.environ["KEY"], "Content-Type": "application/json"}
call = r.Request("http://127.0.0.1:8000/v1/score", body, headers)
print(r.urlopen(call, timeout=300).read().decode())
"""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """The image of the endpoint, built by the steps of its file."""
    reason = containerfile.missing_tool()
    if reason is not None:
        pytest.skip(f"the root of the image cannot be built here: {reason}")
    tmp_path.chmod(0o755)
    cache = Path(os.environ.get("PIP_CACHE_DIR") or Path.home() / ".cache" / "pip")
    cache.mkdir(parents=True, exist_ok=True)
    try:
        return Builder(CONTAINERFILE, ROOT, tmp_path / "layers", cache).build("serving")
    except StepError as error:
        if "Failed to establish a new connection" in str(error):
            pytest.skip("the root of the image cannot be built here: no package index is reached")
        raise


@pytest.mark.slow
def test_the_image_serves_as_its_own_user_from_a_root_that_nothing_can_write(
    image: Image, tmp_path: Path, made_bundles: tuple[Path, str]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    shutil.copytree(made_bundles[0], state / "bundles")
    subprocess.run(["chown", "-R", image.user, state], check=True)
    assert image.volumes == ("/var/lib/margincast",)
    volumes = {state: image.volumes[0]}
    served = Container(image, volumes=volumes, variables=SIMULATED)
    try:
        until_healthy(served, image)
        status = Path(f"/proc/{served.pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert facts["Uid"].split() == ["10001"] * 4
        assert facts["NoNewPrivs"] == "1"
        assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
        written = served.execute("touch", "/opt/margincast/file", "/etc/file", "/usr/local/file")
        assert written.stderr.count("Read-only file system") == 3
        for absent in ("mlflow", "lightgbm", "sklearn", "pip", "hatchling"):
            assert (
                "ModuleNotFoundError" in served.execute("python", "-c", f"import {absent}").stderr
            )
        added = served.execute("margincast", "keys", "add", "--scopes", "score")
        assert added.returncode == 0, added.stderr
        scored = served.execute("python", "-c", SCORE, KEY=added.stdout.split()[-1])
        assert scored.returncode == 0, scored.stderr
        (decision,) = json.loads(scored.stdout)["decisions"]
        assert decision["add_on"] >= 0.0
        assert decision["model"] == made_bundles[1]
        kept = {path.name for path in (image.changes / "opt").rglob("*.nbc")}
        assert kept
        assert {path.name for path in state.rglob("*.nbc")} == kept, "nothing was compiled again"
    finally:
        os.kill(served.pid, getattr(signal, image.stop_signal))
        code = served.process.wait(WAIT_SECONDS)
        output = served.process.communicate()[0]
    assert code == 0, output
    verify = ("ledger", "verify")
    audited = Container(image, volumes=volumes, variables=SIMULATED, command=verify)
    output = audited.process.communicate(timeout=WAIT_SECONDS)[0]
    assert audited.process.returncode == 0, output


def until_healthy(served: Container, image: Image) -> None:
    """Until the image's own check of its health passes, and the endpoint is ready."""
    ready = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready')"
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        assert served.process.poll() is None, served.process.communicate()[0]
        check = served.execute(*image.health)
        if check.returncode == 0 and served.execute("python", "-c", ready).returncode == 0:
            return
        assert time.monotonic() < deadline, check.stderr
        time.sleep(0.1)


def test_the_image_holds_the_packages_of_the_wheel_and_no_secret() -> None:
    steps = read_steps(CONTAINERFILE)
    copied = {name for step in steps if step.name == "COPY" for name in step.words[:-1]}
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    files = {"pyproject.toml", "README.md", "LICENSE", "margincast.toml", "deploy/wheel"}
    files.add("deploy/container/margincast.toml")
    locks = {f"deploy/container/{name}.lock" for name in ("build", "serving", "training")}
    assert copied == packages | files | locks | {"/opt/margincast"}
    assert "**/__pycache__" in (ROOT / ".dockerignore").read_text().split()


@pytest.mark.parametrize("target", ["serving", "training"])
def test_an_image_ends_as_a_user_without_rights_and_drains_at_its_stop_signal(target: str) -> None:
    steps = read_steps(CONTAINERFILE)
    last = max(n for n, step in enumerate(steps) if step.text.endswith(f" AS {target}"))
    own = [step.name for step in steps[last + 1 :]]
    stage = own[: own.index("FROM")] if "FROM" in own else own
    assert stage.index("USER") > max(n for n, name in enumerate(stage) if name == "RUN")
    users = {step.text for step in steps if step.name == "USER"}
    assert users == {"10001:10001"}
    assert [step.text for step in steps if step.name == "STOPSIGNAL"] == ["SIGTERM"]
