"""Training under portfolio margin: from the market to a bundle that scores a book."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ledger.records import Entry
from ledger.store import Ledger
from market.accounts.account_files import write_accounts
from market.accounts.book import Account, Book, Position
from market.core.clock import format_time
from market.core.errors import DataError
from market.sources.base import AccountUpdates
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, promote, read_pointer
from monitoring.quotes.quote_updates import QUOTES
from pipelines.config.config import Config, load_config
from pipelines.data.accounts import read_dataset, read_intervals
from pipelines.data.loaders import Market, read_label_rules, read_market
from pipelines.jobs.retrain import retrain
from pipelines.jobs.score import score_book
from pipelines.jobs.simulate import simulate

TOML = """
[simulate]
days = {days}
symbols = 2
[accounts]
{accounts}
[rules]
ruleset = "derive-pmrm2"
[training]
horizons = [1, 8, 24]
max_rows = 6000
[review]
folds = 1
ablation = false
[tracking]
uri = "sqlite:///mlflow.db"
[serving]
bundles = "bundles"
[ledger]
url = "sqlite:///ledger.db"
"""


def configured(folder: Path, days: int, accounts: str) -> Config:
    path = folder / "margincast.toml"
    path.write_text(TOML.format(days=days, accounts=accounts))
    return load_config(path)


@pytest.mark.slow
def test_retrain_under_portfolio_margin_gives_a_bundle_that_scores(tmp_path: Path) -> None:
    config = configured(tmp_path, 30, 'population = "one-coin-v1"\ncount = 40')
    report = retrain(config)
    root, sha = config.serving.bundles, report["bundle"]
    assert report["verdict"] in ("promoted", "kept", "refused"), report["reasons"]
    assert report["gates"]["parity"]["passed"]
    assert report["gates"]["floor_and_cap"]["passed"]
    assert report["ruleset"]["name"] == "derive-pmrm2"
    assert report["evaluation"]["data"]["label_rules"] == "derive-pmrm2"
    assert report["evaluation"]["horizons"]["8"]["positives"] > 0
    assert load_bundle(root / sha).manifest["ruleset_sha256"] == report["ruleset_sha256"]
    if read_pointer(root, CHAMPION) != sha:
        promote(root, sha)  # so small a sample may fail the gates of calibration

    simulate(config, tmp_path / "written")
    as_of = report["evaluation"]["span"][1]
    scored = tmp_path / "scored.parquet"
    found = score_book(config, tmp_path / "written" / "accounts", as_of, scored, record=False)
    table = pq.read_table(scored)
    assert found["decisions"] == len(table) > 0
    assert (found["degraded"], found["failed"]) == (0, 0)
    assert set(table["model"].to_pylist()) == {sha}
    p = table["p_8"].to_numpy()
    assert ((p > 0.0) & (p < 1.0)).all()
    assert pc.all(pc.greater(table["maintenance_margin"], 0.0)).as_py()


def option_account(market: Market, folder: Path) -> str:
    """Account files with a covered call on the first coin; the identifier of its expiry."""
    bars, mark = market.history.bars, market.history.mark
    row = int(np.flatnonzero(market.features.history[:, 0] >= 168.0)[0])
    coin = bars.symbols[0].removesuffix("USDT")
    end = np.datetime64(int(bars.closes[-1]), "ns").astype("datetime64[D]").item()
    expiry = f"{coin}-{end.day}{end:%b}{(end.year + 1) % 100:02d}".upper()
    strike = f"{float(mark[row, 0]):.6g}"
    account = Account(
        "covered",
        0.9 * float(mark[row, 0]),
        (Position(f"{coin}USDT-PERP", 1.0), Position(f"{expiry}-{strike}-C", -1.0)),
    )
    write_accounts(folder, [AccountUpdates(int(bars.closes[row]), Book.of([account]))], ())
    return expiry


def test_options_of_account_files_are_valued_from_recorded_quotes(tmp_path: Path) -> None:
    (tmp_path / "accounts").mkdir()
    config = configured(tmp_path, 14, 'source = "accounts"')
    market = read_market(config)
    rules = read_label_rules(config, market)
    expiry = option_account(market, tmp_path / "accounts")
    intervals = read_intervals(config, market, rules)
    with pytest.raises(DataError, match=rf"{expiry}.*ledger has no quotes"):
        read_dataset(config, market, intervals, rules)

    bars, mark = market.history.bars, market.history.mark
    quotes = [
        {
            "instrument": expiry,
            "ts": format_time(int(time)),
            "forward": float(price),
            "vols": {f"{float(price):.6g}": 0.6},
        }
        for time, price in zip(bars.closes, mark[:, 0], strict=True)
    ]
    with Ledger(config.ledger.url) as ledger:
        ledger.append([Entry(QUOTES, {"quotes": quotes}, as_of=int(bars.closes[-1]))])
    data = read_dataset(config, market, intervals, rules)
    assert "not_valued" not in data.dropped
    assert len(data) > 24
    assert np.isfinite(data.columns["margin_ratio"]).all()
