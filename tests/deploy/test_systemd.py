from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config.config import Config
from pipelines.config.sections import ServingConfig

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
BIN = Path(sys.executable).parent
HARDENING = re.compile(
    r"^(NoNew|Capability|Ambient|Protect|Private|RemoveIPC|Restrict|Lock|SystemCall)"
)

analysed = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def units(tmp_path: Path) -> dict[str, Path]:
    """The units with the command of this checkout, and a user that there is."""
    made = {}
    for source in sorted([*UNITS.glob("*.service"), *UNITS.glob("*.timer")]):
        text = source.read_text("utf-8").replace("/opt/margincast/bin", str(BIN))
        made[source.name] = tmp_path / source.name
        made[source.name].write_text(text, "utf-8")
    return made


@analysed
def test_systemd_reads_every_line_of_every_unit(units: dict[str, Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", *units.values()], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "margincast" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@analysed
@pytest.mark.parametrize("name", ["margincast.service", "margincast-schedule.service"])
def test_exposure_of_a_service_stays_low(units: dict[str, Path], name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", units[name]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_services_are_hardened_alike() -> None:
    one, two = (
        [line for line in path.read_text("utf-8").splitlines() if HARDENING.match(line)]
        for path in sorted(UNITS.glob("*.service"))
    )
    assert len(one) > 20
    assert one == two


def test_systemd_waits_longer_than_the_endpoint_takes_to_stop() -> None:
    text = (UNITS / "margincast.service").read_text("utf-8")
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, flags=re.MULTILINE)
    assert int(seconds) > getattr(ServingConfig(), "stop_seconds", 60.0)
    assert "KillSignal" not in text, "SIGTERM, which drains, is the default"


def test_commands_of_the_units_are_verbs_and_options_of_the_command_line() -> None:
    for path in UNITS.glob("*.service"):
        (command,) = re.findall(r"^ExecStart=(.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
        program, verb, *options = command.split()
        assert program == "/opt/margincast/bin/margincast"
        done = subprocess.run(
            [BIN / "margincast", verb, "--help"], capture_output=True, text=True, check=True
        )
        assert all(option in done.stdout for option in options if option.startswith("--"))


def test_the_user_of_the_services_is_the_one_that_is_made() -> None:
    (line,) = re.findall(
        r"^u .*$", (UNITS / "margincast.sysusers").read_text("utf-8"), re.MULTILINE
    )
    for path in UNITS.glob("*.service"):
        assert f"\nUser={line.split()[1]}\n" in path.read_text("utf-8")
    assert Config().schedule.cron, "what the timer starts has something to do"
