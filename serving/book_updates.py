"""Updates of the live book: applied, recorded, and answered by what became of each."""

from __future__ import annotations

from collections.abc import Sequence

from decisions.errors import RequestError
from market.core.errors import DataError
from market.core.redaction import withholding
from monitoring.book.account_store import AccountStore
from monitoring.book.messages import AccountUpdateIn, UpdateResult, UpdateStatus
from serving.clock import time_now
from serving.http.problems import ProblemError
from serving.service import Service
from serving.telemetry.metrics.metrics import Metrics

_PROBLEMS: dict[UpdateStatus, tuple[int, str]] = {
    "gap": (409, "update-gap"),
    "out_of_sync": (409, "out-of-sync"),
    "conflict": (409, "update-conflict"),
    "invalid": (422, "invalid-update"),
}
"""Status and kind of the problem that answers what was not applied, the gravest first."""

_REMEDY = "or give the time of each update as ts"


class BookUpdates:
    """Takes updates of accounts for the live book of a ledger.

    Parameters
    ----------
    service:
        Whose ledger and clock.
    metrics:
        Counts what became of updates.
    """

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics
        self._store = AccountStore(service.ledger)

    def apply(self, updates: Sequence[AccountUpdateIn], requester: str) -> list[UpdateResult]:
        """Apply updates; those that count are on disk when this returns or raises.

        Raises
        ------
        ProblemError
            409 where an update is missing, or one of the same number has other content; 422 where
            one cannot be applied. Its results say what became of every update: the others count.
        RequestError
            A time cannot be read; nothing was applied.
        LedgerError
            Nothing could be recorded.
        """
        with withholding(lambda: (update.account_id for update in updates)):
            try:
                results = self._store.apply(updates, time_now(self._service, _REMEDY), requester)
            except DataError as error:
                raise RequestError(str(error)) from None
        self._metrics.account_updates(results)
        for status, (code, kind) in _PROBLEMS.items():
            refused = [result for result in results if result.status == status]
            if refused:
                raise _refusal(code, kind, refused, results)
        return results


def _refusal(
    code: int, kind: str, refused: Sequence[UpdateResult], results: Sequence[UpdateResult]
) -> ProblemError:
    detail = refused[0].detail
    if len(results) > 1:
        detail += (
            f"; {len(refused)} of {len(results)} updates are refused like this, `results` says "
            "what became of each: those that are applied count"
        )
    return ProblemError(code, kind, detail, results=results)
