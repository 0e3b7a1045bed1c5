"""Decisions into the ledger: each after the one it continues from, the sound ones in any case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from decisions.decision import PreviousAddOn
from decisions.messages import AccountProblem, Decision
from decisions.records import LevelsInForce, entries
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes
from ledger.decisions import Draft
from ledger.idempotency import IdempotentAnswer
from ledger.records import Entry, Record
from margin.rules.ruleset import RuleSet
from market.core.errors import UnrecordableError
from market.sources.http import AccountIn
from models.forecaster import Forecaster


@dataclass(frozen=True, slots=True)
class Outcome:
    """Decisions and problems, and the model that answered; None where none did."""

    decisions: list[Decision]
    problems: list[AccountProblem]
    model: Forecaster | None


Decide = Callable[[Sequence[str], Mapping[str, PreviousAddOn]], Outcome]
"""Decides on the named accounts with the given add-ons in force."""

Respond = Callable[[list[Decision], list[AccountProblem]], IdempotentAnswer | None]
"""The answer to keep under its idempotency key; None where the request carried none."""

Append = Callable[[Draft, Callable[[Mapping[str, Record]], Draft]], Draft]
"""`Ledger.append_decisions`."""


def _no_answer(decisions: list[Decision], problems: list[AccountProblem]) -> None:
    return None


@dataclass(slots=True)
class Recording:
    """Decisions of one request on their way into the ledger.

    Attributes
    ----------
    accounts:
        What was decided on, by id.
    levels:
        Add-ons in force by the ledger. An account whose request gave its add-on is in
        `given` instead.
    given:
        Add-ons in force that came with the request, by account id.
    snapshot, ruleset:
        Market and rules of the decisions.
    decide, respond:
        Make the decisions, and the answer that is recorded with them.
    decisions, problems:
        What came of it; decisions have their ids once `record` returned.
    """

    accounts: Mapping[str, AccountIn]
    levels: LevelsInForce
    given: dict[str, PreviousAddOn]
    snapshot: MarketSnapshot
    ruleset: RuleSet
    decide: Decide
    respond: Respond = _no_answer
    decisions: list[Decision] = field(default_factory=list)
    problems: list[AccountProblem] = field(default_factory=list)
    _entries: Sequence[Entry] = ()

    def run(self) -> None:
        """Decide on all accounts."""
        outcome = self.decide(list(self.accounts), self.levels.previous | self.given)
        self.decisions, self.problems = outcome.decisions, outcome.problems

    def record(self, append: Append) -> None:
        """Put the decisions on record.

        An account whose decision cannot be recorded for what it holds becomes a problem; the
        others are recorded. Nothing is appended where no decision is left.

        Raises
        ------
        LedgerDuplicateError, LedgerConflictError, LedgerError
            As `Ledger.append_decisions`; nothing was recorded.
        UnrecordableError
            What all decisions share cannot be recorded.
        """
        if not self.decisions:
            return
        try:
            append(self._draft(), self._renew)
        except UnrecordableError:
            if not self._set_unrecordable_apart():
                raise
            if self.decisions:
                append(self._draft(), self._renew)

    def _draft(self) -> Draft:
        found, contents, self.decisions = entries(
            self.decisions,
            self.accounts,
            self.levels.previous | self.given,
            self.snapshot,
            self.ruleset,
        )
        self._entries = found
        recorded = {decision.account_id for decision in self.decisions}
        based_on = {name: last for name, last in self.levels.based_on.items() if name in recorded}
        return Draft(found, contents, self.respond(self.decisions, self.problems), based_on)

    def _renew(self, last: Mapping[str, Record]) -> Draft:
        """Decide again on accounts on which another decision was recorded meanwhile."""
        self.levels = self.levels.renewed(last)
        outcome = self.decide(list(last), self.levels.previous)
        again = {decision.account_id: decision for decision in outcome.decisions}
        kept = {d.account_id: d for d in self.decisions if d.account_id not in last} | again
        self.decisions = [kept[d.account_id] for d in self.decisions if d.account_id in kept]
        self.problems = self.problems + outcome.problems
        return self._draft()

    def _set_unrecordable_apart(self) -> bool:
        """Turn decisions without a canonical form into problems; whether there were any."""
        unrecordable: dict[str, str] = {}
        for entry in self._entries:
            try:
                canonical_bytes(entry.payload)
            except UnrecordableError as error:
                unrecordable[str(entry.account_id)] = str(error)
        self.problems = self.problems + [
            AccountProblem(name, "unrecordable", f"account {name!r}: the decision {why}")
            for name, why in unrecordable.items()
        ]
        self.decisions = [d for d in self.decisions if d.account_id not in unrecordable]
        return bool(unrecordable)
