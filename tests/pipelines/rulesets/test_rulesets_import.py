"""Dated versions: faults of the record by name, intervals without gaps, the same bytes again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from margin.engines.tier.rules import TierRules
from margin.engines.tier.tiers import bracket_table
from margin.rules.history import load_history
from margin.rules.ruleset import load_ruleset
from market.core.clock import format_time, parse_time
from market.core.errors import DataError, RuleSetError
from market.core.files import replace_file
from pipelines.rulesets.bracket_record import read_brackets
from pipelines.rulesets.rulesets_import import HEADER, import_rulesets

DAYS = [datetime(2024, 1, day, 6, 30, tzinfo=UTC) for day in (1, 8, 15, 22)]
RECORD = "binance_leverage_tier_changes.parquet"


def table(
    day: int, symbol: str, rates: tuple[float, ...] = (0.01, 0.05), **changed: Any
) -> list[dict[str, Any]]:
    """Tiers of 0 to 1,000 to 2,000 and so on; a keyword changes the last row."""
    rows = [
        {
            "ts": DAYS[day],
            "commit": "c",
            "symbol": symbol,
            "change": "new",
            "tier": k + 1,
            "min_notional": 1_000.0 * k,
            "max_notional": 1_000.0 * (k + 1),
            "maintenance_margin_rate": rate,
            "max_leverage": 0.5 / rate,
        }
        for k, rate in enumerate(rates)
    ]
    rows[-1] |= changed
    return rows


def write(folder: Path, *tables: list[dict[str, Any]]) -> Path:
    source = folder / "record.parquet"
    pl.DataFrame([row for rows in tables for row in rows]).write_parquet(source)
    return source


def moment(day: int) -> str:
    return DAYS[day].strftime("%Y-%m-%dT%H:%M:%SZ")


def test_one_version_for_each_time_at_which_something_changed(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        table(2, "ETH/USDT", (0.02, 0.05)),
        table(0, "BTC/USDT"),
        table(0, "ETH/USDT"),
        table(1, "BTC/USDT"),  # listed again as it was: no version
        table(3, "SOL/USDT", (0.25,)),
    )
    report = import_rulesets(source, tmp_path / "out")
    history = load_history(tmp_path / "out")
    assert [rules.effective_from for rules in history.versions] == [moment(d) for d in (0, 2, 3)]
    assert [rules.effective_to for rules in history.versions] == [moment(2), moment(3), ""]
    assert [v["sha256"] for v in report["versions"]] == [r.sha256 for r in history.versions]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        v["file"] for v in report["versions"]
    }
    counts = [(v["new"], v["changed"], v["relisted"]) for v in report["versions"]]
    assert counts == [(2, 0, 0), (0, 1, 0), (1, 0, 0)]
    before = history.at(parse_time(moment(2)) - 1).engine_rules(TierRules)
    after = history.at(parse_time(moment(2))).engine_rules(TierRules)
    rates = [
        [b.maintenance_rate for b in tiers.table_of("ETHUSDT").brackets]
        for tiers in (before, after)
    ]
    assert rates == [[0.01, 0.05], [0.02, 0.05]]
    assert [b.initial_rate for b in after.table_of("BTCUSDT").brackets] == [0.02, 0.1]
    assert after.table_of("BTCUSDT").brackets[-1].upper_bound is None
    assert before.table_of("SOLUSDT").brackets == before.brackets  # the base's default
    assert after.initial_margin_basis == "whole_notional"  # the base's too


def test_a_new_name_is_no_new_listing(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        table(0, "BTC/USDT"),
        table(0, "ETH/USDT"),
        table(1, "BTC/USDT:USDT"),
        table(1, "ETH/USDT:USDT", (0.02, 0.05)),
        table(2, "BTC/USDT:USDT"),
    )
    report = import_rulesets(source, tmp_path / "out")
    first, second = report["versions"]
    assert (second["new"], second["changed"], second["relisted"]) == (0, 1, 1)
    assert (first["symbols"], second["symbols"]) == (2, 2)


def test_provenance_stands_in_every_file(tmp_path: Path) -> None:
    source = write(tmp_path, table(0, "BTC/USDT"), table(1, "BTC/USDT", (0.02, 0.05)))
    report = import_rulesets(source, tmp_path / "out", base="linear-tiers", name="mine")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert report["sha256"] == digest
    for rules in load_history(tmp_path / "out").versions:
        assert rules.name == "mine"
        assert rules.version == rules.effective_from
        assert f"record.parquet, SHA-256 {digest}" in rules.source
        assert "linear-tiers version 1" in rules.source
        assert rules.collateral == load_ruleset("linear-tiers").collateral
        assert rules.floors == load_ruleset("linear-tiers").floors


def test_import_again_writes_the_same_bytes_or_nothing(tmp_path: Path) -> None:
    source = write(tmp_path, table(0, "BTC/USDT"), table(1, "BTC/USDT", (0.02, 0.05)))
    out = tmp_path / "out"
    assert import_rulesets(source, out)["written"] is True
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    assert import_rulesets(source, out)["written"] is False
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    assert after == before
    # A longer record ends the last version; the folder is replaced as a whole.
    longer = write(
        tmp_path,
        table(0, "BTC/USDT"),
        table(1, "BTC/USDT", (0.02, 0.05)),
        table(2, "BTC/USDT", (0.03, 0.05)),
    )
    assert import_rulesets(longer, out)["written"] is True
    assert len(load_history(out).versions) == 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_import_that_fails_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    import_rulesets(write(tmp_path, table(0, "BTC/USDT")), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    longer = write(tmp_path, table(0, "BTC/USDT"), table(1, "BTC/USDT", (0.02, 0.05)))

    def full_disk(path: Path, content: bytes) -> None:
        if "20240108" in path.name:
            raise OSError(28, "No space left on device", str(path))
        replace_file(path, content)

    monkeypatch.setattr("pipelines.rulesets.rulesets_import.replace_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        import_rulesets(longer, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "record.parquet"}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    source = write(tmp_path, table(0, "BTC/USDT"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "own.toml").write_text("name = 'mine'")
    with pytest.raises(DataError, match=r"holds own\.toml, which no import wrote"):
        import_rulesets(source, out)
    assert (out / "own.toml").read_text() == "name = 'mine'"
    with pytest.raises(DataError, match="is a file"):
        import_rulesets(source, source)
    assert HEADER.startswith("#")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (table(1, "BTC/USDT", max_leverage=0.5), "max_leverage 0.5; expected 1 or more"),
        (table(1, "BTC/USDT", maintenance_margin_rate=0.2), "is above initial_rate"),
        (table(1, "BTC/USDT", maintenance_margin_rate=-0.2), "maintenance_rate"),
        (table(1, "BTC/USDT", maintenance_margin_rate=None), "a figure is missing"),
        (table(1, "BTC/USDT", max_leverage=float("nan")), "a figure is missing"),
        (table(1, "BTC/USDT", tier=3), "tiers 1, 3; expected 1 to 2, each once"),
        (table(1, "BTC/USDT", tier=1), "tiers 1, 1; expected"),
        (table(1, "BTC/USDT", min_notional=900.0), "min_notional is not the max_notional"),
        (table(1, "BTC/USDT", max_notional=1_000.0), "is not above 1000.0"),
        (table(1, "BTC/USDT", (0.05, 0.01)), "rates must not fall"),
        (
            table(1, "BTC/USDT", (0.02, 0.05)) + table(1, "BTC/USDT:USDT", (0.03, 0.05)),
            "different brackets under the names",
        ),
    ],
)
def test_a_bad_table_is_reported_and_the_previous_one_stays(
    tmp_path: Path, bad: list[dict[str, Any]], reason: str
) -> None:
    source = write(tmp_path, table(0, "BTC/USDT"), bad, table(1, "ETH/USDT"))
    report = import_rulesets(source, tmp_path / "out")
    (found,) = report["bad"]
    assert found["symbol"] == "BTCUSDT"
    assert found["ts"] == moment(1)
    assert found["rows"] == len(bad)
    assert reason in found["reason"]
    newest = load_history(tmp_path / "out").versions[-1].engine_rules(TierRules)
    assert [b.maintenance_rate for b in newest.table_of("BTCUSDT").brackets] == [0.01, 0.05]
    with pytest.raises(DataError, match="no valid table of brackets; the first: BTCUSDT"):
        import_rulesets(write(tmp_path, bad), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    record = read_brackets(write(tmp_path, table(0, "BTC/USDT"), table(0, "BTC/USDT")))
    assert record.bad == ()
    assert len(record.listings[parse_time(moment(0))]["BTCUSDT"]) == 2


def test_contracts_without_a_bar_symbol_are_counted_by_reason(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        table(0, "BTC/USDT"),
        table(0, "BTC/USDT:USDT-240329"),
        table(0, "BTCUSDT_240329"),
        table(0, "ETH/BTC:BTC"),
        table(0, "BTC/USD:BTC"),
        table(0, "no symbol at all"),
        table(0, "SOLUSDT"),
    )
    report = import_rulesets(source, tmp_path / "out")
    assert report["rows"] == 14
    left = {reason: sum(names.values()) for reason, names in report["left_out"].items()}
    assert left["dated contract"] == 4
    assert sum(left.values()) == 10
    assert report["versions"][0]["symbols"] == 2


def test_symbols_narrow_the_versions_and_must_be_there(tmp_path: Path) -> None:
    source = write(
        tmp_path, table(0, "BTC/USDT"), table(1, "ETH/USDT"), table(2, "BTC/USDT", (0.02,))
    )
    report = import_rulesets(source, tmp_path / "out", symbols=["BTCUSDT"])
    assert [v["effective_from"] for v in report["versions"]] == [moment(0), moment(2)]
    with pytest.raises(DataError, match=r"lists no XUSDT; choose bar symbols like BTCUSDT"):
        import_rulesets(source, tmp_path / "out", symbols=["XUSDT", "BTCUSDT"])


def test_sources_and_bases_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    futures = tmp_path / "futures.parquet"
    pl.DataFrame(
        {"ts": [DAYS[0]], "exchange": ["cme"], "product": ["BTC"], "initial": [1.0]}
    ).write_parquet(futures)
    with pytest.raises(DataError, match=r"lacks the columns symbol.*money per contract"):
        import_rulesets(futures, tmp_path / "out")
    text = tmp_path / "record.csv"
    text.write_text("ts,symbol")
    for unreadable in (text, tmp_path / "nothing.parquet"):
        with pytest.raises(DataError, match="not a parquet file that can be read"):
            import_rulesets(unreadable, tmp_path / "out")
    source = write(tmp_path, table(0, "BTC/USDT"))
    with pytest.raises(RuleSetError, match="not known"):
        import_rulesets(source, tmp_path / "out", base="no-such-rules")
    dates = tmp_path / "dates.parquet"
    frame = pl.read_parquet(source).with_columns(pl.col("ts").dt.to_string("iso"))
    frame.write_parquet(dates)
    with pytest.raises(DataError, match="'ts' is large_string, expected a timestamp"):
        import_rulesets(dates, tmp_path / "out")


@pytest.mark.realdata
def test_the_record_of_binance_becomes_one_unbroken_history(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "margin_params" / RECORD
    report = import_rulesets(source, tmp_path / "out")
    history = load_history(tmp_path / "out")
    frame = pl.read_parquet(source)
    assert report["bad"] == []
    assert report["rows"] == len(frame)
    assert len(history.versions) == report["times"] == frame["ts"].n_unique()
    assert history.versions[0].effective_from.startswith("2022-03-31")
    assert history.versions[-1].effective_to == ""
    by_start = {version["effective_from"][:10]: version for version in report["versions"]}
    assert by_start["2023-01-15"]["new"] == 0  # renamed, not new
    # The oracle: the newest listing of a symbol at or before a time, straight from the record.
    names = {"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT", "BNBUSDT": "BNB/USDT"}
    sizes = np.geomspace(1e3, 1e8, 7)
    for text in ("2022-06-01", "2023-01-15T20:57:21Z", "2023-09-01", "2025-01-01"):
        as_of = parse_time(text)
        table_of = bracket_table(history.at(as_of), tuple(names))
        for row, base in enumerate(names.values()):
            own = frame.filter(
                pl.col("symbol").is_in([base, f"{base}:USDT"])
                & (pl.col("ts").dt.epoch("ns") <= as_of)
            )
            newest = own.filter(pl.col("ts") == pl.col("ts").max()).sort("tier")
            low = newest["min_notional"].to_numpy()
            high = np.append(newest["max_notional"].to_numpy()[:-1], np.inf)
            rate = newest["maintenance_margin_rate"].to_numpy()
            inside = np.clip(sizes[:, None], low, high) - low
            got = table_of.maintenance(sizes, np.full(len(sizes), row))
            np.testing.assert_allclose(got, (inside * rate).sum(axis=1), rtol=1e-12)


@pytest.mark.realdata
def test_the_preset_is_the_version_of_its_day(data_dir: Path, tmp_path: Path) -> None:
    """The transcription by hand and the import agree where both have a symbol."""
    preset = load_ruleset("binance-usdm")
    import_rulesets(
        data_dir / "margin_params" / RECORD,
        tmp_path / "out",
        symbols=tuple(preset.engine_rules(TierRules).symbols),
    )
    history = load_history(tmp_path / "out")
    version = history.at(parse_time(preset.effective_from))
    assert format_time(parse_time(preset.effective_from)) == version.effective_from
    for symbol in preset.engine_rules(TierRules).symbols:
        own, imported = (
            preset.engine_rules(TierRules).table_of(symbol).brackets,
            version.engine_rules(TierRules).table_of(symbol).brackets,
        )
        assert [b.upper_bound for b in own] == [b.upper_bound for b in imported]
        np.testing.assert_allclose(
            [(b.maintenance_rate, b.initial_rate) for b in own],
            [(b.maintenance_rate, b.initial_rate) for b in imported],
            rtol=1e-12,
        )
