"""Add-ons in force that are kept in memory are those that the ledger gives."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from decisions import levels_in_force
from decisions.book_scoring import PreviousAddOn
from decisions.levels_in_force import LevelInForce, LevelsInForce
from ledger.records import Entry, Record
from ledger.store import Ledger
from market.core.errors import AlteredError
from tests.endpoint_fixtures import levels_of


def decision(name: str, add_on: float, positions: int = 1) -> Entry:
    """A decision as recorded, which sets a level."""
    legs = [{"instrument": f"C{n}-PERP", "quantity": 1.0 + n} for n in range(positions)]
    return Entry(
        "decision",
        {
            "calculation": 1,
            "decision": {"binding": "model", "add_on": add_on, "initial_margin": 10.0},
            "account": {"positions": legs},
            "previous": None,
        },
        account_id=name,
        as_of=7,
    )


class CountedLedger(Ledger):
    """A ledger that counts what is read."""

    asked = 0
    read = 0

    def last_decision_ids(self, account_ids: Collection[str]) -> dict[str, str]:
        self.asked += 1
        return super().last_decision_ids(account_ids)

    def last_decisions(self, account_ids: Collection[str]) -> dict[str, Record | AlteredError]:
        self.read += len(account_ids)
        return super().last_decisions(account_ids)


@pytest.fixture
def counted(tmp_path: Any) -> Any:
    with CountedLedger(f"sqlite:///{tmp_path}/counted.db") as ledger:
        yield ledger


def test_a_record_is_read_once(counted: CountedLedger) -> None:
    (record,) = counted.append([decision("a", 3.0)])
    levels = LevelsInForce(counted)
    for _ in range(3):
        found = levels.of(["a", "new"])
        level = PreviousAddOn(3.0, 7, 10.0, {"C0-PERP": 1.0})
        assert found == {"a": LevelInForce(record.id, level), "new": LevelInForce(None, None)}
    assert counted.read == 1


def test_a_newer_record_of_another_writer_is_seen(counted: CountedLedger) -> None:
    counted.append([decision("a", 3.0)])
    levels = LevelsInForce(counted)
    levels.of(["a"])
    counted.append([decision("a", 4.0)])
    assert levels_of(levels, "a")["a"].amount == 4.0
    assert counted.read == 2


def test_the_ledger_is_asked_while_another_writer_is_at_work(
    counted: CountedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("decisions.levels_in_force.time.monotonic", lambda: now)
    counted.append([decision(name, 3.0) for name in "ab"])
    levels = LevelsInForce(counted)
    assert set(levels.expected(["a"])) == {"a"}
    asked = counted.asked
    assert set(levels.expected(["a"])) == {"a"}
    assert counted.asked == asked
    assert levels.expected(["a", "b", "new"]).keys() == {"a", "b", "new"}
    assert counted.asked == asked + 1
    counted.append([decision("a", 4.0)])
    assert levels.expected(["a"])["a"].level == PreviousAddOn(3.0, 7, 10.0, {"C0-PERP": 1.0})
    levels.notice_other_writer()
    found = levels.expected(["a"])["a"].level
    assert found is not None
    assert found.amount == 4.0
    now += levels_in_force.ALONE_SECONDS
    asked = counted.asked
    levels.expected(["a"])
    assert counted.asked == asked


def test_what_is_kept_stays_within_its_bound_and_is_what_was_used_last(
    counted: CountedLedger,
) -> None:
    names = [f"n{n}" for n in range(40)]
    counted.append([decision(name, 3.0, positions=4) for name in names])
    levels = LevelsInForce(counted, max_kept=50)  # ten accounts of one and four positions
    levels.of(names)
    counted.read = 0
    levels.of(names[-10:])
    assert counted.read == 0
    levels.of(names[-2:])
    levels.of(names[:1])
    assert counted.read == 1
    levels.of(names[-2:] + names[-9:-3])
    assert counted.read == 1
    levels.of(names[-10:-9])
    assert counted.read == 2


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5), st.booleans()), max_size=12))
def test_any_order_of_use_gives_what_a_fresh_reader_finds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('levels')}/ledger.db"
    with Ledger(url) as ledger:
        levels = LevelsInForce(ledger, max_kept=7)
        for name, positions, record in steps:
            if record:
                ledger.append([decision(name, float(positions), positions)])
            assert levels.of([name, "d"]) == LevelsInForce(ledger).of([name, "d"])
