"""Every kind of report by its name, and what makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ledger.audit.heads import engine_of
from ledger.store import Ledger
from market.core.errors import ConfigError
from pipelines.ledger_reports.audit_extract import audit_extract
from pipelines.ledger_reports.calls import calls
from pipelines.ledger_reports.change_events import change_events
from pipelines.ledger_reports.client_statement import call_notice, client_statement
from pipelines.ledger_reports.concentration import concentration
from pipelines.ledger_reports.coverage import coverage
from pipelines.ledger_reports.daily_margin import daily_margin
from pipelines.ledger_reports.formats.document import Report
from pipelines.ledger_reports.overrides import overrides
from pipelines.ledger_reports.procyclicality import procyclicality
from pipelines.ledger_reports.request import ReportRequest

KINDS: Mapping[str, Callable[[Ledger, ReportRequest], Report]] = {
    "daily-margin": daily_margin,
    "calls": calls,
    "coverage": coverage,
    "procyclicality": procyclicality,
    "concentration": concentration,
    "overrides": overrides,
    "change-events": change_events,
    "client-statement": client_statement,
    "call-notice": call_notice,
    "audit-extract": audit_extract,
}
"""What makes each kind."""

OF_AN_ACCOUNT = frozenset({"daily-margin", "calls", "client-statement"})
"""Kinds that take an account; ``client-statement`` needs one."""


def existing_ledger(url: str) -> Ledger:
    """The ledger of a URL; unlike `Ledger` it makes none where there is none.

    Raises
    ------
    LedgerError
        There is no ledger, or it cannot be opened.
    """
    with engine_of(url):
        return Ledger(url)


def make_report(ledger: Ledger, kind: str, request: ReportRequest) -> Report:
    """A report of a kind.

    Raises
    ------
    ConfigError
        There is no such kind, or an account or call is missing or not taken.
    DataError
        The ledger holds nothing of the span.
    LedgerError
        Records are missing or were altered.
    """
    if kind not in KINDS:
        raise ConfigError(f"{kind!r} is no report; choose one of {', '.join(KINDS)}")
    if request.account is not None and kind not in OF_AN_ACCOUNT:
        takers = ", ".join(sorted(OF_AN_ACCOUNT))
        raise ConfigError(f"{kind} takes no --account; the kinds that do are {takers}")
    if request.account is None and kind == "client-statement":
        raise ConfigError("client-statement needs --account ID; give the client's account")
    if (request.call is None) == (kind == "call-notice"):
        needs = "needs" if kind == "call-notice" else "takes no"
        raise ConfigError(f"{kind} {needs} --call ID; only call-notice is about one call")
    return KINDS[kind](ledger, request)
