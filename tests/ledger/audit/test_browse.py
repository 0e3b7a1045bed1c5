"""Looking into a ledger, on SQLite and PostgreSQL, beside all of its records."""

from __future__ import annotations

from ledger.audit.browse import (
    RecordSpan,
    chain_summaries,
    kinds_of,
    more_than,
    newest_of_kind,
    record_at,
    records_of_span,
)
from ledger.following import ChainHead, SharedChain
from ledger.records import Entry, Record
from ledger.store import Ledger

NUMBER = 230
"""Records of each chain: more than a page of a span has."""


def filled(ledger: Ledger) -> list[Record]:
    """Records of two kinds on three chains, of which two begin with a capital or an accent."""
    found: list[Record] = []
    for name in ("beta", "Alpha", "àlpha"):
        chain, head = SharedChain(ledger, name), ChainHead()
        for kind, count in (("even", NUMBER), ("odd", 3)):
            records = chain.append(head, [Entry(kind, {"n": n}) for n in range(count)])
            head = ChainHead.of(records[-1])
            found += records
    return found


def place(record: Record) -> tuple[str, int]:
    return record.chain, record.seq


def test_what_is_listed_is_what_was_appended(either_ledger: Ledger) -> None:
    records = filled(either_ledger)
    summaries = chain_summaries(either_ledger)
    ends = {record.chain: record for record in records}
    assert sorted(one.name for one in summaries) == sorted(ends)
    for one in summaries:
        newest = ends[one.name]
        assert (one.seq, one.hash, one.kind) == (newest.seq, newest.hash, "odd")
        assert one.recorded_at == newest.recorded_at
        assert record_at(either_ledger, one.name, one.seq) == newest
        assert record_at(either_ledger, one.name, one.seq + 1) is None
    assert sorted(kinds_of(either_ledger)) == ["even", "odd"]
    odd = [record for record in records if record.kind == "odd"]
    newest_odd = newest_of_kind(either_ledger, "odd", 5)
    assert len(newest_odd) == 5
    assert {place(record) for record in newest_odd} < {place(record) for record in odd}
    assert [one.recorded_at for one in newest_odd] == sorted(
        (record.recorded_at for record in odd), reverse=True
    )[:5]


def test_a_span_has_each_of_its_records_once_and_in_order(either_ledger: Ledger) -> None:
    even = [record for record in filled(either_ledger) if record.kind == "even"]
    first, last = even[0].recorded_at, max(record.recorded_at for record in even)
    spans = {
        RecordSpan("even", first, last + 1): even,
        RecordSpan("even", first, last): [r for r in even if r.recorded_at < last],
        RecordSpan("even", first, last + 1, "Alpha"): [r for r in even if r.chain == "Alpha"],
        RecordSpan("even", last + 1, last + 2): [],
        RecordSpan("other", first, last + 1): [],
    }
    for span, expected in spans.items():
        found = list(records_of_span(either_ledger, span))
        assert sorted(map(place, found)) == sorted(map(place, expected))
        times = [record.recorded_at for record in found]
        assert times == sorted(times)
        assert not more_than(either_ledger, span, len(expected))
        assert more_than(either_ledger, span, len(expected) - 1)
