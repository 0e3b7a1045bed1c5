"""The life cycle of a book over history: the engine of the live book at every close.

At each close all accounts of the files are margined together and given to the engine of calls. The
instructions that it gives are carried out at once: closes are filled at the estimated price, a sale
at auction finds its buyer, the backstop takes accounts over, winners are deleveraged and losses
shared. Then the accounts are margined again at the same close, until nothing follows any more. An
account gets one step of a liquidation at each close.

History has no acknowledgements: every call counts as acknowledged when it is opened, so its hours
run from its commit whatever the rules say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from enforcement.calls.answers import fill
from enforcement.calls.call import Call
from enforcement.calls.engine import CallEngine
from enforcement.calls.instruction import Instruction
from enforcement.calls.liquidator import Acts
from enforcement.calls.memory import Memory
from enforcement.controls.control_state import ControlState
from enforcement.history.tally import Tally
from enforcement.liquidation.resources import DefaultResources
from features.state.snapshot import MarketSnapshot
from ledger.records import Entry
from margin.life_cycle.account_replay import AccountReplay
from margin.life_cycle.states import ENDED, State, States
from margin.rules.ruleset import RuleSet
from market.accounts.account_files import AccountHistory
from market.accounts.book import Account, Book
from market.core.arrays import Floats
from monitoring.evaluation.passes.rules_pass import evaluate_rules
from monitoring.evaluation.passes.state_inputs import advance_states
from monitoring.evaluation.state_engine import StateStep

CHAIN = "bars"
"""What events rest on: bars, by their number since 1970."""

_STATE_COLUMNS: Mapping[str, Any] = {
    "state": np.int8,
    "since": np.int64,
    "deadline": np.int64,
    "disputed": np.int64,
    "types": np.int8,
    "deadlines": np.int64,
}

Levels = Callable[[MarketSnapshot, Book, RuleSet], Floats]
"""Levels of the add-on that a model sets for the accounts of a book, shape (N,); NaN: the floor."""


def rule_levels(snapshot: MarketSnapshot, book: Book, ruleset: RuleSet) -> Floats:
    """No model: the rule floor counts."""
    del snapshot, ruleset
    return np.full(len(book), np.nan)


def _from_commit(ruleset: RuleSet) -> RuleSet:
    """The rules where every call is acknowledged at once."""
    rules = ruleset.enforcement
    if rules is UNSET or not rules.waiting_hours:
        return ruleset
    return msgspec.structs.replace(ruleset, enforcement=rules.from_commit())


@dataclass(slots=True)
class _Close:
    """One close of the walk."""

    snapshot: MarketSnapshot
    ruleset: RuleSet


class HistoryWalk:
    """Enforcement of the accounts of files, close by close.

    Deterministic: the same files, closes, rules and levels give the same entries to the last bit,
    whether they are walked at once or continued from `to_content`.

    Parameters
    ----------
    accounts:
        The account files.
    levels:
        Sets the add-on.

    Attributes
    ----------
    states:
        Of all accounts of the files.
    entries:
        Records in their order, as the live engine makes them.
    tally:
        Counts.
    """

    def __init__(self, accounts: AccountHistory, levels: Levels = rule_levels) -> None:
        self._history, self._levels = accounts, levels
        self._accounts = AccountReplay(accounts)
        self._engine = CallEngine(Memory())
        self._deposited: dict[str, Account] = {}
        self.states = States.healthy(len(accounts.account_ids))
        self.entries: list[Entry] = []
        self.tally = Tally()

    @property
    def resources(self) -> DefaultResources:
        """Fund, and what others have borne."""
        return self._engine.memory.resources

    @property
    def calls(self) -> Mapping[str, Call]:
        """The open calls by account."""
        return self._engine.memory.calls

    def account(self, account_id: str) -> Account | None:
        """An account as it is now; None where it has left or was closed."""
        try:
            return self._accounts.account(self._accounts.row(account_id))
        except KeyError:
            return None

    def deposit(self, account_id: str, amount: float) -> None:
        """Let an account that is there put in cash, which counts from the next close on."""
        row = self._accounts.row(account_id)
        account = self._accounts.account(row)
        self._deposited.setdefault(account_id, account)
        self._accounts.replace(row, replace(account, cash=account.cash + amount))

    def advance_to(self, snapshot: MarketSnapshot, ruleset: RuleSet) -> None:
        """Bring every account to the close of a snapshot; in the order of time."""
        at = _Close(snapshot, ruleset)
        self.tally.bars += 1
        acts = self._round(at, self._updated(at))
        while acts.plans or acts.settlements:
            acts = self._round(at, self._carry_out(acts))
        memory = self._engine.memory
        for row in np.flatnonzero(np.isin(self.states.state, ENDED)).tolist():
            call = memory.calls.get(self._history.account_ids[row])
            settled = call is not None and bool((call.progress or {}).get("settled"))
            if self.states.state[row] != State.BAD_DEBT or settled:
                self._accounts.remove([row])

    def _updated(self, at: _Close) -> dict[str, Account]:
        """Called accounts of which the files have news at a close, as they were before."""
        before = {name: self.account(name) for name in self.calls} | self._deposited
        self._deposited = {}
        self._accounts.at(at.snapshot.view())
        return {
            name: account
            for name, account in before.items()
            if account is not None and self.account(name) not in (None, account)
        }

    def _round(self, at: _Close, earlier: Mapping[str, Account]) -> Acts:
        """Margin the accounts, move their states, and let the engine act."""
        snapshot, ruleset, tally = at.snapshot, at.ruleset, self.tally
        view = snapshot.view()
        book, rows = self._accounts.at(view)
        if not len(rows):
            return Acts({}, {})
        amounts = self._levels(snapshot, book, ruleset)
        columns = evaluate_rules(book, amounts, view, ruleset)
        before = self.states.take(rows)
        step = StateStep(
            book.account_ids,
            {name: i for i, name in enumerate(book.account_ids)},
            before,
            columns,
            amounts,
            snapshot,
            ruleset,
            (CHAIN, snapshot.as_of // snapshot.interval.nanoseconds),
            earlier,
            lambda name: self._accounts.account(self._accounts.row(name)),
            lambda name: 0,  # what the engine orders is carried out before the next step
            lambda: book,
            True,
        )
        inputs = self._engine.inputs(step)
        after, transitions = advance_states(
            before, columns, book.account_ids, snapshot.as_of, _from_commit(ruleset), inputs
        )
        self._engine.outcome(step, after, transitions)
        memory = self._engine.memory
        for name in sorted({one.account_id for one in memory.instructions.values()}):
            fill(self._engine.log, name, snapshot.as_of, ruleset)
        self.states = self.states.put(rows, after)
        tally.valuations += len(rows)
        tally.unknown += len(columns.problems)
        for i, problem in columns.problems.items():
            tally.problems.setdefault(book.account_ids[i], str(problem))
        tally.count_transitions(transitions)
        self._take_entries()
        return self._engine.acts

    def _carry_out(self, acts: Acts) -> dict[str, Account]:
        """Change accounts as the engine ordered; they as they were before."""
        before: dict[str, Account] = {}

        def change(account: Account) -> None:
            row = self._accounts.row(account.account_id)
            before.setdefault(account.account_id, self._accounts.account(row))
            self._accounts.replace(row, account)

        for name, plan in acts.plans.items():
            change(plan.expected)
            self.tally.count_step(name, plan)
        for name, settled in acts.settlements.items():
            for account in settled.accounts:
                change(account)
            # What others paid has made it good; the rest is still owed.
            change(Account(name, -settled.coverage.uncovered))
        return before

    def _take_entries(self) -> None:
        log = self._engine.log
        self.tally.count_entries(log.entries)
        self.entries += log.entries
        log.clear()

    def to_content(self) -> dict[str, Any]:
        """All that a longer walk needs to go on, as plain JSON values."""
        memory = self._engine.memory
        return {
            "states": {name: column.tolist() for name, column in self.states.columns().items()},
            "as_of": self.states.as_of,
            "accounts": self._accounts.to_content(),
            "calls": [call.content() for call in memory.calls.values()],
            "advice": [call.content() for call in memory.advice.values()],
            "instructions": [one.content() for one in memory.instructions.values()],
            "sequences": dict(memory.sequences),
            "resources": memory.resources.to_content(),
            "controls": memory.controls.to_content(),
            "tally": self.tally.to_content(),
        }

    @classmethod
    def of_content(
        cls, accounts: AccountHistory, content: Mapping[str, Any], levels: Levels = rule_levels
    ) -> HistoryWalk:
        """The walk that `to_content` wrote, over the same files; its entries begin empty."""
        walk = cls(accounts, levels)
        columns = {
            name: np.array(content["states"][name], dtype=kind)
            for name, kind in _STATE_COLUMNS.items()
        }
        columns["deadlines"] = columns["deadlines"].reshape(len(columns["state"]), -1)
        walk.states = States.of_columns(columns, content["as_of"])
        walk._accounts = AccountReplay.of_content(accounts, content["accounts"])
        instructions = [Instruction.of_content(one) for one in content["instructions"]]
        walk._engine = CallEngine(
            Memory(
                ControlState.of_content(content["controls"]),
                {one["account_id"]: Call.of_content(one) for one in content["calls"]},
                {one["account_id"]: Call.of_content(one) for one in content["advice"]},
                {one.instruction_id: one for one in instructions},
                dict(content["sequences"]),
                DefaultResources.of_content(content["resources"]),
            )
        )
        walk.tally = Tally.of_content(content["tally"])
        return walk
