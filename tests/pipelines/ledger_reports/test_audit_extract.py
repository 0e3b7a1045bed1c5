"""Extracts of consecutive spans join hash to hash and together hold every record once."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings, strategies as st

from ledger.archive.archiver import Archiver
from ledger.records import FIRST_PREVIOUS_HASH, Entry
from ledger.store import Ledger
from market.core.clock import DAY, HOUR, parse_time
from market.core.errors import DataError
from monitoring.book.account_rows import CHAIN as ACCOUNTS
from pipelines.ledger_reports.kinds import make_report
from pipelines.ledger_reports.request import ReportRequest, Span

NOON = parse_time("2025-02-01T12:00:00Z")
EVER = 2**62


def extract(ledger: Ledger, span: Span) -> dict[str, list[dict[str, Any]]]:
    """The records of an extract by chain; none where it has none."""
    try:
        rows = make_report(ledger, "audit-extract", ReportRequest(span)).to_dict()["tables"]
    except DataError:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows["records"]:
        found.setdefault(row["chain"], []).append(row)
    for row in rows["chains"]:
        part = found[row["chain"]]
        assert (row["hash_before"], row["last_hash"]) == (
            part[0]["previous_hash"],
            part[-1]["hash"],
        )
    return found


def ids(ledger: Ledger, start: int, end: int) -> dict[str, list[str]]:
    found = extract(ledger, Span(start, end))
    return {chain: [row["id"] for row in part] for chain, part in found.items()}


def append(ledger: Ledger, chain: str, at: int, entry: Entry) -> None:
    """Append as if the clock of the machine stood at a time."""
    url = ledger.engine.url.render_as_string(False)
    with patch("ledger.chain.time.time_ns", return_value=at), Ledger(url, chain) as own:
        own.append([entry])


def dated(name: str, as_of: int | None) -> Entry:
    return Entry("drift" if as_of else "promotion", {"n": name}, name, None, as_of)


def test_undated_records_and_chains_without_dates_are_in_the_day_of_their_recording(
    tmp_path: Path,
) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        for name, hours, has_time in (
            ("s-1", 0, True),
            ("promo-1", 1, False),
            ("keys-1", 13, False),
            ("s-2", 24, True),
            ("promo-2", 25, False),
            ("promo-3", 49, False),
        ):
            at = NOON + hours * HOUR
            append(ledger, "main", at, dated(name, at if has_time else None))
        append(ledger, "other", NOON + DAY, dated("other-1", None))
        midnight = NOON + DAY // 2
        assert ids(ledger, midnight - DAY, midnight) == {"main": ["s-1", "promo-1"]}
        assert ids(ledger, midnight, midnight + DAY) == {
            "main": ["keys-1", "s-2", "promo-2"],
            "other": ["other-1"],
        }
        assert ids(ledger, midnight + DAY, midnight + 2 * DAY) == {"main": ["promo-3"]}


def test_records_of_another_clock_stay_between_their_dated_neighbours(tmp_path: Path) -> None:
    now = parse_time("2026-06-01T00:00:00Z")
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        for i, (name, as_of) in enumerate(
            (("a", NOON), ("b", None), ("c", NOON + DAY), ("late", NOON), ("d", NOON + 2 * DAY))
        ):
            append(ledger, "main", now + i, dated(name, as_of))
        midnight = NOON + DAY // 2
        assert ids(ledger, midnight - DAY, midnight) == {"main": ["a"]}
        assert ids(ledger, midnight, midnight + DAY) == {"main": ["b", "c", "late"]}
        assert ids(ledger, midnight + DAY, midnight + 2 * DAY) == {"main": ["d"]}


def test_the_slice_of_a_chain_with_an_archive_begins_where_the_archive_ends(
    tmp_path: Path,
) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        for day in range(4):
            at = NOON + day * DAY
            append(ledger, "main", at, Entry("shadow", {"n": day}, f"s-{day}", None, at))
        with patch("ledger.chain.time.time_ns", return_value=NOON + 3 * DAY + HOUR):
            Archiver(ledger, tmp_path / "archive").run(NOON + DAY + HOUR)
        report = make_report(ledger, "audit-extract", ReportRequest(Span(NOON - DAY, EVER)))
        plain = report.to_dict()
        held = [row["id"] for row in plain["tables"]["records"]]
        assert held[:2] == ["s-2", "s-3"]
        assert plain["archived_main_seq"] == 2
        assert plain["tables"]["records"][0]["seq"] == 3
        assert ids(ledger, NOON - DAY, NOON + DAY + HOUR) == {}
        later = make_report(
            ledger, "audit-extract", ReportRequest(Span(NOON + 2 * DAY, EVER))
        ).to_dict()
        assert "archived_main_seq" not in later
        assert later["tables"]["chains"][0]["hash_before"] == plain["tables"]["records"][0]["hash"]


HOURS = st.integers(0, 120)
RECORDS = st.lists(
    st.tuples(st.sampled_from(["main", "other", ACCOUNTS]), st.none() | HOURS, HOURS), max_size=14
)


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.sets(HOURS, max_size=6), HOURS)
def test_consecutive_extracts_join_and_hold_every_record_once(
    written: list[tuple[str, int | None, int]], cuts: set[int], late: int
) -> None:
    """Random times, `as_of` in any order, recorded by a clock that may be far from them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger(f"sqlite:///{folder}/ledger.db") as ledger,
    ):
        clock = NOON
        for i, (chain, hours, recorded) in enumerate(written):
            as_of = None if hours is None else NOON + hours * HOUR
            entry = dated(f"r-{i}", as_of)
            if chain == ACCOUNTS:
                updates = [] if as_of is None else [{"as_of": as_of}, {"as_of": as_of + HOUR}]
                entry = Entry("account_updates", {"updates": updates}, f"r-{i}")
            clock = max(clock, NOON + (recorded - 60) * HOUR)
            append(ledger, chain, clock, entry)
        bounds = [0, *sorted(NOON + cut * HOUR for cut in cuts), EVER]
        head: dict[str, tuple[int, str]] = {}
        for start, end in pairwise(bounds):
            for chain, part in extract(ledger, Span(start, end)).items():
                for row in part:
                    before = head.get(chain, (0, FIRST_PREVIOUS_HASH))
                    assert (row["seq"] - 1, row["previous_hash"]) == before
                    head[chain] = (row["seq"], row["hash"])
        held = {chain: sum(name == chain for name, _, _ in written) for chain, _, _ in written}
        assert {chain: seq for chain, (seq, _) in head.items()} == held
        time = max(clock, NOON + late * HOUR)
        past = extract(ledger, Span(0, time))
        for chain in ("main", "other"):
            append(ledger, chain, time + DAY, dated(f"undated-{chain}", None))
            append(ledger, chain, time + DAY, dated(f"later-{chain}", time + HOUR))
        assert extract(ledger, Span(0, time)) == past
