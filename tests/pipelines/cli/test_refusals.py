"""Bad input to the verbs: one clear line that names it, exit code 1, and nothing written."""

from __future__ import annotations

import shutil
import socket
from typing import Any, TypeAlias

import pyarrow.parquet as pq
import pytest

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("[simulate]\ndayz = 3\n", "simulate.dayz"),
        ("[serving]\nport = 99999\n", "serving.port"),
        ("[serving]\nhost = '192.0.2.1'\nauth = 'off'\n", "serving.auth"),
        ("[market]\nbars = ['nowhere']\n", "market.bars[0]"),
        ("[accounts]\nsource = 'nowhere'\n", "accounts.source"),
    ],
)
def test_bad_configuration_is_one_line_that_names_the_key(
    bare: Workspace, entry: str, key: str
) -> None:
    bare.config.write_text(entry)
    assert key in bare.refusal("simulate", "--out", "simulated")
    assert not (bare.folder / "simulated").exists()


def test_bad_variable_is_named_as_it_was_set(bare: Workspace) -> None:
    line = bare.refusal("keys", "list", MARGINCAST__SIMULATE__DAYS="0")
    assert "MARGINCAST__SIMULATE__DAYS" in line


def test_output_that_cannot_be_written_is_one_line_with_its_path(bare: Workspace) -> None:
    line = bare.refusal("keys", "list", "--json", bare.folder)
    assert str(bare.folder) in line
    assert "Traceback" not in line


def test_port_in_use_is_one_line_that_names_it(trained: TrainedMarket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = trained.workspace.refusal("serve", MARGINCAST__SERVING__PORT=port)
    assert port in line
    assert "[serving]" in line


def test_debug_shows_the_traceback_and_nothing_else_does(bare: Workspace) -> None:
    bare.config.write_text("[simulate]\ndays = 0\n")
    assert "Traceback" not in bare.refusal("keys", "list")
    done = bare.run("--debug", "keys", "list", code=1)
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


def test_close_only_bars_are_refused_by_file_and_column(
    bare: Workspace, trained: TrainedMarket
) -> None:
    source = trained.workspace.folder / "simulated" / "bars" / "BTCUSDT.parquet"
    folder = bare.folder / "closes"
    folder.mkdir()
    pq.write_table(pq.read_table(source, columns=["ts", "close"]), folder / "BTCUSDT.parquet")
    bare.config.write_text("[market]\nbars = ['closes']\n")
    line = bare.refusal("simulate", "--out", "simulated")
    assert "BTCUSDT.parquet" in line
    assert "open, high, low" in line


def test_empty_bar_folder_is_refused(bare: Workspace) -> None:
    (bare.folder / "empty").mkdir()
    bare.config.write_text("[market]\nbars = ['empty']\n")
    assert "empty holds no <SYMBOL>.parquet" in bare.refusal("simulate", "--out", "simulated")


@pytest.mark.parametrize("hazard", ["absent", "lacks collateral", "no parquet"])
def test_bad_account_folder_is_one_line_and_writes_no_file(
    bare: Workspace, trained: TrainedMarket, hazard: str
) -> None:
    folder, out = bare.folder / "accounts", bare.folder / "scored.parquet"
    if hazard != "absent":
        shutil.copytree(trained.workspace.accounts, folder)
    if hazard == "lacks collateral":
        (folder / "collateral.parquet").unlink()
    if hazard == "no parquet":
        (folder / "positions.parquet").write_bytes(b"ts,account_id\n")
    line = bare.refusal("score", "--accounts", folder, "--as-of", trained.newest, "--out", out)
    assert str(folder) in line
    assert not out.exists()
