"""Totals of the live book: recorded beside whole passes, followed, replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from ledger.packing import pack, pack_id
from ledger.schema import records, writing
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.errors import AlteredError
from monitoring.evaluation.passes.rules_pass import RuleColumns
from monitoring.evaluation.record.book_totals import (
    AMOUNTS,
    TOTALS,
    TOTALS_CHAIN,
    TotalsHistory,
    recorded_totals,
    totals_of,
)
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, snapshot, watched


@pytest.fixture
def w(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, champion: str, ledger: Ledger
) -> Watched:
    made = watched(market, ruleset, bundles, ledger)
    made.update(snapshot("a", 1, 5_000.0, BTC=0.2), snapshot("b", 1, 9_000.0, ETH=-1.0))
    made.settle()
    return made


@contextmanager
def altered(patched: pytest.MonkeyPatch, by: float) -> Iterator[None]:
    """Let totals be found otherwise than they were recorded."""
    true = totals_of

    def false(columns: RuleColumns) -> dict[str, float] | None:
        found = true(columns)
        return None if found is None else found | {"add_on": found["add_on"] + by}

    with patched.context() as context:
        context.setattr("monitoring.evaluation.record.replay.totals_of", false)
        yield


def test_totals_are_the_sums_of_the_columns(w: Watched) -> None:
    w.bars(w.rows)
    w.settle()
    columns = w.monitor.columns
    assert columns is not None
    newest = TotalsHistory(w.ledger).since(0)[-1]
    for name in AMOUNTS:
        assert getattr(newest, name) == pytest.approx(float(np.sum(getattr(columns, name))))
    assert newest.accounts == 2
    assert newest.total_requirement == newest.maintenance_margin + newest.add_on
    assert newest.as_of == w.records()[-1].as_of


def test_a_pass_over_some_accounts_has_no_totals(w: Watched) -> None:
    count = len(TotalsHistory(w.ledger).since(0))
    w.update(snapshot("c", 1, 100.0, BTC=0.3))
    w.settle()
    assert w.records()[-1].payload["whole"] is False
    assert recorded_totals(w.ledger, w.records()[-1]) is None
    assert len(TotalsHistory(w.ledger).since(0)) == count


def test_a_history_reads_what_is_new_and_keeps_the_newest(w: Watched) -> None:
    history, short = TotalsHistory(w.ledger), TotalsHistory(w.ledger, kept=2)
    before = history.since(0)
    for row in range(3):
        w.bars(w.rows + row)
        w.settle()
    after = history.since(0)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3
    assert short.since(0) == after[-2:]
    assert TotalsHistory(w.ledger, kept=2).since(0) == after[-2:]
    assert history.since(after[-1].as_of) == after[-1:]


def test_a_history_that_cannot_be_read_on_repeats_nothing(w: Watched) -> None:
    history = TotalsHistory(w.ledger)
    before = history.since(0)
    w.bars(w.rows)
    w.settle()
    w.bars(w.rows + 1)
    w.settle()
    newest = list(w.ledger.records(TOTALS))[-1]
    kept = _payload(w, newest.id)
    _alter(w, newest.id, pack(b"{}"))
    for _ in range(2):
        with pytest.raises(AlteredError):
            history.since(0)
    _alter(w, newest.id, kept)
    after = history.since(0)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
    assert after == TotalsHistory(w.ledger).since(0)


def _payload(w: Watched, record_id: str) -> bytes:
    query = select(records.c.payload).where(records.c.id == pack_id(record_id))
    with w.ledger.engine.connect() as connection:
        return bytes(connection.execute(query).scalar_one())


def _alter(w: Watched, record_id: str, payload: bytes) -> None:
    wanted = records.c.id == pack_id(record_id)
    with writing(w.ledger.engine) as connection:
        connection.execute(update(records).where(wanted).values(payload=payload))


def test_a_replay_compares_totals(w: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    w.bars(w.rows)
    w.settle()
    whole = next(r for r in reversed(w.records()) if recorded_totals(w.ledger, r) is not None)
    found = w.replay(whole)
    assert (found.verdict, found.totals) == ("equal", [])
    with altered(monkeypatch, 0.5):
        other = w.replay(whole)
    assert (other.verdict, other.totals, other.differences) == ("different", ["add_on"], {})


def test_an_evaluation_of_an_earlier_version_replays_without_totals(
    w: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(w.ledger.engine) as connection:
        connection.execute(delete(records).where(records.c.chain == TOTALS_CHAIN))
    assert TotalsHistory(w.ledger).since(0) == []
    with altered(monkeypatch, 0.5):
        for record in w.records():
            assert w.replay(record).verdict == "equal"


def test_accounts_without_figures_are_left_out(w: Watched) -> None:
    columns = w.monitor.columns
    assert columns is not None
    columns.equity[0] = np.nan
    found = totals_of(columns)
    assert found is not None
    assert found["accounts"] == 1
    assert found["add_on"] == columns.add_on[1]
    columns.equity[:] = 1.7e308
    assert totals_of(columns) is None


def test_the_record_names_its_evaluation(w: Watched) -> None:
    (first, *_) = w.ledger.records(TOTALS)
    evaluations = {record.seq: record for record in w.records()}
    evaluation = evaluations[first.payload["evaluation"]]
    assert evaluation.payload["whole"] is True
    assert recorded_totals(w.ledger, evaluation) == {
        name: value for name, value in first.payload.items() if name != "evaluation"
    }
