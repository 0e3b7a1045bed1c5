"""What commands are checked against: calls, instructions and accounts as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from margin.rules.approval import ApprovalRules
from market.core.errors import MargincastError

RefusalKind = Literal["not_found", "invalid", "conflict"]


class CommandRefusedError(MargincastError):
    """A command cannot be applied.

    Parameters
    ----------
    kind:
        ``not_found``: it names something that does not exist; ``invalid``: it holds an impossible
        value; ``conflict``: the present state does not allow it.
    detail:
        What was given, what was expected, what to do.
    """

    def __init__(self, kind: RefusalKind, detail: str) -> None:
        super().__init__(detail)
        self.kind: RefusalKind = kind


class CallView(Protocol):
    """A call as it stands; `enforcement.calls.call.Call` is one."""

    @property
    def account_id(self) -> str:
        """Whose it is."""

    @property
    def kind(self) -> str:
        """Call, advice or liquidation."""

    @property
    def state(self) -> str:
        """Label of `margin.life_cycle.states.State`."""

    @property
    def outstanding(self) -> float:
        """What is missing until it is met, settlement currency."""

    @property
    def dispute(self) -> object | None:
        """The open dispute."""

    @property
    def dispute_end(self) -> str | None:
        """How the newest dispute ended."""

    @property
    def acknowledged_at(self) -> str | None:
        """When it was acknowledged."""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""


class InstructionView(Protocol):
    """An instruction as it stands."""

    @property
    def kind(self) -> str:
        """What the venue is to do."""

    @property
    def state(self) -> str:
        """By its newest event."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """With the signed ``quantity`` to trade where it is a close."""

    @property
    def is_open(self) -> bool:
        """Whether the venue has still to act on it."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account, as an override needs it; None or NaN where a figure is not known.

    Attributes
    ----------
    floor:
        Least add-on by the rules, settlement currency.
    add_on:
        Add-on now.
    """

    floor: float | None = None
    add_on: float | None = None


class ControlContext(Protocol):
    """How things stand when a command is applied."""

    @property
    def approval(self) -> ApprovalRules:
        """The approval matrix in force."""

    @property
    def dispute_hours(self) -> float:
        """How long a dispute may stay open."""

    def call(self, call_id: str) -> CallView | None:
        """A call; None where there is none."""

    def instruction(self, instruction_id: str) -> InstructionView | None:
        """An instruction; None where there is none."""

    def account(self, account_id: str) -> AccountView | None:
        """An account of the live book; None where there is none."""


@dataclass(frozen=True, slots=True)
class ControlOutcome:
    """What a command did.

    Attributes
    ----------
    record:
        Payload of the record of kind ``control``; None where the command was applied before.
    refused:
        Why it was not applied; None where it was.
    kind:
        Kind of the refusal.
    effects:
        What is to be done with calls, instructions and notifications, each by its ``effect``:
        ``disputed`` (``call_id``, ``dispute``), ``dispute_resolved`` (``call_id``, ``outcome``,
        ``by``, ``note``), ``call_acknowledged`` (``call_id``, ``acknowledgement``), ``answered``
        (``instruction_id``, ``answer``), ``add_on_changed`` (``account_id``), ``deadline_changed``
        (``call_id``), ``modes_changed`` (``symbol``) and ``delivery_skipped`` (``event_id``,
        ``sink``, ``reason``).
    """

    record: dict[str, Any] | None
    refused: str | None = None
    kind: RefusalKind | None = None
    effects: tuple[dict[str, Any], ...] = ()
