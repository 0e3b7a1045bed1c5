"""Score calls that arrived together: answered from the record, validated, decided on, recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from decisions.account_validation import ValidatedAccounts, validate_accounts
from decisions.decision_group import CallBasis, DecisionMaker, PendingCall
from decisions.errors import RequestError
from decisions.messages import ScoreRequest
from ledger.idempotency import Answers, IdempotentAnswer, RequestKey
from market.core.errors import LedgerError, MargincastError

MOST_IDS = 8
"""Decisions that a response names for the log."""

_MAX_KEY = 200
_NO_ACCOUNTS = ValidatedAccounts((), {}, {}, {}, [])


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """One call to decide on accounts.

    Attributes
    ----------
    request:
        The accounts; one that is named twice is decided on neither time.
    owner:
        Whose call it is.
    key:
        Its Idempotency-Key, if any.
    body_sha256:
        SHA-256 of its body.
    """

    request: ScoreRequest
    owner: str
    key: str | None
    body_sha256: str


@dataclass(frozen=True, slots=True)
class EncodedResponse:
    """An encoded response, and whether it repeats a stored one; of a new one the first decisions
    (`MOST_IDS`) and the number of all. One that repeats a refusal has its status, and its problem
    as the body."""

    body: bytes
    replayed: bool = False
    decision_ids: tuple[str, ...] = ()
    decisions: int = 0
    status: int = 200

    @classmethod
    def repeating(cls, answer: IdempotentAnswer) -> EncodedResponse:
        """The response that repeats an answer."""
        return cls(answer.response, replayed=True, status=answer.status)


class ScoreBatch:
    """Calls in arrival order, each with its response or its error in the end.

    The steps are to be taken in the order of the methods; a call that has its result takes no
    part in later ones.
    """

    def __init__(self, calls: Sequence[ScoreCall]) -> None:
        self._calls = calls
        self._results: list[EncodedResponse | MargincastError | None] = [None] * len(calls)
        self._keys: dict[int, RequestKey] = {}
        self._pending: dict[int, PendingCall] = {}

    @property
    def open(self) -> list[int]:
        """Places of the calls that have no result yet."""
        return [place for place, result in enumerate(self._results) if result is None]

    def answer_repeated(self, answers: Answers) -> None:
        """Answer the calls whose request is already answered, and refuse impossible keys."""
        keys = self._keys
        for place, call in enumerate(self._calls):
            if call.key is None:
                continue
            try:
                check_key(call.key)
            except RequestError as error:
                self._results[place] = error
            else:
                keys[place] = RequestKey(call.owner, call.key)
        if not keys:
            return
        try:
            stored = answers.lookup(set(keys.values()))
        except LedgerError as error:
            self.fail(error)
            return
        for place, key in keys.items():
            if key in stored:
                answer = stored[key]
                conflict = key.conflict(answer.body_sha256, self._calls[place].body_sha256)
                self._results[place] = conflict or EncodedResponse.repeating(answer)

    def fail(self, error: MargincastError) -> None:
        """Give every call without a result this error."""
        for place in self.open:
            self._results[place] = error

    def validate(self, basis_of: Callable[[str | None], CallBasis], max_history_bytes: int) -> None:
        """Find market and rules of each call and validate its accounts.

        Parameters
        ----------
        basis_of:
            Gives them for the decision time of a request; asked once for each.
        max_history_bytes:
            Longest history of an account.
        """
        known: dict[str | None, CallBasis | MargincastError] = {}
        for place in self.open:
            call = self._calls[place]
            as_of = call.request.as_of
            if as_of not in known:
                try:
                    known[as_of] = basis_of(as_of)
                except MargincastError as error:
                    known[as_of] = error
            basis = known[as_of]
            key = self._keys.get(place)
            if not isinstance(basis, MargincastError):
                validated = validate_accounts(
                    call.request.accounts, basis.snapshot.as_of, max_history_bytes
                )
            elif key is None:
                self._results[place] = basis
                continue
            else:  # what answers its key is said in the order of the calls
                validated = _NO_ACCOUNTS
            explain = call.request.explain
            self._pending[place] = PendingCall(
                validated, basis, explain, call.owner, key, call.body_sha256
            )

    def decide_and_record(self, maker: DecisionMaker) -> list[PendingCall]:
        """Decide on the remaining calls and record; gives the calls with recorded decisions."""
        pending = list(self._pending.values())
        if pending:
            maker.decide_and_record(pending)
        for place, call in self._pending.items():
            if call.error is not None:
                self._results[place] = call.error
            elif call.replayed is not None:
                self._results[place] = EncodedResponse.repeating(call.replayed)
            else:
                ids = tuple(str(decision.decision_id) for decision in call.decisions[:MOST_IDS])
                count = len(call.decisions)
                self._results[place] = EncodedResponse(call.response(), False, ids, count)
        return [call for call in pending if call.decisions]

    def results(self) -> list[EncodedResponse | MargincastError]:
        """The response of each call, or why it has none."""
        return [result for result in self._results if result is not None]


def check_key(key: str) -> None:
    """Refuse an impossible Idempotency-Key; raises `RequestError`."""
    if not 1 <= len(key) <= _MAX_KEY or not (key.isascii() and key.isprintable()):
        raise RequestError(f"Idempotency-Key must be 1 to {_MAX_KEY} printable ASCII characters")
