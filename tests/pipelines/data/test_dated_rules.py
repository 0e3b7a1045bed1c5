"""A folder of dated versions as the configured rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from decisions.replay import replay
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, format_time
from market.core.errors import ConfigError, RuleSetError
from pipelines.config.config import Config, load_config
from pipelines.data.loaders import Market, describe_rules, read_history, read_market, read_rules
from pipelines.jobs.score import score_book
from pipelines.jobs.simulate import simulate

CONFIG = """
[simulate]
days = 12
symbols = 2
[accounts]
count = 15
[rules]
ruleset = "versions/"
[serving]
bundles = "bundles"
[ledger]
url = "sqlite:///ledger.db"
"""


def write(folder: Path, label: str, begin: int | None, end: int | None, rate: float = 0.02) -> None:
    """One version: flat rates, maintenance `rate` and initial twice that."""
    (folder / "versions").mkdir(exist_ok=True)
    first = "" if begin is None else format_time(begin)
    last = "" if end is None else format_time(end)
    (folder / "versions" / f"{label}.toml").write_text(
        f'name = "house"\nversion = "{label}"\nengine = "tier"\nsource = "test"\n'
        f'effective_from = "{first}"\neffective_to = "{last}"\n'
        f"[[tier.brackets]]\nmaintenance_rate = {rate}\ninitial_rate = {2 * rate}\n"
    )


def configured(folder: Path, extra: str = "") -> Config:
    (folder / "margincast.toml").write_text(CONFIG + extra)
    return load_config(folder / "margincast.toml")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    folder = tmp_path_factory.mktemp("market")
    write(folder, "any", None, None)
    return read_market(configured(folder))


@pytest.fixture
def change(market: Market) -> int:
    return int(market.history.bars.closes[-12])


def test_the_score_job_follows_the_rules_of_its_time_and_replays(
    tmp_path: Path, market: Market, change: int
) -> None:
    write(tmp_path, "early", None, change)
    write(tmp_path, "late", change, None, rate=0.03)
    config = configured(tmp_path)
    simulate(config, tmp_path / "simulated")
    rows: dict[str, dict[str, Any]] = {}
    for label, as_of in (("early", change - HOUR), ("late", change)):
        out = tmp_path / f"{label}.parquet"
        folder = tmp_path / "simulated" / "accounts"
        score_book(config, folder, format_time(as_of), out, record=True)
        rows[label] = pq.read_table(out).to_pydict()
    shas = {label: set(table["ruleset"]) for label, table in rows.items()}
    assert all(len(found) == 1 for found in shas.values())
    assert shas["early"] != shas["late"]
    for label, rate in (("early", 0.02), ("late", 0.03)):
        table = rows[label]
        assert max(table["initial_margin"]) > 0.0
        for initial, maintenance in zip(
            table["initial_margin"], table["maintenance_margin"], strict=True
        ):
            assert maintenance == pytest.approx(initial / 2)
        with Ledger(config.ledger.url) as ledger:
            found = replay(ledger, table["decision_id"][0], lambda sha: pytest.fail(sha))
            assert found.equal, found.differences
            contents = ledger.get_record(table["decision_id"][0]).payload["contents"]
            recorded = ledger.get(contents["ruleset_sha256"])
        assert recorded["version"] == label
        assert recorded["tier"]["brackets"][0]["maintenance_rate"] == rate


def test_training_uses_and_reports_the_version_at_the_end_of_the_data(
    tmp_path: Path, market: Market, change: int
) -> None:
    write(tmp_path, "early", None, change)
    write(tmp_path, "late", change, None)
    late = read_rules(configured(tmp_path), market)
    assert describe_rules(late) == {
        "name": "house",
        "version": "late",
        "effective_from": format_time(change),
        "effective_to": "",
        "sha256": late.sha256,
    }
    ended = configured(tmp_path, f'[market]\nend = "{format_time(change - HOUR)}"\n')
    assert read_rules(ended, market).version == "early"


@pytest.mark.parametrize(
    ("begin", "named"), [(HOUR, "leave a gap"), (-HOUR, "overlap"), (None, "overlap")]
)
def test_versions_that_do_not_join_are_refused(
    tmp_path: Path, market: Market, change: int, begin: int | None, named: str
) -> None:
    write(tmp_path, "early", None, change)
    write(tmp_path, "late", None if begin is None else change + begin, None)
    with pytest.raises(RuleSetError, match=named) as refused:
        read_rules(configured(tmp_path), market)
    assert "early" in str(refused.value)
    assert str(tmp_path / "versions") in str(refused.value)


def test_data_after_the_last_version_have_no_rules(
    tmp_path: Path, market: Market, change: int
) -> None:
    write(tmp_path, "early", None, change)
    with pytest.raises(RuleSetError, match="no version") as refused:
        read_rules(configured(tmp_path), market)
    assert format_time(int(market.history.bars.closes[-1])) in str(refused.value)


def test_one_price_guard_judges_all_times(tmp_path: Path, change: int) -> None:
    write(tmp_path, "early", None, change)
    write(tmp_path, "late", change, None)
    late = tmp_path / "versions" / "late.toml"
    late.write_text(late.read_text() + "[price_guard]\nband = 0.1\n")
    with pytest.raises(RuleSetError, match="price_guard"):
        read_history(configured(tmp_path))


def test_a_folder_that_does_not_exist_or_is_empty_is_named(tmp_path: Path, market: Market) -> None:
    with pytest.raises(ConfigError, match="folder of them") as missing:
        configured(tmp_path)
    assert "rules.ruleset" in str(missing.value)
    (tmp_path / "versions").mkdir()
    with pytest.raises(RuleSetError, match=r"no \.toml file"):
        read_rules(configured(tmp_path), market)


def test_a_name_is_one_version_for_all_times(market: Market, tmp_path: Path) -> None:
    (tmp_path / "margincast.toml").write_text('[rules]\nruleset = "linear-tiers"\n')
    rules = read_rules(load_config(tmp_path / "margincast.toml"), market)
    assert isinstance(rules, RuleSet)
    assert rules.name == "linear-tiers"
