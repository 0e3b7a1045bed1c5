"""Horizons other than 1, 8 and 24 h, from training to the level that is asked of an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from decisions.decision import decide
from decisions.messages import Decision
from features.registry import prior_distances
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import load_ruleset
from market.accounts.book import Account
from market.core.arrays import Floats
from market.core.clock import parse_time
from market.core.errors import ConfigError
from market.sources.parquet import AccountFolder
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, promote, read_pointer
from pipelines.config.config import Config, load_config
from pipelines.data.accounts import DATASET_FILE
from pipelines.data.loaders import read_market
from pipelines.jobs.evaluate import evaluate_bundle
from pipelines.jobs.retrain import retrain
from pipelines.jobs.score import champion, score_book
from pipelines.jobs.simulate import simulate

HORIZONS = (2, 12, 48)
P_STAR = {2: 0.004, 12: 0.015, 48: 0.03}

RULES = """
name = "free"
version = "1"
engine = "tier"
source = "made for this test"
[[tier.brackets]]
maintenance_rate = 0.02
initial_rate = 0.04
[add_on]
p_star = { 2 = 0.004, 12 = 0.015, 48 = 0.03 }
"""

TOML = """
[simulate]
days = 26
symbols = 2
[accounts]
count = 60
[rules]
ruleset = "{ruleset}"
[training]
horizons = [2, 12, 48]
max_rows = 4000
[review]
folds = 0
ablation = false
[tracking]
uri = "sqlite:///mlflow.db"
[serving]
bundles = "bundles"
[ledger]
url = "sqlite:///ledger.db"
"""


def configured(folder: Path, ruleset: str) -> Config:
    path = folder / "margincast.toml"
    path.write_text(TOML.format(ruleset=ruleset))
    return load_config(path)


def write_rules(folder: Path) -> str:
    """The rates of `linear-tiers`, with a tolerance for each of the horizons."""
    path = folder / "free.toml"
    path.write_text(RULES)
    assert load_ruleset(path).add_on.targets == P_STAR
    return str(path)


@pytest.mark.slow
def test_free_horizons_reach_the_forecast_and_the_add_on(tmp_path: Path) -> None:
    config = configured(tmp_path, write_rules(tmp_path))
    report = retrain(config)
    root, sha = config.serving.bundles, report["bundle"]
    names = [str(hours) for hours in HORIZONS]
    assert list(report["evaluation"]["horizons"]) == names
    assert report["gates"]["parity"]["passed"]
    assert report["gates"]["floor_and_cap"]["passed"]

    bundle = load_bundle(root / sha)
    assert bundle.schema.horizons == HORIZONS
    assert bundle.schema.prior_distances == tuple(map(prior_distances, HORIZONS))
    assert set(bundle.trees) == set(HORIZONS)

    found = evaluate_bundle(config, root / sha)
    assert found["bundle"] == sha
    assert list(found["horizons"]) == names
    rates = [found["horizons"][name]["base_rate"] for name in names]
    assert 0.0 < rates[0] <= rates[1] <= rates[2] < 1.0
    assert rates[0] < rates[2]

    if read_pointer(root, CHAMPION) != sha:
        promote(root, sha)  # so small a sample may fail the gates of calibration
    simulate(config, tmp_path / "written")
    accounts = tmp_path / "written" / "accounts"
    as_of, scored = report["evaluation"]["span"][1], tmp_path / "scored.parquet"
    done = score_book(config, accounts, as_of, scored, record=False)
    assert (done["degraded"], done["failed"]) == (0, 0)
    table = pq.read_table(scored)
    assert [name for name in table.column_names if name.startswith("p_")] == [
        f"p_{hours}" for hours in HORIZONS
    ]
    p = np.column_stack([table[f"p_{hours}"] for hours in HORIZONS])
    assert (np.diff(p, axis=1) >= 0.0).all()
    assert ((p > 0.0) & (p < 1.0)).all()
    assert_tolerated_at_the_level(config, accounts, as_of)


def test_rules_without_the_trained_horizons_are_refused_before_training(tmp_path: Path) -> None:
    config = configured(tmp_path, "linear-tiers")
    message = r"linear-tiers has add_on.p_star at \[1, 8, 24\] h .* horizons is \[2, 12, 48\]"
    with pytest.raises(ConfigError, match=message):
        retrain(config)
    assert not (tmp_path / DATASET_FILE).exists()


def assert_tolerated_at_the_level(config: Config, folder: Path, as_of: str) -> None:
    """With the level as headroom an account meets every tolerance, and with less it misses one."""
    time = parse_time(as_of)
    market, ruleset = read_market(config), load_ruleset(config.rules.ruleset)
    snapshot = MarketSnapshot.of_history(market.history, market.features, time)
    model = champion(config)

    def decided(book: Sequence[Account]) -> list[Decision]:
        answers = decide(book, snapshot, ruleset, model, {})
        assert all(isinstance(answer, Decision) for answer in answers)
        return [answer for answer in answers if isinstance(answer, Decision)]

    def excess(share: float) -> Floats:
        """Largest probability over its tolerance, of each account with that share of its level."""
        moved = [
            replace(account, cash=account.cash + share * level - headroom)
            for account, level, headroom in found
        ]
        forecasts = [decision.probability or {} for decision in decided(moved)]
        return np.array([max(p[str(h)] / P_STAR[h] for h in HORIZONS) for p in forecasts])

    book = [update.account for update in AccountFolder(folder).accounts_at(time)]
    found = [
        (account, decision.model_add_on, decision.headroom)
        for account, decision in zip(book, decided(book), strict=True)
        if decision.model_add_on is not None and 0.0 < decision.model_add_on < decision.cap
    ]
    assert len(found) > 10
    assert (excess(1.0 + 1e-6) <= 1.0).all()
    assert (excess(1.0 - 1e-6) > 1.0).all()
