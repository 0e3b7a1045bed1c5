"""What a sink is: it sends one message, once, and says what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

SHOWN = 200
"""Most characters of a detail."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way to a sink.

    Attributes
    ----------
    event_id:
        The same at every attempt.
    account_id:
        Whom it is about.
    body:
        JSON.
    """

    event_id: str
    account_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt.

    Attributes
    ----------
    ok:
        Whether the receiver has it.
    detail:
        The answer, or why there is none; without secrets.
    final:
        Whether the receiver refused it for what it is, so that sending it again hardly helps.
    retry_after:
        Seconds after which the receiver asks to be tried again; None if it said nothing.
    """

    ok: bool
    detail: str
    final: bool = False
    retry_after: float | None = None


class Sink(Protocol):
    """A receiver of messages. `send` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """Its name, unique among sinks."""

    def send(self, message: Message) -> Outcome:
        """Try once, within a time limit of its own; a failure is an outcome, not an error."""
