"""What a monitor asks of enforcement: its part in the states of accounts, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from features.state.snapshot import MarketSnapshot
from ledger.following import ChainHead
from margin.life_cycle.states import States, Transitions
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from market.core.arrays import Floats
from monitoring.evaluation.passes.rules_pass import RuleColumns
from monitoring.evaluation.passes.state_inputs import StateInputs


@dataclass(frozen=True, slots=True)
class StateStep:
    """Accounts whose states are about to move.

    Attributes
    ----------
    names:
        Of N accounts.
    index:
        Place of each of them by its name.
    before:
        Their states.
    columns:
        What the rules say about them now.
    amounts:
        The level that the model pass last set, shape (N,); NaN without one.
    snapshot, ruleset:
        Market and rules.
    event:
        What the step rests on: a chain and the number of its newest record.
    earlier:
        Accounts that were updated since the newest step, as they were before.
    account:
        Gives an account by its id.
    sequence:
        Gives the number of an account's newest update.
    book:
        Gives the accounts as a book.
    whole:
        Whether they are all accounts.
    """

    names: Sequence[str]
    index: Mapping[str, int]
    before: States
    columns: RuleColumns
    amounts: Floats
    snapshot: MarketSnapshot
    ruleset: RuleSet
    event: tuple[str, int]
    earlier: Mapping[str, Account]
    account: Callable[[str], Account]
    sequence: Callable[[str], int]
    book: Callable[[], Book]
    whole: bool

    @property
    def now(self) -> int:
        """The decision time, nanoseconds."""
        return self.snapshot.as_of


class StateEngine(Protocol):
    """Enforcement as a monitor uses it. One step is `inputs`, `outcome`, and `write` in the
    transaction of the evaluation; a step that is not written is forgotten by `restore`."""

    def restore(self, book: ChainHead) -> Mapping[str, Account]:
        """Go back to what is recorded; `book` is the live book of the newest evaluation.

        Gives accounts that were updated since and that enforcement has to know as they were.
        """

    def has_work(self, now: int) -> bool:
        """Whether commands wait, or something is due at a time."""

    def inputs(self, step: StateStep) -> StateInputs:
        """Enforcement's part in the states of the accounts of a step."""

    def outcome(self, step: StateStep, after: States, transitions: Transitions) -> bool:
        """Take the new states; whether there is something to write."""

    def write(self, connection: Connection, evaluation: int, stored: Collection[str]) -> None:
        """Record what followed, inside the transaction of evaluation record `evaluation`."""

    def facts(self) -> dict[str, Any]:
        """What the evaluation record says of enforcement."""
