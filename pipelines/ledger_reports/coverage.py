"""Coverage: the recorded levels of the live book against what then happened.

Every 24 hours from the start of the span each account is held as it stood through the recorded
markets of the next 24 hours. The add-on is exceeded where the worst fall of headroom is larger than
it, the whole requirement where the worst fall of equity is larger than maintenance margin + add-on.
Trades and payments of these hours do not count: a level is for the positions that it was set on.

References: Kupiec (1995); Christoffersen (1998); Basel Committee (1996), "Supervisory framework
for the use of backtesting in conjunction with the internal models approach".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from ledger.following import ChainHead, SharedChain
from ledger.records import Record
from ledger.store import Ledger
from market.core.arrays import Bools, Floats
from market.core.clock import DAY, HOUR, format_time
from market.core.errors import DataError
from monitoring.evaluation.passes.rules_pass import evaluate_rules
from monitoring.evaluation.record.evaluation_state import CHAIN, EVALUATION
from pipelines.ledger_reports.book_at_time import (
    BookAtTime,
    RecordedBook,
    cut_at,
    is_pass,
    market_of,
)
from pipelines.ledger_reports.formats.document import Cell, Chart, Report, Table
from pipelines.ledger_reports.request import ReportRequest, Span
from training.backtest.var_backtests import (
    christoffersen_independence,
    conditional_coverage,
    kupiec,
)

RATE = 0.01
"""Stated probability that a level is exceeded within a day."""

LIGHT_DAYS = 250
"""Newest days that the traffic light looks at."""

YELLOW, RED = 0.95, 0.9999
"""Probabilities of that many exceedances or fewer at which the zones begin: 5 and 10 of 250."""

MEASURES = ("add_on", "total_requirement")

_TEST_COLUMNS = (
    *("observations", "exceedances", "coverage", "kupiec_p", "christoffersen_p"),
    *("conditional_coverage_p", "light_days", "light_exceedances", "zone"),
)


@dataclass(frozen=True, slots=True)
class DayOutcome:
    """What became of the book of the end of one day, by account.

    Attributes
    ----------
    time:
        When the levels were read, nanoseconds.
    names:
        Ids of the accounts, length N.
    level, fall:
        By measure, what was required and the worst fall within 24 hours, shape (N,).
    counted:
        By measure, accounts that count, shape (N,).
    """

    time: int
    names: tuple[str, ...]
    level: dict[str, Floats]
    fall: dict[str, Floats]
    counted: dict[str, Bools]


def traffic_light(exceedances: int, days: int, rate: float = RATE) -> str:
    """Zone of a number of exceedances: green, yellow or red.

    Yellow begins where so many or fewer have a probability of 95% at the stated rate, red at
    99.99%: at 250 days and 1% these are 5 and 10.

    References
    ----------
    Basel Committee (1996), cited above, section III.
    """
    probability = float(binom.cdf(exceedances, days, rate))
    return "red" if probability >= RED else "yellow" if probability >= YELLOW else "green"


def coverage(ledger: Ledger, request: ReportRequest) -> Report:
    """The backtest of the days whose 24 hours lie within a span.

    Raises
    ------
    DataError
        No day of the span has an evaluation at its start and markets through it.
    """
    span = request.span
    recorded = RecordedBook(ledger)
    markets = _markets(ledger, span)
    outcomes: list[DayOutcome] = []
    dropped, book = 0, None
    for time in range(span.start, span.end - DAY + 1, DAY):
        now = recorded.find(time)
        later = [record for record in markets if time < (record.as_of or 0) <= time + DAY]
        complete = later and (later[-1].as_of or 0) >= time + DAY - 2 * HOUR
        if now is None or not complete or now.as_of < time - 2 * HOUR:
            dropped += 1
            continue
        book = now
        outcomes.append(_outcome(ledger, now, time, later))
    if book is None:
        raise DataError(
            f"no day between {format_time(span.start)} and {format_time(span.end)} has an "
            "evaluation at its start and markets through its 24 hours; give a longer span"
        )
    tests, accounts, days = _tests(outcomes), _by_account(outcomes), _by_day(outcomes)
    chart = Chart(
        "by_day",
        "Worst fall over 24 hours and requirement, sums over accounts",
        tuple(str(row[0])[:10] for row in days.rows if row[1] == "total_requirement"),
        {
            name: [_number(r[i]) for r in days.rows if r[1] == "total_requirement"]
            for name, i in (("requirement", 4), ("worst fall", 5))
        },
    )
    facts = {"days": len(outcomes), "days_left_out": dropped, "stated_rate": RATE}
    return Report(
        "coverage",
        f"Coverage of the live book, {format_time(span.start)} to {format_time(span.end)}",
        {**span.facts(), **book.facts(), **facts},
        (tests, days, accounts),
        "by_account",
        (chart,),
        (
            "Accounts move together, so the pooled Kupiec test rejects too often; the tests of the "
            "book and of single accounts do not have this fault.",
        ),
    )


def _markets(ledger: Ledger, span: Span) -> list[Record]:
    """The first pass by the rules at each close of a span, without its columns."""
    last = cut_at(ledger, CHAIN, span.end, EVALUATION)
    chain = SharedChain(ledger, CHAIN)
    head = chain.before(cut_at(ledger, CHAIN, span.start, EVALUATION) + 1)
    found: list[Record] = []
    newest = -1
    for record in _until(chain, head, last):
        payload = record.payload
        if is_pass(record, "rules") and payload["close"] != newest:
            newest = payload["close"]
            found.append(replace(record, payload={"contents": payload["contents"]}))
    return found


def _until(chain: SharedChain, head: ChainHead, last: int) -> Iterator[Record]:
    if head.seq < last:
        for record in chain.after(head):
            yield record
            if record.seq >= last:
                return


def _outcome(ledger: Ledger, book: BookAtTime, time: int, later: list[Record]) -> DayOutcome:
    held, columns = book.held_from_here(), book.columns
    least = {name: np.full(len(held), np.inf) for name in ("headroom", "equity")}
    for record in later:
        view = market_of(ledger, record).view()
        then = evaluate_rules(held, book.state.levels.amount, view, book.ruleset)
        for name, values in least.items():
            np.fmin(values, getattr(then, name), out=values)
    fall = {
        "add_on": columns.headroom - least["headroom"],
        "total_requirement": columns.equity - least["equity"],
    }
    level = {"add_on": columns.add_on, "total_requirement": book.total_requirement}
    open_positions = columns.positions > 0
    counted = {
        name: open_positions & np.isfinite(fall[name]) & np.isfinite(level[name])
        for name in MEASURES
    }
    counted["add_on"] &= columns.headroom > 0.0
    return DayOutcome(time, held.account_ids, level, fall, counted)


def _tests(outcomes: list[DayOutcome]) -> Table:
    rows: list[list[Cell]] = []
    for name in MEASURES:
        falls = [np.maximum(o.fall[name][o.counted[name]], 0.0) for o in outcomes]
        levels = [o.level[name][o.counted[name]] for o in outcomes]
        both = list(zip(falls, levels, strict=True))
        hits = np.concatenate([fall > level for fall, level in both])
        uncovered = np.concatenate([np.maximum(fall - level, 0.0) for fall, level in both])
        whole = np.array([fall.sum() > level.sum() for fall, level in both])
        rows.append([name, "account-days", *_test(hits, in_order=False), *_sizes(uncovered)])
        short = np.array([max(0.0, float(fall.sum() - level.sum())) for fall, level in both])
        rows.append([name, "book", *_test(whole, in_order=True), *_sizes(short)])
    return Table(
        "tests",
        "Tests",
        ("measure", "of", *_TEST_COLUMNS, "peak_uncovered", "average_uncovered"),
        rows,
        "book: the sum of the accounts' worst falls, none offset by another's gain, against the "
        "sum of what they had to hold. The zone is green, yellow or red over the newest 250 days "
        "at 99%; with fewer days the zones begin at the same probabilities. Compare CPMI-IOSCO "
        "disclosure 6.5, results of back-testing of initial margin.",
    )


def _test(hits: Bools, *, in_order: bool) -> list[Cell]:
    """The cells of `_TEST_COLUMNS`; tests of order only where the windows follow each other."""
    count, n = int(hits.sum()), len(hits)
    if n == 0:
        return [0, 0, *([None] * (len(_TEST_COLUMNS) - 2))]
    counted: list[Cell] = [n, count, 1.0 - count / n, kupiec(count, n, RATE).p_value]
    if not in_order:
        return [*counted, None, None, None, None, None]
    apart = christoffersen_independence(hits).p_value if n > 1 else None
    joint = conditional_coverage(hits, RATE).p_value if n > 1 else None
    newest = hits[-LIGHT_DAYS:]
    recent = int(newest.sum())
    return [*counted, apart, joint, len(newest), recent, traffic_light(recent, len(newest))]


def _sizes(uncovered: Floats) -> list[Cell]:
    """Peak and average of what was not covered; None where all was."""
    short = uncovered[uncovered > 0.0]
    return [float(short.max()), float(short.mean())] if len(short) else [None, None]


def _by_account(outcomes: list[DayOutcome]) -> Table:
    hits: dict[tuple[str, str], list[bool]] = {}
    worst: dict[tuple[str, str], float] = {}
    for outcome in outcomes:
        for name in MEASURES:
            for i in np.flatnonzero(outcome.counted[name]).tolist():
                key = outcome.names[i], name
                short = float(outcome.fall[name][i] - outcome.level[name][i])
                hits.setdefault(key, []).append(short > 0.0)
                worst[key] = max(worst.get(key, 0.0), short)
    rows: list[list[Cell]] = [
        [*key, *_test(np.array(found, dtype=np.bool_), in_order=True), worst[key] or None]
        for key, found in hits.items()
    ]
    rows.sort(key=lambda row: (-int(row[3] or 0), str(row[0]), str(row[1])))
    columns = ("account_id", "measure", *_TEST_COLUMNS, "peak_uncovered")
    return Table("by_account", "By account, most exceedances first", columns, rows)


def _by_day(outcomes: list[DayOutcome]) -> Table:
    rows: list[list[Cell]] = []
    for outcome in outcomes:
        for name in MEASURES:
            chosen = outcome.counted[name]
            fall = np.maximum(outcome.fall[name][chosen], 0.0)
            level = outcome.level[name][chosen]
            rows.append(
                [
                    format_time(outcome.time),
                    name,
                    int(chosen.sum()),
                    int((fall > level).sum()),
                    float(level.sum()),
                    float(fall.sum()),
                    float(np.maximum(fall - level, 0.0).sum()),
                ]
            )
    return Table(
        "by_day",
        "By day",
        ("from", "measure", "accounts", "exceedances", "level", "worst_fall", "uncovered"),
        rows,
    )


def _number(cell: Cell) -> float | None:
    return float(cell) if isinstance(cell, int | float) else None
