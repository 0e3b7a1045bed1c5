"""When a training would only repeat the newest one, and when it would not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines.registry.training_inputs as inputs
from ledger.records import Entry
from ledger.store import Ledger
from models.bundle.pointer import CHAMPION, write_pointer
from pipelines.config.config import Config, load_config
from pipelines.registry.training_inputs import identical_training, inputs_sha256

ONE, OTHER = "1" * 64, "2" * 64
Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A configuration in a folder of its own, with this text in addition."""

    def make(text: str = "") -> Config:
        file = tmp_path / "margincast.toml"
        file.write_text(
            f"{text}\n[serving]\nbundles = 'bundles'\n[ledger]\nurl = 'sqlite:///ledger.db'\n"
        )
        return load_config(file)

    return make


def record(config: Config, **fields: Any) -> None:
    """Record the verdict of a training, with the champion that it left."""
    payload = {
        "verdict": "promoted",
        "bundle": ONE,
        "champion_before": None,
        "accepted": {},
        "inputs_sha256": inputs_sha256(config),
    } | fields
    with Ledger(config.ledger.url, chain="registry") as ledger:
        ledger.append([Entry(kind=inputs.RETRAINED, payload=payload)])


def champion(config: Config, sha: str = ONE) -> None:
    (config.serving.bundles / sha).mkdir(parents=True, exist_ok=True)
    write_pointer(config.serving.bundles, CHAMPION, sha)


def test_nothing_is_identical_before_the_first_training(load: Load) -> None:
    config = load()
    champion(config)
    assert identical_training(config) is None


def test_the_same_inputs_are_an_identical_training(load: Load) -> None:
    config = load()
    record(config)
    champion(config)
    assert identical_training(config) == {"verdict": "promoted", "bundle": ONE, "champion": ONE}


def test_a_challenger_that_was_kept_is_not_trained_again(load: Load) -> None:
    config = load()
    record(config, verdict="kept", bundle=OTHER, champion_before=ONE)
    champion(config, ONE)
    assert identical_training(config) == {"verdict": "kept", "bundle": OTHER, "champion": ONE}


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "refused"},
        {"accepted": {"stress_8h": {"by": "risk", "reason": "reviewed"}}},
        {"inputs_sha256": "0" * 64},
        {"bundle": OTHER},
        {"verdict": "kept", "champion_before": OTHER},
    ],
    ids=["refused", "accepted by hand", "other inputs", "rolled back", "promoted since"],
)
def test_another_verdict_or_champion_trains(load: Load, fields: dict[str, Any]) -> None:
    config = load()
    record(config, **fields)
    champion(config)
    assert identical_training(config) is None


def test_only_the_newest_training_counts(load: Load) -> None:
    config = load()
    record(config)
    record(config, inputs_sha256="0" * 64)
    champion(config)
    assert identical_training(config) is None


def test_a_record_of_an_earlier_version_trains(load: Load) -> None:
    config = load()
    with Ledger(config.ledger.url, chain="registry") as ledger:
        payload = {"verdict": "promoted", "bundle": ONE, "champion_before": None}
        ledger.append([Entry(kind=inputs.RETRAINED, payload=payload)])
    champion(config)
    assert identical_training(config) is None


def test_a_bundle_that_is_gone_trains(load: Load) -> None:
    config = load()
    record(config)
    champion(config)
    shutil.rmtree(config.serving.bundles / ONE)
    assert identical_training(config) is None


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("[simulate]\nseed = 2", True),
        ("[simulate]\ndays = 90", True),
        ("[simulate]\nhalts = { BTCUSDT = 5 }", True),
        ("[accounts]\nseed = 8", True),
        ("[training]\nmax_rows = 1000", True),
        ("[training]\nruleset = 'emir-tiers'", True),
        ("[rules]\nruleset = 'emir-tiers'", True),
        ("[review]\nablation = false", True),
        ("[drift]\nlevel = 0.1", True),
        ("[tracking]\nmodel = 'other'", True),
        ("[simulate]\nspeed = 60", False),
        ("[logging]\nlevel = 'debug'", False),
        ("[market]\nmark_max_age = '1h'", False),
    ],
)
def test_what_a_training_reads_is_in_the_digest(load: Load, text: str, changes: bool) -> None:
    before = inputs_sha256(load())
    assert (inputs_sha256(load(text)) != before) == changes


def test_code_and_libraries_are_in_the_digest(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load()
    seen = {inputs_sha256(config)}
    monkeypatch.setattr(inputs, "source_sha256", lambda: "other code")
    seen.add(inputs_sha256(config))
    monkeypatch.setattr(inputs, "library_versions", lambda: {"numpy": "0"})
    seen.add(inputs_sha256(config))
    assert len(seen) == 3


def test_the_content_of_bar_files_is_in_the_digest_and_their_time_is_not(
    load: Load, tmp_path: Path
) -> None:
    bars = tmp_path / "bars"
    bars.mkdir()
    file = bars / "BTCUSDT.parquet"
    pq.write_table(pa.table({"close": [1.0]}), file)
    config = load(f"[market]\nbars = ['{bars}']")
    before = inputs_sha256(config)
    file.write_bytes(file.read_bytes())
    assert inputs_sha256(config) == before
    pq.write_table(pa.table({"close": [2.0]}), file)
    assert inputs_sha256(config) != before


def test_market_records_count_where_labels_may_need_quotes(load: Load) -> None:
    """The engine of tiers reads none; another one may, and then a record more trains again."""
    tiers, scenarios = load(), load("[rules]\nruleset = 'derive-pmrm2'")
    before = inputs_sha256(tiers), inputs_sha256(scenarios)
    with Ledger(tiers.ledger.url, chain="market") as ledger:
        ledger.append([Entry(kind="quotes", payload={})])
    assert inputs_sha256(tiers) == before[0]
    assert inputs_sha256(scenarios) != before[1]
