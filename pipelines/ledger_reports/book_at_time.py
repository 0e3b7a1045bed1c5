"""The live book at a time, made again from the ledger: accounts, levels, market and rules.

Levels are the recorded ones. Equity and margins are not recorded: they are computed from the
recorded accounts, market and rules of one pass, as a replay does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sqlalchemy import func, select

from decisions.replay import recorded_snapshot
from features.state.snapshot import MarketSnapshot
from ledger.following import ChainHead, SharedChain
from ledger.records import Record
from ledger.schema import database_errors, records
from ledger.store import Ledger
from margin.add_on.bounds import BINDINGS, deposit_to_meet
from margin.book.account_requirement import Requirement
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.accounts.book import Book
from market.core.arrays import Floats, Ints
from market.core.clock import format_time
from market.core.errors import DataError
from monitoring.book.account_rows import CHAIN as ACCOUNTS
from monitoring.book.account_store import recorded_update
from monitoring.book.book_account import BookAccount, apply_update
from monitoring.evaluation.passes.rules_pass import RuleColumns, evaluate_rules
from monitoring.evaluation.record.evaluation_state import (
    CHAIN,
    EVALUATION,
    EvaluationState,
    Pass,
    restore,
)


@dataclass(frozen=True)
class BookAtTime:
    """All accounts of the live book at a time.

    Attributes
    ----------
    evaluation:
        The pass up to then that saw the newest market and accounts, by the rules or by the model:
        its market, rules and accounts are these.
    snapshot, ruleset:
        Market and rules.
    accounts:
        By the accounts' first appearance.
    state:
        Recorded levels and states, in the order of `accounts`.
    columns:
        Equity, margins and the level within floor and cap, in the same order.
    """

    evaluation: Record
    snapshot: MarketSnapshot
    ruleset: RuleSet
    accounts: tuple[BookAccount, ...]
    state: EvaluationState
    columns: RuleColumns

    @property
    def as_of(self) -> int:
        """Time of the market, nanoseconds."""
        return self.snapshot.as_of

    @property
    def model(self) -> str | None:
        """SHA-256 of the bundle of the newest model pass; None without one."""
        newest = self.state.newest.get("model")
        return None if newest is None else newest.model

    @property
    def accounts_head(self) -> ChainHead:
        """The newest record of the accounts that is in the book."""
        place = self.evaluation.payload["book"]
        return ChainHead(int(place["seq"]), str(place["hash"]))

    @cached_property
    def book(self) -> Book:
        """The accounts in flat arrays."""
        return Book.of([account.account for account in self.accounts])

    @cached_property
    def total_requirement(self) -> Floats:
        """Maintenance margin + add-on, shape (N,); NaN for accounts with a problem."""
        return self.columns.maintenance_margin + self.columns.add_on

    @cached_property
    def deposit(self) -> Floats:
        """What each account lacks to its level, whole cents, shape (N,)."""
        return deposit_to_meet(self.columns.add_on, self.columns.headroom)

    @cached_property
    def requirement(self) -> Requirement:
        """The requirement at the last good prices, with the notional of each position."""
        return compute_requirement(self.book, self.snapshot.view(), self.ruleset)

    def held_from_here(self) -> Book:
        """The book as it is held from now on: what has no entry price entered at the mark now."""
        entry = self.book.leg_entry_price
        return replace(self.book, leg_entry_price=np.where(np.isnan(entry), self.marks(), entry))

    def marks(self) -> Floats:
        """The price that values each position, shape (L,)."""
        entries = self.requirement.portfolios.entries
        return entries.instruments.price[entries.position_row]

    def share_by_leg(self) -> tuple[Ints, Floats]:
        """Account of each position, and its share of the account's gross notional, shape (L,)."""
        found = self.requirement
        owner = np.repeat(np.arange(len(self.accounts)), np.diff(found.leg_start))
        size = np.nan_to_num(np.abs(found.leg_notional))
        gross = np.bincount(owner, size, len(self.accounts))[owner]
        share = np.divide(size, gross, out=np.zeros(len(size)), where=gross > 0.0)
        return owner, share

    def binding(self, row: int) -> str | None:
        """What bound the level of an account; None where it was not scored."""
        code = int(self.state.levels.binding[row])
        return BINDINGS[code] if code >= 0 else None

    def facts(self) -> dict[str, str | int | None]:
        """What the book rests on, for a report."""
        payload, accounts = self.evaluation.payload, self.accounts_head
        return {
            "book_as_of": format_time(self.as_of),
            "evaluation_id": self.evaluation.id,
            "ruleset": self.ruleset.name,
            "ruleset_sha256": self.ruleset.sha256,
            "model_sha256": self.model,
            "market_sha256": payload["contents"]["market_sha256"],
            "head_monitoring_seq": self.state.head.seq,
            "head_monitoring_hash": self.state.head.hash,
            "head_accounts_seq": accounts.seq,
            "head_accounts_hash": accounts.hash,
            "accounts": len(self.accounts),
            "accounts_with_problems": len(self.columns.problems),
        }


class RecordedBook:
    """The live book by the records of a ledger, at times that rise from one call to the next.

    What was recorded later than the first evaluation after a time does not count for it, so the
    book at a time stays the same while the ledger grows.

    Parameters
    ----------
    ledger:
        Where the records are.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._chain = SharedChain(ledger, CHAIN)
        self._state: EvaluationState | None = None
        self._accounts: dict[str, BookAccount] = {}
        self._applied = ChainHead()

    def at(self, time: int) -> BookAtTime:
        """The book at a time, nanoseconds.

        Raises
        ------
        DataError
            It was not evaluated by then.
        LedgerError
            Records are missing or were altered.
        """
        book = self.find(time)
        if book is None:
            raise DataError(
                f"the ledger has no evaluation of the live book up to {format_time(time)}; choose "
                "a later span, and check that [monitoring] is enabled"
            )
        return book

    def find(self, time: int) -> BookAtTime | None:
        """As `at`; None where there is no evaluation yet."""
        until = cut_at(self._ledger, CHAIN, time, EVALUATION)
        state = self._state
        if state is None:
            state = restore(self._ledger, until)
        elif state.head.seq < until:
            for record in self._chain.after(state.head):
                if record.seq > until:
                    break
                state = state.after(record)
        self._state = state
        # A model pass is recorded after it was prepared: a pass by the rules in between saw more.
        newest = max(
            state.newest.values(),
            key=lambda facts: (facts.market.seq, facts.book.seq, facts.as_of),
            default=None,
        )
        if newest is None:
            return None
        return self.after(self._ledger.get_record(newest.id), state)

    def after(self, record: Record, state: EvaluationState) -> BookAtTime:
        """The book of a pass with levels and states as they were then or later."""
        snapshot = market_of(self._ledger, record)
        sha256 = str(record.payload["contents"]["ruleset_sha256"])
        ruleset = ruleset_from_content(self._ledger.get(sha256))
        self._apply(ChainHead(int(record.payload["book"]["seq"])))
        names = tuple(self._accounts)
        ordered = state.grown(names).ordered(names)
        accounts = tuple(self._accounts.values())
        book = Book.of([account.account for account in accounts])
        columns = evaluate_rules(book, ordered.levels.amount, snapshot.view(), ruleset)
        return BookAtTime(record, snapshot, ruleset, accounts, ordered, columns)

    def _apply(self, until: ChainHead) -> None:
        """Bring the accounts to a record of their chain."""
        if self._applied.seq >= until.seq:
            return
        for record in SharedChain(self._ledger, ACCOUNTS).after(self._applied):
            if record.seq > until.seq:
                break
            for written in record.payload["updates"]:
                update = recorded_update(written)
                before = self._accounts.get(update.account_id)
                after = apply_update(before, update, written["as_of"]).after
                if after is not None:
                    self._accounts[update.account_id] = after
            self._applied = ChainHead.of(record)


def market_of(ledger: Ledger, record: Record) -> MarketSnapshot:
    """The market of a recorded evaluation; raises as `decisions.replay.recorded_snapshot`."""
    sha256 = record.payload["contents"]["market_sha256"]
    return recorded_snapshot(ledger, record, ledger.get(sha256))


def cut_at(ledger: Ledger, chain: str, time: int, kind: str | None = None) -> int:
    """Number of the last record of a chain before the first one later than a time.

    Parameters
    ----------
    ledger, chain:
        Where the records are.
    time:
        By `as_of`, nanoseconds; records without one do not count.
    kind:
        Only records of this kind count as later; None: all.
    """
    mine = records.c.chain == chain
    later = select(func.min(records.c.seq)).where(mine, records.c.as_of > time)
    if kind is not None:
        later = later.where(records.c.kind == kind)
    newest = select(func.max(records.c.seq)).where(mine)
    with database_errors("read"), ledger.engine.connect() as connection:
        first = connection.execute(later).scalar_one()
        if first is not None:
            return int(first) - 1
        return int(connection.execute(newest).scalar_one() or 0)


def is_pass(record: Record, which: Pass) -> bool:
    """Whether a record of the chain ``monitoring`` is a pass by the rules, or by the model."""
    which_key = "pass"
    return record.kind == EVALUATION and record.payload[which_key] == which


def float_cell(value: float) -> float | None:
    """A figure of a report: None where it is not finite."""
    number = float(value)
    return number if np.isfinite(number) else None


def total(values: Floats) -> float:
    """The sum of what is known."""
    return float(np.nansum(values))
