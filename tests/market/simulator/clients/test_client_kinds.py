from __future__ import annotations

from pathlib import Path

import pytest

from market.core.errors import ConfigError
from market.simulator.clients.client_kinds import ClientKinds

STORED = Path(__file__).parents[4] / "market" / "simulator" / "clients" / "books" / "venue-v1.toml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = STORED.read_text()
    assert old in text
    path = tmp_path / "clients.toml"
    path.write_text(text.replace(old, new))
    return path


def test_counts_follow_the_shares_and_add_up() -> None:
    clients = ClientKinds.load("venue-v1")
    for accounts in (1, 7, 150, 2_000):
        counts = clients.counts(accounts)
        assert sum(counts) == accounts
        for kind, count in zip(clients.kinds, counts, strict=True):
            assert abs(count - kind.share * accounts) < 1.0


def test_the_stored_book_has_makers_and_retail_clients() -> None:
    clients = ClientKinds.load("venue-v1")
    names = {kind.name: kind for kind in clients.kinds}
    assert {"maker", "fund", "whale", "retail"} <= names.keys()
    assert min(kind.equity.least for kind in clients.kinds) == 1e3
    assert max(kind.equity.most for kind in clients.kinds) == 1e7


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("share = 0.7", "share = 0.6", "add up to 0.9"),
        ('name = "fund"', 'name = "maker"', "each kind once"),
        ("coins = { least = 1, most = 1 }", "coins = { least = 2, most = 1 }", "coins of whale"),
        ("least = 1e3, most = 6e4", "least = 7e4, most = 6e4", "equity of retail"),
        ("median = 10.0", "median = 80.0", "leverage of whale"),
        ("thin = true", "thick = true", "thick"),
        ('name = "fund"', 'name = "fund-1"', "kinds.1..name"),
    ],
)
def test_an_impossible_file_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ClientKinds.read(changed(tmp_path, old, new))


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="choose one of venue-v1"):
        ClientKinds.load("../venue-v1")
