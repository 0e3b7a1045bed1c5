"""Recorded decisions of an endpoint: looked up, paged by account, and made again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from decisions.errors import NotFoundError, RequestError
from decisions.replay import Replay, replay
from ledger.decisions import AlteredPageError, AlteredRecord
from ledger.packing import pack_id
from ledger.schema import database_errors, records
from ledger.store import Ledger
from monitoring.recorded_models import RecordedModels
from serving.schemas.read_messages import (
    DecisionExplanation,
    SupersedingChange,
    decision_page,
    recorded,
)

DEFAULT_PAGE = 50
"""Decisions of a page where no limit is given."""

MAX_BEFORE = 2**53
_MAX_ID = 128
_ACCOUNT_ID = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")
"""As `market.sources.http.Name`."""


class RecordedDecisions:
    """Reads decisions from a ledger.

    Parameters
    ----------
    ledger:
        Where they are.
    models:
        The models that they were made with.
    max_page:
        Most decisions in a page.
    """

    def __init__(self, ledger: Ledger, models: RecordedModels, max_page: int) -> None:
        self._ledger, self._models, self._max_page = ledger, models, max_page

    def get(self, decision_id: str) -> dict[str, Any]:
        """A recorded decision, as `serving.schemas.read_messages.RecordedDecision`.

        Raises
        ------
        NotFoundError
            There is no such decision.
        LedgerError
            It cannot be read, or was altered.
        """
        self._check_known(decision_id)
        return recorded(self._ledger.get_record(decision_id))

    def explained(self, decision_id: str) -> DecisionExplanation:
        """A recorded decision, explained by computing it again from its inputs.

        Raises
        ------
        NotFoundError
            There is no such decision.
        NotReplayableError
            Its bundle is not available, or its record lacks inputs that this version needs.
        LedgerError
            It cannot be read, or was altered.
        """
        found = self.replayed(decision_id)
        return DecisionExplanation(
            decision_id=decision_id,
            verdict=found.verdict,
            superseded_by=[
                SupersedingChange(change.adr, change.title) for change in found.superseded_by
            ],
            differences=list(found.differences),
            reasons=found.explanation["reasons"],
            explain=found.explanation,
        )

    def replayed(self, decision_id: str) -> Replay:
        """A recorded decision, made again from its inputs; raises as `explained`."""
        self._check_known(decision_id)
        return replay(self._ledger, decision_id, self._models.load)

    def horizons(self, bundle: str) -> tuple[int, ...]:
        """Horizons in hours of the model of a bundle's SHA-256; raises `NotReplayableError`."""
        return tuple(self._models.load(bundle).horizons)

    def _check_known(self, decision_id: str) -> None:
        query = select(records.c.id).where(records.c.id == pack_id(decision_id))
        query = query.where(records.c.kind == "decision")
        with database_errors("read"), self._ledger.engine.connect() as connection:
            known = connection.execute(query).first() is not None
        if not known:
            raise NotFoundError(
                f"there is no decision {decision_id!r}; give an id that was returned"
            )

    def page(self, account_id: str, limit: int | None, before: int | None) -> dict[str, Any]:
        """A page of an account's decisions, as `DecisionPage`; without a limit of `DEFAULT_PAGE`
        decisions, or as many as a page may hold.

        Raises
        ------
        RequestError
            The limit, the cursor or the account id is impossible.
        """
        if limit is None:
            limit = min(DEFAULT_PAGE, self._max_page)
        if not 1 <= limit <= self._max_page:
            raise RequestError(f"limit is {limit}; give 1 to {self._max_page}")
        if before is not None and not 1 <= before <= MAX_BEFORE:
            raise RequestError(f"before is {before}; give next_before of the page before")
        check_account_id(account_id)
        altered: Sequence[AlteredRecord] = ()
        try:
            page, more = self._ledger.decisions_of(account_id, limit, before)
        except AlteredPageError as error:
            page, more, altered = list(error.sound), error.next_before, error.altered
        return decision_page(page, altered, more)


def check_account_id(account_id: str) -> None:
    """Refuse an id that no account can have; raises `RequestError`."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise RequestError(
            f"account id {account_id[:_MAX_ID]!r} cannot be one; give 1 to {_MAX_ID} "
            "characters and no control characters, URL-encoded"
        )
