"""Replay a recorded evaluation: make its pass again from its inputs, and compare the columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from decisions.book_scoring import PreviousAddOn
from decisions.errors import NotReplayableError
from decisions.records import fingerprint
from decisions.replay import CHANGES, Change, recorded_machine, recorded_snapshot
from features.state.snapshot import MarketSnapshot
from ledger.following import ChainHead
from ledger.records import Record
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.accounts.book import Book
from market.core.arrays import Bools
from market.core.errors import DataError, LedgerError
from models.forecaster import Forecaster
from monitoring.evaluation.passes.book_cut import positions_of
from monitoring.evaluation.passes.levels import UNKNOWN, LevelColumns
from monitoring.evaluation.passes.model_pass import ModelPassInput, score_levels
from monitoring.evaluation.passes.rules_pass import RuleColumns, evaluate_rules
from monitoring.evaluation.passes.state_inputs import StateInputs, advance_states
from monitoring.evaluation.record.book_totals import (
    recorded_totals,
    totals_of,
    totals_that_differ,
)
from monitoring.evaluation.record.column_codec import decode_columns, decode_names
from monitoring.evaluation.record.evaluation_state import EVALUATION, EvaluationState, restore
from monitoring.evaluation.record.recorded_accounts import RecordedAccounts, read_accounts
from monitoring.evaluation.record.recorded_levels import levels_of

Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class EvaluationReplay:
    """Outcome of a replay.

    Attributes
    ----------
    which, trigger:
        The pass and why it was made.
    verdict:
        ``equal`` where every column has the same bits; ``superseded`` where it has not, and the
        calculation was changed on purpose since; else ``different``.
    superseded_by:
        These changes.
    compared:
        How many accounts were compared.
    differences:
        Names of the columns that differ, by account.
    totals:
        Names of recorded totals of the book that differ; empty where none are recorded, and where
        one account was asked for.
    same_machine:
        Whether libraries and processor are those of the record.
    account:
        Recorded and replayed columns of the one account that was asked for; None: of all.
    """

    which: str
    trigger: str
    verdict: Literal["equal", "superseded", "different"]
    superseded_by: tuple[Change, ...]
    compared: int
    differences: dict[str, list[str]]
    totals: list[str]
    same_machine: bool
    account: dict[str, dict[str, Any]] | None


def replay_evaluation(
    ledger: Ledger,
    record_id: str,
    load_model: Callable[[str], Forecaster],
    account: str | None = None,
) -> EvaluationReplay:
    """Make a recorded pass again and compare what it recorded.

    Parameters
    ----------
    ledger:
        Where the record is, with the chains of the accounts and of the evaluations before it.
    record_id:
        Its id.
    load_model:
        Gives the model of a bundle's SHA-256.
    account:
        Only this account. Where the record does not hold it, the pass must leave its levels and
        state as they were before.

    Raises
    ------
    LedgerError
        There is no such evaluation, or what it rests on is missing or was altered.
    NotReplayableError
        The account was not in the book, or the market lacks a column that the model needs.
    """
    record = ledger.get_record(record_id)
    if record.kind != EVALUATION:
        raise LedgerError(f"record {record_id!r} is a {record.kind}, not an evaluation")
    payload = record.payload
    block = decode_columns(payload["columns"])
    held = decode_names(block.pop("names"))
    recorded: Columns = block
    names = held if account is None else [account]
    before = restore(ledger, int(payload["after"])).grown(names).ordered(names)
    accounts = _accounts(ledger, record, before)
    missing = [name for name in names if name not in accounts.accounts]
    if missing:
        raise NotReplayableError(
            f"account {missing[0]!r} was not in the live book of evaluation {record_id}; give one "
            "that was"
        )
    inside = account is None or account in held
    if account is not None:
        at = held.index(account) if inside else 0
        recorded = {name: column[at : at + 1] for name, column in recorded.items()}
    if not inside:
        recorded = _unchanged(payload["pass"], before)
    inputs = _inputs(payload, len(held), account, held)
    replayed, rules = _replayed(ledger, record, before, accounts, load_model, inputs)
    differs = {name: _differs(recorded[name], replayed[name]) for name in recorded}
    differences = {
        names[i]: [name for name, column in differs.items() if column[i]]
        for i in np.flatnonzero(np.logical_or.reduce(list(differs.values()))).tolist()
    }
    totals = _totals_that_differ(ledger, record, rules) if account is None else []
    since = int(payload["calculation"])
    differs_at_all = bool(differences or totals)
    changes = tuple(c for c in CHANGES if c.revision > since) if differs_at_all else ()
    return EvaluationReplay(
        payload["pass"],
        payload["trigger"],
        "superseded" if changes else "different" if differs_at_all else "equal",
        changes,
        len(names),
        differences,
        totals,
        recorded_machine(payload["fingerprint"]) == fingerprint(),
        None if account is None else {"recorded": _plain(recorded), "replayed": _plain(replayed)},
    )


def _accounts(ledger: Ledger, record: Record, before: EvaluationState) -> RecordedAccounts:
    """The accounts of a replay as the pass had them, and as their levels were set on."""
    place = record.payload["book"]
    levels = before.levels
    wanted = {
        name: int(sequence)
        for name, sequence in zip(before.names, levels.sequence.tolist(), strict=True)
        if sequence != UNKNOWN
    }
    until = ChainHead(int(place["seq"]), str(place["hash"]))
    return read_accounts(ledger, until, set(before.names), wanted)


def _replayed(
    ledger: Ledger,
    record: Record,
    before: EvaluationState,
    accounts: RecordedAccounts,
    load_model: Callable[[str], Forecaster],
    inputs: StateInputs | None,
) -> tuple[Columns, RuleColumns | None]:
    """What the pass records, and of a rule pass also what the rules say."""
    payload = record.payload
    named = payload["contents"]
    ruleset = ruleset_from_content(ledger.get(named["ruleset_sha256"]))
    model = load_model(payload["model"]) if payload["model"] else None
    try:
        snapshot = recorded_snapshot(ledger, record, ledger.get(named["market_sha256"]))
        if model is not None:
            snapshot.check_columns(model.bundle.schema.features)
    except DataError as error:
        raise NotReplayableError(f"evaluation {record.id} cannot be made again: {error}") from error
    book = Book.of([accounts.accounts[name].account for name in before.names])
    which = payload["pass"]
    if which == "rules":
        rules = evaluate_rules(book, before.levels.amount, snapshot.view(), ruleset)
        return _states_again(rules, before, snapshot, ruleset, inputs), rules
    sequence = np.array([accounts.accounts[name].sequence for name in before.names], dtype=np.int64)
    moved = _moved(before, sequence, accounts)
    chosen = {n: r for n, r in payload["continued"].items() if n in before.index}
    moved |= levels_of(ledger, chosen)
    again = ModelPassInput(book, sequence, before.levels, moved)
    return score_levels(again, snapshot, ruleset, model).columns(), None


def _inputs(
    payload: Mapping[str, Any], count: int, account: str | None, held: Sequence[str]
) -> StateInputs | None:
    """Enforcement's part in a rule pass, of all recorded accounts or of one account."""
    content = payload.get("enforcement")
    if content is None:
        return None
    if account is None or account in held:
        inputs = StateInputs.of_content(content, count)
        return inputs if account is None else inputs.take(np.array([held.index(account)]))
    return StateInputs.of_others(content, 1)


def _totals_that_differ(ledger: Ledger, record: Record, rules: RuleColumns | None) -> list[str]:
    recorded = recorded_totals(ledger, record)
    if recorded is None or rules is None:
        return []
    return totals_that_differ(recorded, totals_of(rules))


def _states_again(
    columns: RuleColumns,
    before: EvaluationState,
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    inputs: StateInputs | None,
) -> Columns:
    after, _ = advance_states(before.states, columns, before.names, snapshot.as_of, ruleset, inputs)
    return {"changed": after.state != before.states.state, **after.columns()}


def _moved(
    before: EvaluationState, sequence: npt.NDArray[np.int64], accounts: RecordedAccounts
) -> dict[str, PreviousAddOn]:
    """Levels of the accounts that were updated since, with the positions they were set on."""
    levels: LevelColumns = before.levels
    moved: dict[str, PreviousAddOn] = {}
    late = (levels.sequence != UNKNOWN) & (levels.sequence != sequence)
    for i in np.flatnonzero(late).tolist():
        name = before.names[i]
        earlier = accounts.earlier.get(name)
        if earlier is None:
            raise NotReplayableError(
                f"update {int(levels.sequence[i])} of account {name!r}, on which its level was "
                "set, is not in the ledger"
            )
        moved[name] = PreviousAddOn(
            float(levels.amount[i]),
            int(levels.as_of[i]),
            float(levels.initial_margin[i]),
            positions_of(earlier),
            bool(levels.carried[i]),
        )
    return moved


def _unchanged(which: str, before: EvaluationState) -> Columns:
    """What a record would hold of accounts that its pass left as they were."""
    if which == "model":
        raise NotReplayableError("the account is not in this model pass; ask for a later one")
    states = before.states
    return {"changed": np.zeros(len(states), dtype=np.bool_), **states.columns()}


def _differs(recorded: npt.NDArray[Any], replayed: npt.NDArray[Any]) -> Bools:
    """Accounts whose entries are not the same, bit for bit but for the sign and kind of NaN."""
    if recorded.shape != replayed.shape:
        return np.ones(len(recorded), dtype=np.bool_)
    same = recorded == replayed
    if recorded.dtype.kind == "f":
        same |= np.isnan(recorded) & np.isnan(replayed)
    differs: Bools = ~same.all(axis=tuple(range(1, same.ndim)))
    return differs


def _plain(columns: Columns) -> dict[str, Any]:
    """The columns of one account for a report; NaN is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and value != value else value

    return {name: plain(column[0].tolist()) for name, column in columns.items()}


def plain_replay(replay: EvaluationReplay, most: int = 20) -> dict[str, Any]:
    """A replay for a report, with the first accounts that differ."""
    shown: Sequence[str] = list(replay.differences)[:most]
    return {
        "pass": replay.which,
        "trigger": replay.trigger,
        "verdict": replay.verdict,
        "superseded_by": [{"adr": c.adr, "title": c.title} for c in replay.superseded_by],
        "equal": not (replay.differences or replay.totals),
        "equal_within": not (replay.differences or replay.totals),
        "same_machine": replay.same_machine,
        "accounts": replay.compared,
        "different_accounts": len(replay.differences),
        "differences": {name: replay.differences[name] for name in shown},
        "different_totals": replay.totals,
        **({} if replay.account is None else {"account": replay.account}),
    }
