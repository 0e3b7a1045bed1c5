"""Calls that are decided on in their order and recorded in one transaction.

Consecutive calls on one market under one version of the rules, no account among them twice, form a
round and are one `decide`. A later round continues from the levels of the rounds before it, which
are not committed yet. Every result is the one that the calls would get one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from decisions.account_validation import ValidatedAccounts
from decisions.book_scoring import PreviousAddOn
from decisions.decision import Outcome
from decisions.errors import (
    CallFailedError,
    NoAccountScoredError,
    NoRulesThenError,
    RequestError,
)
from decisions.levels_in_force import (
    ALTERED_RECORD,
    LevelInForce,
    LevelsInForce,
    altered_problem,
    level_after_payload,
    level_by,
)
from decisions.messages import AccountProblem, Decision, ScoreResponse
from decisions.records import entries
from features.state.snapshot import MarketSnapshot
from ledger.contents import CanonicalContent
from ledger.decisions import Draft, Meanwhile
from ledger.idempotency import IdempotentAnswer, RequestKey
from ledger.records import EncodedEntry, Entry
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account
from market.core.errors import AlteredError, LedgerError, MargincastError, UnrecordableError

_LOG = logging.getLogger("margincast.decisions")
_OK = 200
_UNRECORDABLE = "unrecordable"
_FAULTS = frozenset({ALTERED_RECORD, _UNRECORDABLE})
"""Types of account problems that are not of the request."""

Decide = Callable[
    [Sequence[Account], MarketSnapshot, RuleSet, Mapping[str, PreviousAddOn], Collection[str]],
    Outcome,
]
"""Decides on accounts on a market by rules with these add-ons in force, and explains some."""

Append = Callable[[Draft, Callable[[Meanwhile], Draft]], Draft]
"""`Ledger.append_decisions`."""

EncodeRefusal = Callable[[MargincastError], tuple[int, bytes]]
"""Status and body of the answer to an error."""


@dataclass(frozen=True, slots=True)
class CallBasis:
    """Market and rules of a call; calls share a round only where they share this object."""

    snapshot: MarketSnapshot
    ruleset: RuleSet


@dataclass(frozen=True, slots=True)
class _Decided:
    """The result for an account from the level `previous`, and the level after it."""

    previous: PreviousAddOn | None
    result: Decision | AccountProblem
    encoded: EncodedEntry | None
    level: PreviousAddOn | None


@dataclass(slots=True, eq=False)
class PendingCall:
    """A call on its way to being decided on and recorded.

    Attributes
    ----------
    validated:
        Its accounts.
    basis:
        Market and rules, or why there are none.
    explain:
        Whether its decisions are explained.
    requester:
        Who makes it, as its records name them.
    key, body_sha256:
        What names it where it may be repeated, and the SHA-256 of its body.
    decisions, problems:
        Its results; decisions have their ids.
    replayed:
        The answer to the same request before it.
    error:
        Why it has no decisions of its own.
    """

    validated: ValidatedAccounts
    basis: CallBasis | MargincastError
    explain: bool = False
    requester: str = "local"
    key: RequestKey | None = None
    body_sha256: str = ""
    decisions: list[Decision] = field(default_factory=list)
    problems: list[AccountProblem] = field(default_factory=list)
    replayed: IdempotentAnswer | None = None
    error: MargincastError | None = None
    _body: bytes | None = None
    _refusal: tuple[int, bytes] | None = None
    _decided: dict[str, _Decided] = field(default_factory=dict)
    _contents: dict[str, tuple[str, CanonicalContent]] = field(default_factory=dict)

    @property
    def previous(self) -> dict[str, PreviousAddOn]:
        """The add-on in force that each decision continues from, where there is one."""
        levels = {d.account_id: self._decided[d.account_id].previous for d in self.decisions}
        return {name: level for name, level in levels.items() if level is not None}

    def response(self) -> bytes:
        """The response in JSON."""
        if self._body is None:
            errors = self.validated.all_problems(self.problems)
            self._body = msgspec.json.encode(ScoreResponse(self.decisions, errors))
        return self._body

    def _reset(self) -> None:
        self.decisions, self.problems = [], []
        self.replayed = self.error = self._body = self._refusal = None

    def _fail(self, error: MargincastError) -> None:
        self._reset()
        self.error = error

    def _refuse(self, error: MargincastError, encode: EncodeRefusal | None) -> None:
        """Fail with an error, which is kept under the key if it is an outcome of the request."""
        self._fail(error)
        if self.key is not None and encode is not None and is_kept(error):
            self._refusal = encode(error)

    def _answer(self) -> IdempotentAnswer | None:
        """The answer to keep under its key; None without a key, and for a failure."""
        if self.key is None or (self.error is not None and self._refusal is None):
            return None
        status, body = self._refusal or (_OK, self.response())
        return IdempotentAnswer(*self.key, self.body_sha256, status, body)

    def _repeat(self, answer: IdempotentAnswer) -> None:
        """Take the answer to an earlier request of the same key."""
        self.error = answer.request.conflict(answer.body_sha256, self.body_sha256)
        self.replayed = None if self.error is not None else answer


def is_kept(error: MargincastError) -> bool:
    """Whether an error is the outcome of its request and is kept under the key of the request.

    It is where the request was decided on and no account could be, or its time is impossible. What
    may be otherwise soon is not: no market yet, no rules, a ledger or a record that failed.
    """
    if isinstance(error, NoAccountScoredError):
        return _FAULTS.isdisjoint(problem.type for problem in error.problems)
    return isinstance(error, RequestError) and not isinstance(error, NoRulesThenError)


@dataclass(frozen=True, slots=True)
class DecisionMaker:
    """What decides and what records.

    Attributes
    ----------
    levels:
        Add-ons in force by the ledger.
    decide:
        Decides on the accounts of several calls; an error means none of them.
    decide_alone:
        Decides on the accounts of one call, whatever becomes of others.
    append:
        Records.
    encode_refusal:
        Gives what is kept under the key of a call that is refused, see `is_kept`; None: nothing.
    """

    levels: LevelsInForce
    decide: Decide
    decide_alone: Decide
    append: Append
    encode_refusal: EncodeRefusal | None = None

    def decide_and_record(self, calls: Sequence[PendingCall]) -> None:
        """Decide on calls in their order and record all decisions in one transaction.

        Each call has its results, or its error, afterwards. Where what one call holds or needs
        prevents the common transaction, each is recorded in its own.
        """
        try:
            names = {name for call in calls for name in call.validated.unstated}
            group = _Group(calls, self.levels.expected(names), self)
            draft = group.draft()
            if draft.rounds or draft.answers:
                self.append(draft, group.renew)
        except (AlteredError, UnrecordableError) as error:
            if len(calls) == 1:
                _fail_all(calls, error)
                return
            _LOG.warning("%d calls are recorded one by one: %s", len(calls), error)
            for call in calls:
                self.decide_and_record([call])
        except LedgerError as error:
            _fail_all(calls, error)
        else:
            self.levels.keep(group.after)


def _fail_all(calls: Iterable[PendingCall], error: LedgerError) -> None:
    for call in calls:
        if call.error is None or call._refusal is not None:  # none of it is on record
            call._fail(error)


class _Group:
    """One pass over calls; repeated if other writers recorded meanwhile.

    What was decided stays where the level in force that it continued from stayed.
    """

    def __init__(
        self,
        calls: Sequence[PendingCall],
        levels: Mapping[str, LevelInForce],
        maker: DecisionMaker,
    ) -> None:
        self._calls = calls
        self._levels = dict(levels)
        self._maker = maker
        self._start()

    def _start(self) -> None:
        self.after: dict[str, LevelInForce] = {}
        self._based_on: dict[str, str | None] = {}
        self._rounds: list[list[EncodedEntry]] = []
        self._answers: list[IdempotentAnswer] = []
        self._contents: dict[str, tuple[str, CanonicalContent]] = {}
        self._round: list[PendingCall] = []
        self._names: set[str] = set()

    def renew(self, meanwhile: Meanwhile) -> Draft:
        """The draft to record after the records of other writers."""
        if meanwhile.newest or meanwhile.gone:
            self._maker.levels.notice_other_writer()
        self._levels |= dict.fromkeys(meanwhile.gone, LevelInForce(None, None))
        self._levels |= {name: level_by(record) for name, record in meanwhile.newest.items()}
        self._start()
        return self.draft(meanwhile.answered)

    def draft(self, answered: Mapping[RequestKey, IdempotentAnswer] | None = None) -> Draft:
        """Decide on all calls but those that are answered, and say what to record."""
        known = dict(answered or {})
        first: dict[RequestKey, PendingCall] = {}
        for call in self._calls:
            call._reset()
            if call.key is not None:
                self._wait_for(first.get(call.key), known)
                if call.key in known:
                    call._repeat(known[call.key])
                    continue
                first[call.key] = call
            if isinstance(call.basis, MargincastError):
                call._refuse(call.basis, self._maker.encode_refusal)
                self._keep_answer(call)
                continue
            if self._round and (
                call.basis is not self._round[0].basis
                or not self._names.isdisjoint(call.validated.accounts)
            ):
                self._close_round()
            self._round.append(call)
            self._names.update(call.validated.accounts)
        self._close_round()
        contents = list(self._contents.values())
        keys = {call.key for call in self._calls if call.key is not None}
        return Draft(self._rounds, contents, self._answers, self._based_on, keys)

    def _wait_for(
        self, earlier: PendingCall | None, known: dict[RequestKey, IdempotentAnswer]
    ) -> None:
        """Decide on an earlier call of the same key; its kept answer answers later ones."""
        if earlier is None:
            return
        if earlier in self._round:
            self._close_round()
        answer = earlier._answer()
        if answer is not None:
            known[answer.request] = answer

    def _close_round(self) -> None:
        calls, self._round, self._names = self._round, [], set()
        if not calls:
            return
        self._decide_on(calls)
        recorded: list[EncodedEntry] = []
        for call in calls:
            if call.error is not None:
                continue
            for name in call.validated.accounts:
                decided = call._decided[name]
                if isinstance(decided.result, AccountProblem):
                    call.problems.append(decided.result)
                elif decided.encoded is not None:
                    call.decisions.append(decided.result)
                    recorded.append(decided.encoded)
                    self.after[name] = LevelInForce(decided.encoded.id, decided.level)
            if not call.decisions:
                problems = call.validated.all_problems(call.problems)
                call._refuse(NoAccountScoredError(problems), self._maker.encode_refusal)
            self._contents |= call._contents if call.decisions else {}
            self._keep_answer(call)
        if recorded:
            self._rounds.append(recorded)

    def _keep_answer(self, call: PendingCall) -> None:
        answer = call._answer()
        if answer is not None:
            self._answers.append(answer)

    def _decide_on(self, calls: Sequence[PendingCall]) -> None:
        """Decide on the calls of a round; a failure of one call does not affect the others."""
        if len(calls) > 1:
            try:
                self._decide(calls, self._maker.decide)
                return
            except Exception as error:  # noqa: BLE001  each call says below what is wrong with it
                _LOG.warning("%d calls are decided one by one: %s", len(calls), error)
        for call in calls:
            try:
                self._decide([call], self._maker.decide_alone)
            except MargincastError as error:
                call._fail(error)
            except Exception as error:  # noqa: BLE001  the other calls continue
                failure = CallFailedError(f"the call failed unexpectedly: {error!r}; see the log")
                failure.__cause__ = error
                call._fail(failure)

    def _decide(self, calls: Sequence[PendingCall], decide: Decide) -> None:
        basis = calls[0].basis
        if isinstance(basis, MargincastError):
            raise basis
        snapshot, ruleset = basis.snapshot, basis.ruleset
        accounts: list[Account] = []
        chosen: dict[str, PendingCall] = {}
        levels: dict[str, PreviousAddOn | None] = {}
        for call in calls:
            for name, account in call.validated.accounts.items():
                problem = self._altered(call.validated, name)
                if problem is not None:
                    call._decided[name] = _Decided(None, problem, None, None)
                    continue
                level = self._level(call.validated, name)
                decided = call._decided.get(name)
                if decided is None or _is_altered(decided.result) or decided.previous is not level:
                    accounts.append(account)
                    chosen[name], levels[name] = call, level
        if not accounts:
            return
        previous = {name: level for name, level in levels.items() if level is not None}
        explained = [name for name, call in chosen.items() if call.explain]
        outcome = decide(accounts, snapshot, ruleset, previous, explained)
        messages = {name: call.validated.requests[name] for name, call in chosen.items()}
        drafted, contents, decisions = entries(
            outcome.decisions,
            messages,
            previous,
            snapshot,
            ruleset,
            {name: call.requester for name, call in chosen.items()},
        )
        results: dict[str, _Decided] = {
            problem.account_id: _Decided(levels[problem.account_id], problem, None, None)
            for problem in outcome.problems
        }
        for entry, decision in zip(drafted, decisions, strict=True):
            name = decision.account_id
            results[name] = _encoded(entry, decision, levels[name])
        shared = {content.sha256: (kind, content) for kind, content in contents}
        for name, call in chosen.items():
            call._decided[name] = results[name]
            call._contents = shared

    def _altered(self, accounts: ValidatedAccounts, name: str) -> AccountProblem | None:
        """Why an account cannot be decided on after its newest record; None where it can."""
        if name in accounts.stated or name in self.after:
            return None
        return altered_problem(name, self._levels[name])

    def _level(self, accounts: ValidatedAccounts, name: str) -> PreviousAddOn | None:
        """The add-on in force of an account now."""
        if name in accounts.stated:
            return accounts.stated[name]
        if name in self.after:
            return self.after[name].level
        found = self._levels[name]
        self._based_on[name] = found.record
        return found.level


def _is_altered(result: Decision | AccountProblem) -> bool:
    return isinstance(result, AccountProblem) and result.type == ALTERED_RECORD


def _encoded(entry: Entry, decision: Decision, previous: PreviousAddOn | None) -> _Decided:
    """A decision ready to be recorded; a problem of its account where it cannot be."""
    try:
        # Its parts come from msgspec with text keys.
        encoded = EncodedEntry.of(entry, text_keys=True)
    except UnrecordableError as error:
        name = decision.account_id
        detail = f"account {name!r}: the decision {error}"
        return _Decided(previous, AccountProblem(name, _UNRECORDABLE, detail), None, None)
    level = level_after_payload(entry.payload, entry.as_of)
    return _Decided(previous, decision, encoded, level)
