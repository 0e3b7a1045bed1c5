"""What a ledger holds against what was acknowledged: lost, doubled, torn, out of order."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.reliability.load import Outcome
from ledger.records import Record
from ledger.store import Ledger
from ledger.verify import verify

UNANSWERED = "unanswered"
"""An account of clients that do not wait for their answers: its add-on is not compared."""


@dataclass(frozen=True)
class Evidence:
    """A comparison; every figure but the first two is 0 where nothing went wrong.

    Attributes
    ----------
    acknowledged, recorded:
        Decisions that clients were answered with, and those on record.
    lost:
        Acknowledged, and not on record.
    doubled:
        On record beyond one for each account of each call. Counted where every call was
        acknowledged in the end.
    broken_levels:
        Pairs of decisions of an account of which the later one does not continue from the one in
        force before it.
    problems:
        What ``verify`` finds.
    """

    acknowledged: int
    recorded: int
    lost: int
    doubled: int
    broken_levels: int
    problems: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is lost, doubled, out of order or altered."""
        return not (self.lost or self.doubled or self.broken_levels or self.problems)


def examine(url: str, outcome: Outcome) -> Evidence:
    """Read a whole ledger and compare."""
    answered = Counter(decision for call in outcome.acknowledged for decision in call.decisions)
    with Ledger(url) as ledger:
        found = verify(ledger.engine)
        by_account: defaultdict[str, list[Record]] = defaultdict(list)
        for record in ledger.records("decision"):
            if record.account_id == UNANSWERED:
                continue
            by_account[record.account_id or ""].append(record)
    recorded = {record.id for records in by_account.values() for record in records}
    extra = len(recorded - answered.keys()) if not outcome.given_up else 0
    return Evidence(
        acknowledged=answered.total(),
        recorded=len(recorded),
        lost=len(answered.keys() - recorded),
        doubled=extra + answered.total() - len(answered),
        broken_levels=sum(map(_broken_levels, by_account.values())),
        problems=tuple(map(str, found.problems)),
    )


def _broken_levels(records: list[Record]) -> int:
    """Decisions that do not continue from the newest decision time recorded before them."""
    broken = int(records[0].payload["previous"] is not None)
    in_force = records[0]
    for before, after in pairwise(records):
        previous = after.payload["previous"]
        continues = (
            after.recorded_at > before.recorded_at
            and previous is not None
            and previous["amount"] == in_force.payload["decision"]["add_on"]
            and previous["as_of"] == in_force.as_of
        )
        broken += not continues
        if (after.as_of or 0) >= (in_force.as_of or 0):
            in_force = after
    return broken
