"""Which events there are, and which of them a sink gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Topic = Literal["call", "instruction", "default_resources"]
"""The kind of record that an event is the payload of."""

EVENTS: Mapping[Topic, tuple[str, ...]] = {
    "call": (
        *("opened", "acknowledged", "raised", "credited", "partly_met", "met", "disputed"),
        *("dispute_resolved", "dispute_expired", "deadline_moved", "deadline_missed"),
        *("grace_ended", "stop_out", "reinstated", "taken_over", "closed", "bad_debt"),
        "cancelled",
    ),
    "instruction": (
        *("issued", "acknowledged", "filled", "partly_filled", "rejected", "timed_out"),
        "cancelled",
    ),
    "default_resources": (),
}
"""The events of each topic; default resources have one kind of event, without a name."""


def known_events() -> list[str]:
    """What a subscription may name: topics, and single events of them."""
    return [*EVENTS, *(f"{topic}.{event}" for topic, names in EVENTS.items() for event in names)]


def topic_of(event: Mapping[str, Any]) -> Topic:
    """The topic of an event, by the fields that only this topic has."""
    if "instruction_id" in event:
        return "instruction"
    return "default_resources" if "shortfall" in event else "call"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A sink, and the events that it gets.

    Attributes
    ----------
    sink:
        Its name.
    events:
        Of `known_events`; empty: every event.
    """

    sink: str
    events: frozenset[str] = frozenset()

    def wants(self, topic: Topic, event: str) -> bool:
        """Whether an event of a topic is for this sink."""
        return not self.events or topic in self.events or f"{topic}.{event}" in self.events
