"""The account files of the clients: what they hold, and where the live book reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.config.config import Config, load_config
from pipelines.data.loaders import read_market
from pipelines.venue.client_files import (
    clients_folder,
    opened_clients,
    with_clients,
    write_clients,
)


def configured(folder: Path, text: str = "") -> Config:
    file = folder / "margincast.toml"
    file.write_text(
        "[simulate]\ndays = 12\nsymbols = 3\n[accounts]\ncount = 30\n"
        f"[serving]\nbundles = 'var/bundles'\n{text}"
    )
    return load_config(file)


def test_the_files_hold_the_clients_as_they_opened(tmp_path: Path) -> None:
    config = configured(tmp_path)
    market = read_market(config)
    assert write_clients(config, market) == 30
    closes = market.history.bars.closes
    opened = opened_clients(config, int(closes[-1]))
    assert len(opened) == 30
    for account, time in opened:
        row = int(np.searchsorted(closes, time))
        assert closes[row] == time
        for leg in account.positions:
            column = market.history.bars.symbols.index(leg.instrument.removesuffix("-PERP"))
            assert leg.entry_price == pytest.approx(market.history.mark[row, column], rel=1e-5)
    earliest = min(time for _, time in opened)
    assert opened_clients(config, earliest - 1) == []


def test_the_live_book_reads_the_clients_unless_other_files_are_named(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert with_clients(config).monitoring.accounts == clients_folder(config)
    assert config.monitoring.accounts is None
    (tmp_path / "mine").mkdir()
    other = configured(tmp_path, "[monitoring]\naccounts = 'mine'\n")
    assert with_clients(other).monitoring.accounts == tmp_path / "mine"
