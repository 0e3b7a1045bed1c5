"""Files that are put in place whole, for whoever may read others of the same folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from market.core.errors import DataError
from market.core.files import replace_file
from market.sources.parquet import BarFolder


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_replaced_file_can_be_read_by_whom_the_umask_says(
    umask: int, mode: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "page.html", b"old")
        replace_file(tmp_path / "page.html", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "page.html").read_bytes() == b"new"
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == ["page.html"], "a part was left behind"  # noqa: PTH208


def test_file_that_holds_many_symbols_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "candles.parquet").touch()
    (tmp_path / "BTCUSDT.parquet").touch()
    with pytest.raises(DataError, match=r"candles\.parquet is not named for a symbol"):
        BarFolder(tmp_path).symbols(())
    assert list(BarFolder(tmp_path).symbols(["BTCUSDT"])) == ["BTCUSDT"]
