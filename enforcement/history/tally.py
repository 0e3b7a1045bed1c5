"""Counts of what happened to accounts over history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from enforcement.liquidation.plan import Plan
from ledger.records import Entry
from margin.life_cycle.states import Reason, Transitions


@dataclass(slots=True)
class Tally:
    """Counts over the closes that were walked, settlement currency.

    Attributes
    ----------
    bars, valuations, unknown:
        Closes, accounts margined at them, and those of them without figures.
    problems:
        Why accounts had none, by account: the first reason.
    reasons:
        Changes of state by reason.
    events:
        Records by kind and event, as in ``call.opened``.
    steps, notional:
        Of liquidations: steps, and what they closed at the mark.
    liquidated:
        Steps by account.
    """

    bars: int = 0
    valuations: int = 0
    unknown: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    notional: float = 0.0
    liquidated: dict[str, int] = field(default_factory=dict)

    def count_transitions(self, transitions: Transitions) -> None:
        """Count changes of state."""
        _add(self.reasons, (Reason(code).code for code in transitions.reason.tolist()))

    def count_entries(self, entries: Iterable[Entry]) -> None:
        """Count records."""
        names = (f"{entry.kind}.{entry.payload.get('event', 'settled')}" for entry in entries)
        _add(self.events, names)

    def count_step(self, account_id: str, plan: Plan) -> None:
        """Count a step of a liquidation."""
        if plan.step is not None:
            self.steps += 1
            self.notional += plan.step.notional
            _add(self.liquidated, [account_id])

    def to_content(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> Tally:
        """The counts that `to_content` wrote."""
        copied: dict[str, Any] = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in content.items()
        }
        return cls(**copied)


def _add(counts: dict[str, int], names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        counts[name] = counts.get(name, 0) + count
