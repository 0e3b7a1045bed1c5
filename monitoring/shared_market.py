"""The live market of one process among several: one chain of market records, followed by all.

What is posted is applied to the state of this process and appended to the chain `market` only if
the chain still ends where that state does; else the newer records are applied first and the post
is decided on again. Every process, the one that appended included, moves by the records, in the
order of the chain and with the code that a restart uses: equal records make equal states, to the
last bit (docs/adr/0044-replicas-follow-one-market-chain.md).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from ledger.following import AlreadyAnsweredError, ChainHead, ChainMovedError
from ledger.idempotency import IdempotentAnswer, RequestKey
from ledger.records import Entry, Record
from ledger.store import Ledger
from market.core.errors import AlteredError, LedgerError, MargincastError
from market.sources.base import BarUpdate, QuoteUpdate
from monitoring.ledger_writer import LedgerWriter
from monitoring.market_state.bar_updates import Correction
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarsResponse
from monitoring.quotes.messages import QuotesResponse
from monitoring.recovery.recovery import QUOTE_BOARD, market_chain

MOST_ATTEMPTS = 50
"""Most attempts to append a post; each one fails if another process appended first."""

_LOG = logging.getLogger("margincast.serving")

_OK = 200
_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class PostOrigin:
    """The sender of a post, and its idempotency key if it has one.

    Attributes
    ----------
    owner:
        Whose; goes into the records of the post.
    key:
        Its Idempotency-Key, if any.
    body_sha256:
        SHA-256 of its body.
    encode:
        Gives the answer to its sender, which is kept under the key.
    """

    owner: str
    key: str | None = None
    body_sha256: str = ""
    encode: Callable[[Any], bytes] = msgspec.json.encode

    @property
    def request(self) -> RequestKey | None:
        """What names the request."""
        return None if self.key is None else RequestKey(self.owner, self.key)


class _Attempt:
    """One attempt to record a post and the answer to it."""

    def __init__(self, origin: PostOrigin | None) -> None:
        self._origin = origin
        self._answer: tuple[int, bytes] | None = None
        self.recorded = False

    def take(self, response: BarsResponse | QuotesResponse) -> None:
        """The post is decided on."""
        if self._origin is not None and self._origin.key is not None:
            self._answer = _OK, self._origin.encode(response)

    def refuse(self, status: int, body: bytes) -> None:
        """The post is refused."""
        self._answer = status, body

    @property
    def answer(self) -> IdempotentAnswer | None:
        """What to keep under the key; None without one."""
        origin = self._origin
        if origin is None or origin.request is None or self._answer is None:
            return None
        return IdempotentAnswer(*origin.request, origin.body_sha256, *self._answer)

    def entries(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries with their sender."""
        if self._origin is None:
            return list(entries)
        owner = {"requester": self._origin.owner}
        return [
            entry if entry.kind == QUOTE_BOARD else replace(entry, payload=entry.payload | owner)
            for entry in entries
        ]


class NotFollowingError(LedgerError):
    """A record of the market chain cannot be applied, or the chain does not continue from this
    process's state: it would decide on another market than the others."""


class SharedMarket:
    """A live market that several processes keep equal through a ledger. Safe to use from threads.

    Parameters
    ----------
    live:
        The market as of its history; taken over.
    ledger:
        Where the market records are.
    writer:
        Appends to it and remembers failures.
    cash_assets:
        Assets of the rule set that count as cash.
    """

    def __init__(
        self, live: LiveMarket, ledger: Ledger, writer: LedgerWriter, cash_assets: Collection[str]
    ) -> None:
        self.live = live
        self._ledger, self._writer, self._cash_assets = ledger, writer, cash_assets
        self._chain = market_chain(ledger)
        # Held while the state and the place in the chain that it contains change together.
        self._lock = threading.RLock()
        self._head = ChainHead()
        self._misfit: NotFollowingError | None = None

    @property
    def head(self) -> ChainHead:
        """The newest record of the chain that the market contains."""
        return self._head

    def recover(self, now: int | None, until: ChainHead | None = None) -> None:
        """Apply the recorded bars and quotes, see `LiveMarket.recover`.

        Parameters
        ----------
        now:
            Wall clock, nanoseconds; None: the bars are the clock.
        until:
            Records of the market chain after this one are left to `catch_up`; None: all are
            applied.

        Raises
        ------
        LedgerError, DataError
            As there.
        """
        with self._lock:
            head = until or self.live.history_head or self._chain.head()
            self.live.recover(self._ledger, self._cash_assets, now, head)
            self._head = head
            if until is None:
                self.catch_up()

    def catch_up(self, *, one_step: bool = False) -> bool:
        """Apply what other processes appended since.

        Parameters
        ----------
        one_step:
            Stop behind a record with which the newest step changed.

        Returns
        -------
        Whether it stopped there, so that there may be more to apply.

        Raises
        ------
        LedgerError
            The ledger cannot be read; what was applied stays.
        NotFollowingError
            A record cannot be applied, or the chain was cut or altered; `check_following` refuses
            until the end of the chain is reached after all.
        """
        with self._lock:
            close = self.live.state.newest_close
            try:
                for record in self._chain.after(self._head):
                    self._apply(record)
                    if one_step and self.live.state.newest_close != close:
                        return True
            except AlteredError as error:
                raise self._note_misfit(str(error)) from error
            self._misfit = None
            return False

    def _apply(self, record: Record) -> None:
        name = f"record {record.seq} of the market chain cannot be applied"
        try:
            self.live.follow(record, self._cash_assets)
        except MargincastError as error:
            raise self._note_misfit(f"{name}: {error}") from error
        except Exception as error:  # whatever it is, this market stays behind
            cause = f"{name}: an unexpected error, which is in the log"
            raise self._note_misfit(cause, error) from error
        self._head = ChainHead.of(record)

    def _note_misfit(self, cause: str, unexpected: Exception | None = None) -> NotFollowingError:
        """Let `check_following` refuse; an unexpected error is logged once, with its trace."""
        if unexpected is not None and (self._misfit is None or str(self._misfit) != cause):
            _LOG.error("%s", cause, exc_info=unexpected)
        self._misfit = NotFollowingError(cause)
        return self._misfit

    def lag(self) -> int:
        """Records of the chain that are not applied yet; raises `LedgerError` as `catch_up`."""
        own = self._head.seq
        return max(0, self._chain.head().seq - own)

    def check_following(self) -> None:
        """Refuse while this process does not follow the chain; raises `NotFollowingError`."""
        misfit = self._misfit
        if misfit is not None:
            raise NotFollowingError(str(misfit)) from misfit

    def post(
        self,
        interval: str,
        bars: Sequence[BarUpdate],
        *,
        now: int | None,
        final: bool = False,
        correction: Correction | None = None,
        origin: PostOrigin | None = None,
    ) -> BarsResponse:
        """Post bars, see `LiveMarket.post`; what is new is on record when this returns.

        The answer under the key of the post is kept in the same transaction.

        Raises
        ------
        AlreadyAnsweredError
            A post with its key was answered before.
        LedgerError
            Nothing was recorded and the market did not move; or other processes appended first
            `MOST_ATTEMPTS` times.
        """

        def post(attempt: _Attempt) -> BarsResponse:
            return self.live.post(
                interval,
                bars,
                now=now,
                final=final,
                correction=correction,
                record=lambda entry: self._append([entry], attempt),
                answered=attempt.take,
            )

        return self._attempts(post, origin)

    def post_quotes(
        self, quotes: Sequence[QuoteUpdate], *, now: int | None, origin: PostOrigin | None = None
    ) -> QuotesResponse:
        """Post quotes, see `LiveMarket.post_quotes`; the rest as in `post`."""

        def post(attempt: _Attempt) -> QuotesResponse:
            return self.live.post_quotes(
                quotes,
                cash_assets=self._cash_assets,
                now=now,
                record=lambda entries: self._append(entries, attempt),
                answered=attempt.take,
            )

        return self._attempts(post, origin)

    def refuse(self, origin: PostOrigin, status: int, body: bytes) -> None:
        """Keep the refusal of a post under its key; nothing is posted. Raises as `post`."""
        self._attempts(lambda attempt: attempt.refuse(status, body), origin)

    def count_due(self, now: int) -> None:
        """Let the waiting steps count whose grace is over, see `LiveMarket.count_due`.

        Where another process appends first, its record counts; errors are those of `post`.
        """
        if self.live.is_due(now):
            self._attempts(
                lambda attempt: self.live.count_due(
                    now, lambda entry: self._append([entry], attempt)
                )
            )

    def _attempts(
        self, post: Callable[[_Attempt], _Response], origin: PostOrigin | None = None
    ) -> _Response:
        """Decide on a post by the newest market until it is appended there."""
        with self._lock:
            for _ in range(MOST_ATTEMPTS):
                self.catch_up()
                self._refuse_answered(origin)
                attempt = _Attempt(origin)
                try:
                    response = post(attempt)
                    if attempt.answer is not None and not attempt.recorded:
                        self._append([], attempt)
                except ChainMovedError:
                    continue
                return response
        raise LedgerError(
            f"other processes appended to the market chain first {MOST_ATTEMPTS} times; nothing "
            "was recorded, post again or post through fewer processes"
        )

    def _refuse_answered(self, origin: PostOrigin | None) -> None:
        if origin is not None and origin.request is not None:
            for answer in self._ledger.answers.lookup([origin.request]).values():
                raise AlreadyAnsweredError(answer)

    def _append(self, entries: Sequence[Entry], attempt: _Attempt) -> None:
        signed = attempt.entries(entries)
        records = self._writer.append_to(self._chain, self._head, signed, attempt.answer)
        attempt.recorded = True
        if records:
            self._head = ChainHead.of(records[-1])

    def follow(self, stop: threading.Event, looked: Callable[[], None]) -> None:
        """Apply what others append until `stop` is set; `looked` is called after each look.

        Raises
        ------
        LedgerError, NotFollowingError
            As in `catch_up`.
        """
        with self._chain.watch() as watch:
            while not stop.is_set():
                self.catch_up()
                looked()
                watch.wait(stop)
