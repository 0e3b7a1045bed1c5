"""The reports of ``[reports]`` for one day, as the scheduler writes them."""

from __future__ import annotations

from typing import Any

from ledger.following import SharedChain
from ledger.store import Ledger
from market.core.clock import DAY, format_time
from market.core.errors import DataError
from monitoring.evaluation.record.evaluation_state import CHAIN, EVALUATION
from pipelines.config.config import Config
from pipelines.ledger_reports.formats.write import check_format, write_report
from pipelines.ledger_reports.kinds import existing_ledger, make_report
from pipelines.ledger_reports.request import ReportRequest, Span

LOOK_BACK = frozenset({"coverage", "procyclicality"})
"""Kinds that look back `[reports] days`; the others show the day."""


def scheduled_reports(config: Config, day: str | None = None) -> dict[str, Any]:
    """Write every configured report of a day into the folder of its date.

    A kind of which the ledger holds nothing for that day is left out, with the reason.

    Parameters
    ----------
    config:
        Sections reports and ledger.
    day:
        A date; None: the newest day after whose end the live book was evaluated. An evaluation
        at 24:00 is not enough: on the market's clock updates, calls and commands that follow have
        this time too, until the next price.

    Returns
    -------
    ``verdict`` (``written``), ``date``, ``written`` and ``left_out`` (reason by kind).

    Raises
    ------
    DataError
        The live book was never evaluated.
    LedgerError
        Records are missing or were altered.
    """
    wanted = config.reports
    for ending in wanted.formats:
        check_format(wanted.folder / f"report.{ending}")
    written: list[str] = []
    left_out: dict[str, str] = {}
    with existing_ledger(config.ledger.url) as ledger:
        span = _newest_day(ledger) if day is None else Span.of(day, None, None)
        date = format_time(span.start)[:10]
        back = Span(span.end - wanted.days * DAY, span.end)
        for kind in wanted.kinds:
            request = ReportRequest(back if kind in LOOK_BACK else span)
            try:
                report = make_report(ledger, kind, request)
            except DataError as error:
                left_out[kind] = str(error)
                continue
            for ending in wanted.formats:
                out = wanted.folder / date / f"{kind}.{ending}"
                written += map(str, write_report(report, out))
    return {"verdict": "written", "date": date, "written": written, "left_out": left_out}


def _newest_day(ledger: Ledger) -> Span:
    chain = SharedChain(ledger, CHAIN)
    newest = chain.last(EVALUATION, chain.head())
    if newest is None or newest.as_of is None:
        raise DataError(
            "the ledger has no evaluation of the live book; check that [monitoring] is enabled"
        )
    end = (newest.as_of - 1) // DAY * DAY
    return Span(end - DAY, end)
