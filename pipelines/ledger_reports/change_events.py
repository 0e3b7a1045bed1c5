"""Change events: a new model or new rules, and how the requirement of the book moved with them.

Both sides are valued at the same market and the same accounts, those of the first evaluation of all
accounts after the change: before with the rules and the recorded levels of before, after with the
new rules and the levels recorded then. The move of the market is in neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ledger.canonical import canonical_bytes
from ledger.following import SharedChain
from ledger.records import Record
from ledger.store import Ledger
from margin.rules.ruleset import ruleset_from_content
from market.core.arrays import Floats
from market.core.clock import format_time
from market.core.errors import DataError
from monitoring.evaluation.passes.rules_pass import evaluate_rules
from monitoring.evaluation.record.evaluation_state import (
    CHAIN,
    EVALUATION,
    EvaluationState,
    restore,
)
from pipelines.ledger_reports.book_at_time import BookAtTime, RecordedBook, cut_at, is_pass, total
from pipelines.ledger_reports.formats.document import Cell, Report, Table
from pipelines.ledger_reports.request import ReportRequest

ANNOUNCEMENTS = ("promotion", "rollback", "rule_adoption", "retrain")
"""Kinds of records that announce a change."""

MOST_ACCOUNTS = 20
"""Accounts that moved most, of each change."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A change on its way: what was in force before, and the first record after it."""

    before: EvaluationState
    old: tuple[str | None, str | None]
    new: tuple[str | None, str | None]
    first: Record


@dataclass(frozen=True, slots=True)
class _Measured:
    """A change and the book on both sides: total requirement and add-on by account."""

    change: _Change
    book: BookAtTime
    requirement: Floats
    add_on: Floats


def change_events(ledger: Ledger, request: ReportRequest) -> Report:
    """The changes that the evaluations of a span show.

    Raises
    ------
    DataError
        The book was not evaluated by the end of the span.
    """
    span = request.span
    found = list(_measured(ledger, span.start, span.end))
    book = RecordedBook(ledger).at(span.end)
    announced = _announcements(ledger) if found else []
    accounts = [row for each in found for row in _accounts(each)]
    return Report(
        "change-events",
        f"Change events, {format_time(span.start)} to {format_time(span.end)}",
        {**span.facts(), **book.facts()},
        (
            Table(
                "changes",
                "Changes",
                (
                    *("time", "changed", "ruleset_before", "ruleset_after", "model_before"),
                    *("model_after", "requirement_before", "requirement_after", "change"),
                    *("relative_change", "add_on_before", "add_on_after", "accounts_up"),
                    *("accounts_down", "largest_increase", "evaluation_id", "announced_by"),
                ),
                [_row(each, announced) for each in found],
                "ruleset and model: SHA-256; a model that is absent is a dash. announced_by: the "
                "newest promotion, rollback, adoption or retraining recorded before that names it.",
            ),
            Table(
                "accounts",
                f"The {MOST_ACCOUNTS} accounts of each change that moved most",
                ("time", "account_id", "requirement_before", "requirement_after", "change"),
                accounts,
            ),
        ),
        "changes",
    )


def _measured(ledger: Ledger, start: int, end: int) -> Iterator[_Measured]:
    recorded = RecordedBook(ledger)
    last = cut_at(ledger, CHAIN, end, EVALUATION)
    state = restore(ledger, cut_at(ledger, CHAIN, start, EVALUATION))
    pending: _Change | None = None
    for record in SharedChain(ledger, CHAIN).after(state.head):
        if record.seq > last:
            break
        after = state.after(record)
        old, new = in_force(state), in_force(after)
        if (
            record.kind == EVALUATION
            and state.newest
            and None not in (old[0], new[0])
            and (old[0] != new[0] or (old[1] != new[1] and "model" in state.newest))
        ):
            if pending is None:
                pending = _Change(state, old, new, record)
            else:
                pending = _Change(pending.before, pending.old, new, pending.first)
        settled = is_pass(record, "model")
        if pending is not None and settled and record.payload["whole"]:
            yield _compare(ledger, recorded, pending, after)
            pending = None
        state = after
    if pending is not None:
        yield _compare(ledger, recorded, pending, state)


def in_force(state: EvaluationState) -> tuple[str | None, str | None]:
    """SHA-256 of rules and model by the newest passes; None where there is none."""
    rules, model = state.newest.get("rules"), state.newest.get("model")
    return None if rules is None else rules.ruleset, None if model is None else model.model


def _compare(
    ledger: Ledger, recorded: RecordedBook, change: _Change, state: EvaluationState
) -> _Measured:
    book = recorded.after(ledger.get_record(state.newest["rules"].id), state)
    if change.old[0] is None:
        raise DataError(f"evaluation {change.first.id} follows none with rules; verify the ledger")
    rules = ruleset_from_content(ledger.get(change.old[0]))
    names = book.state.names
    levels = change.before.grown(names).ordered(names).levels.amount
    columns = evaluate_rules(book.book, levels, book.snapshot.view(), rules)
    return _Measured(change, book, columns.maintenance_margin + columns.add_on, columns.add_on)


def _row(found: _Measured, announced: list[tuple[int, str, str]]) -> list[Cell]:
    change, book = found.change, found.book
    moved = book.total_requirement - found.requirement
    before, after = total(found.requirement), total(book.total_requirement)
    what = [
        name
        for name, old, new in zip(("rules", "model"), change.old, change.new, strict=True)
        if old != new
    ]
    new = [sha for old, sha in zip(change.old, change.new, strict=True) if sha and sha != old]
    known = change.first.recorded_at
    by = next(
        (name for at, name, text in announced if at <= known and any(sha in text for sha in new)),
        None,
    )
    return [
        format_time(change.first.as_of or 0),
        " and ".join(what),
        change.old[0],
        change.new[0],
        change.old[1],
        change.new[1],
        before,
        after,
        after - before,
        (after - before) / before if before > 0.0 else None,
        total(found.add_on),
        total(book.columns.add_on),
        int((moved > 0.0).sum()),
        int((moved < 0.0).sum()),
        float(np.nanmax(moved)) if np.isfinite(moved).any() else None,
        change.first.id,
        by,
    ]


def _accounts(found: _Measured) -> Iterator[list[Cell]]:
    book = found.book
    moved = np.nan_to_num(book.total_requirement - found.requirement)
    for i in np.argsort(-np.abs(moved), kind="stable")[:MOST_ACCOUNTS].tolist():
        if moved[i] != 0.0:
            yield [
                format_time(found.change.first.as_of or 0),
                book.accounts[i].account.account_id,
                float(found.requirement[i]),
                float(book.total_requirement[i]),
                float(moved[i]),
            ]


def _announcements(ledger: Ledger) -> list[tuple[int, str, str]]:
    """Time of recording, id and text of every announcement, the newest first."""
    found = [record for kind in ANNOUNCEMENTS for record in ledger.records(kind)]
    found.sort(key=lambda record: record.recorded_at, reverse=True)
    return [(r.recorded_at, r.id, canonical_bytes(r.payload).decode()) for r in found]
