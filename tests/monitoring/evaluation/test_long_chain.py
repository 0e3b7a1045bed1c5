"""What a start reads of the live book does not grow with the chain of evaluations."""

from __future__ import annotations

import pytest

import ledger.chain
from ledger.following import SharedChain
from ledger.records import Entry, Record
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from monitoring.evaluation.record.column_codec import encode_columns
from monitoring.evaluation.record.evaluation_state import (
    CHAIN,
    EVALUATION,
    EvaluationState,
    evaluated_market,
    restore,
)
from monitoring.evaluation.view import BookView
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.ledger.sqlite_steps import count_steps
from tests.monitoring.evaluation.helpers import snapshot, watched

ROWS = 250


@pytest.fixture
def evaluated(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, champion: str, ledger: Ledger
) -> Ledger:
    """A ledger with one account and few evaluations."""
    w = watched(market, ruleset, bundles, ledger, ROWS)
    w.update(snapshot("acc", 1, 900.0, BTC=0.1))
    w.settle()
    w.monitor.close()
    return ledger


def go_on(ledger: Ledger, times: int) -> None:
    """Record the newest pass over all accounts of each kind again and again."""
    chain = SharedChain(ledger, CHAIN)
    newest = {r.payload["pass"]: r for r in chain.after(chain.before(1)) if r.payload["whole"]}
    for _ in range(times):
        head = chain.head()
        base = {"rules": head.seq + 1, "model": head.seq + 1}
        entries = []
        for i, which in enumerate(("rules", "model")):
            base |= {which: head.seq + 1 + i}
            payload = {**newest[which].payload, "base": dict(base), "after": head.seq + i}
            entries.append(Entry(EVALUATION, payload, as_of=newest[which].as_of))
        chain.append(head, entries)


def test_a_start_reads_as_much_of_a_long_chain_as_of_a_short_one(
    evaluated: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    to_record = ledger.chain.to_record

    def counted(row: object) -> Record:
        record = to_record(row)  # type: ignore[arg-type]
        read.append(record.seq)
        return record

    monkeypatch.setattr("ledger.following.to_record", counted)

    def start() -> None:
        restore(evaluated)
        evaluated_market(evaluated)
        BookView(evaluated).follow()

    def cost() -> tuple[int, int]:
        read.clear()
        steps = count_steps(evaluated, start)
        return steps, len(read)

    go_on(evaluated, 3)
    steps, records = cost()
    go_on(evaluated, 400)
    long_steps, long_records = cost()
    assert long_records == records
    assert long_steps <= steps + 10


def test_the_state_of_a_long_chain_is_that_of_all_its_records(evaluated: Ledger) -> None:
    go_on(evaluated, 20)
    restored = restore(evaluated)
    everything = EvaluationState().advanced(SharedChain(evaluated, CHAIN))
    assert restored.head == everything.head
    assert restored.base == everything.base
    assert restored.newest == everything.newest
    assert restored.restated == everything.restated
    assert encode_columns(restored.levels.columns()) == encode_columns(everything.levels.columns())
    assert encode_columns(restored.states.columns()) == encode_columns(everything.states.columns())
