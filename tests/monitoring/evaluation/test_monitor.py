"""The monitor over a moving market and a moving book."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from decisions.book_scoring import DecisionBasis, PreviousAddOn, score_book
from decisions.replay import replay
from ledger.store import Ledger
from margin.life_cycle.states import State
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, deltas, snapshot, watched

Start = Callable[..., Watched]


@pytest.fixture
def start(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, champion: str, ledger: Ledger
) -> Start:
    def begin(rows: int = 250) -> Watched:
        return watched(market, ruleset, bundles, ledger, rows)

    return begin


def fill_book(w: Watched, count: int = 40) -> None:
    rng = np.random.default_rng(3)
    w.update(
        *(
            snapshot(
                f"retail-{i:03d}",
                1,
                float(rng.uniform(200.0, 9_000.0)),
                BTC=float(rng.normal(0.0, 0.2)),
                ETH=float(rng.normal(0.0, 2.0)),
            )
            for i in range(count)
        )
    )


def move_on(w: Watched) -> None:
    """Bars, marks, and updates of all kinds, the monitor at rest after each."""
    w.settle()
    w.marks(0.97, 60)
    w.settle()
    w.update(
        deltas("retail-001", 2, {"kind": "deposit", "asset": "USD", "amount": 500.0}),
        snapshot("retail-002", 2, 4_000.0, BTC=0.3, ETH=-1.0),
        snapshot("late-001", 1, 3_000.0, ETH=2.0),
    )
    w.settle()
    w.bars(250)
    w.settle()
    w.marks(0.85, 120)
    w.update(snapshot("retail-003", 2, 9_000.0, ETH=5.0))
    w.settle()
    w.bars(251, 0.9)
    w.settle()


def test_every_block_of_a_moving_book_replays_equal(start: Start) -> None:
    w = start()
    fill_book(w)
    move_on(w)
    records = w.records()
    assert {r.payload["pass"] for r in records} == {"rules", "model"}
    assert any(not r.payload["whole"] for r in records)
    for record in records:
        found = w.replay(record)
        assert found.verdict == "equal", (record.payload["trigger"], found.differences)
        assert found.compared > 0
        assert w.replay(record, "retail-001" if found.compared > 40 else None).verdict == "equal"


def test_the_decisions_of_evaluations_replay_equal_and_have_the_levels_of_the_blocks(
    start: Start,
) -> None:
    w = start()
    fill_book(w)
    move_on(w)
    decisions = list(w.ledger.records("decision"))
    assert decisions
    state = w.monitor.state
    assert state is not None
    newest = {}
    for record in decisions:
        found = replay(
            w.ledger, record.id, lambda sha: Forecaster(load_bundle(w.bundles.root / sha))
        )
        assert found.verdict == "equal", found.differences
        newest[record.account_id] = record
    levels = state.levels
    for name, record in newest.items():
        i = state.index[str(name)]
        if levels.as_of[i] == record.as_of:
            assert levels.amount[i] == record.payload["decision"]["add_on"]


def test_evaluating_in_chunks_equals_scoring_the_whole_book(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.evaluation.passes.model_job.CHUNK_ACCOUNTS", 7)
    monkeypatch.setattr("monitoring.book.live_book.SEGMENT_ACCOUNTS", 11)
    w = start()
    fill_book(w)
    w.settle()
    w.bars(250)
    before = w.monitor.state
    assert before is not None
    w.settle()
    state = w.monitor.state
    assert state is not None
    model = Forecaster(load_bundle(w.bundles.root / str(state.newest["model"].model)))
    snapshot = w.market.live.state.decision_snapshot(None, "market")
    book = Book.joined([segment.book for segment in w.monitor.book.segments])
    assert book.account_ids == state.names
    previous = {
        name: PreviousAddOn(float(a), int(t))
        for name, a, t in zip(before.names, before.levels.amount, before.levels.as_of, strict=True)
    }
    basis = DecisionBasis(snapshot, w.monitor._inputs.rules.now(), model, previous)
    scores = score_book(book, basis)
    assert np.array_equal(scores.add_on.level, state.levels.amount)
    assert np.array_equal(scores.add_on.binding, state.levels.binding)
    columns = w.monitor.columns
    assert columns is not None
    assert np.array_equal(scores.valuations.column("headroom"), columns.headroom)


def test_a_restart_goes_on_from_the_recorded_levels_and_states(start: Start) -> None:
    w = start()
    fill_book(w)
    move_on(w)
    state = w.monitor.state
    assert state is not None
    w.monitor.close()
    count = len(w.records())
    again = start()
    again.settle()
    other = again.monitor.state
    assert other is not None
    other = other.ordered(state.names)
    for name, column in state.levels.columns().items():
        assert np.array_equal(
            column, other.levels.columns()[name], equal_nan=column.dtype.kind == "f"
        ), name
    assert np.array_equal(state.states.state, other.states.state)
    assert np.array_equal(state.states.deadline, other.states.deadline)
    after = again.records()[count:]
    assert [r.payload["pass"] for r in after] == ["rules"], "no model pass is made twice"


def test_a_restart_after_updates_paces_from_the_positions_that_the_level_was_set_on(
    start: Start,
) -> None:
    w = start()
    fill_book(w)
    w.settle()
    w.monitor.close()
    w.update(snapshot("retail-002", 2, 9_000.0, BTC=0.9), snapshot("new-1", 1, 2_000.0, BTC=0.1))
    again = start()
    again.settle()
    last = again.records()[-1]
    assert last.payload["trigger"] == "accounts"
    assert again.replay(last).verdict == "equal"
    assert again.replay(last, "new-1").compared == 1
    state = again.monitor.state
    assert state is not None
    assert state.levels.sequence[state.index["retail-002"]] == 2


def test_a_restart_in_the_middle_of_a_step_decides_on_what_was_restated(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = start()
    w.update(snapshot("edge", 1, 5_000.0, BTC=0.1))
    w.settle()
    w.marks(0.5, 60)  # far outside: waits for confirmation, and drives the account
    w.market.catch_up()
    monkeypatch.setattr(w.monitor, "_next_job", lambda *_: None)  # stopped after the states
    w.update(snapshot("edge", 2, 100.0, BTC=0.1))
    w.monitor.step()
    assert w.monitor.state is not None
    assert w.monitor.state.restated.keys() == {"edge"}
    w.monitor.close()
    before = len(list(w.ledger.records("decision")))
    again = start()
    again.settle()
    assert len(list(w.ledger.records("decision"))) == before + 1
    assert again.monitor.state is not None
    assert not again.monitor.state.restated


def test_a_suspect_price_drives_the_state_and_the_view(start: Start) -> None:
    w = start()
    w.update(snapshot("long", 1, 1_500.0, BTC=0.1))
    w.settle()
    state = w.monitor.state
    assert state is not None
    good = w.monitor.columns
    assert good is not None
    w.marks(1.0, 60)
    w.settle()
    w.marks(0.4, 120)
    w.settle()
    columns = w.monitor.columns
    assert columns is not None
    assert columns.suspect_drives[0]
    assert columns.headroom[0] < good.headroom[0]
    state = w.monitor.state
    assert state is not None
    assert all(w.replay(record).verdict == "equal" for record in w.records())


def test_an_account_with_a_problem_is_kept_and_fails_no_other(start: Start) -> None:
    w = start()
    w.update(
        snapshot("good", 1, 3_000.0, BTC=0.1),
        {
            "account_id": "odd",
            "sequence": 1,
            "snapshot": {
                "cash": 10.0,
                "positions": [{"instrument": "NOPEUSDT-PERP", "quantity": 1.0}],
            },
        },
    )
    w.settle()
    state, columns = w.monitor.state, w.monitor.columns
    assert state is not None
    assert columns is not None
    odd = state.index["odd"]
    assert odd in columns.problems
    assert np.isnan(columns.equity[odd])
    assert np.isfinite(columns.equity[state.index["good"]])
    assert state.states.state[odd] == State.HEALTHY
    w.bars(250)
    w.settle()
    assert all(w.replay(record).verdict == "equal" for record in w.records())
    # Updated to an instrument that is known, it is evaluated like the others.
    w.update(snapshot("odd", 2, 3_000.0, BTC=0.1))
    w.settle()
    columns = w.monitor.columns
    assert columns is not None
    assert not columns.problems


def test_an_account_that_falls_is_called_and_decided_on(start: Start) -> None:
    w = start()
    price = float(w.market.live.state.mark[0])
    w.update(snapshot("falls", 1, 0.1 * price * 0.5, BTC=0.1))
    w.settle()
    state = w.monitor.state
    assert state is not None
    assert state.states.state[0] == State.HEALTHY
    # Worth far less: equity goes under maintenance margin.
    w.update(snapshot("falls", 2, 0.1 * price * 0.015, BTC=0.1))
    w.settle()
    state = w.monitor.state
    assert state is not None
    assert state.states.state[0] in (State.CALLED, State.LIQUIDATING)
    newest = list(w.ledger.records("decision"))[-1]
    assert newest.account_id == "falls"
    assert newest.payload["requester"] == "monitor"
    assert newest.payload["decision"]["headroom"] < 0.0
