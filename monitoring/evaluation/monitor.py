"""The monitor: one process a ledger that evaluates the live book as market and accounts move.

Each step follows the chains of market and accounts, makes a rule pass where one is due (urgent
accounts first), and does one part of a model pass that is under way. Levels and states move by
the evaluation records alone, so a step that fails changes nothing and is made again.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from decisions.decision_group import CallBasis
from decisions.errors import NoMarketError
from decisions.records import shared_contents
from ledger.store import Ledger
from market.core.arrays import Bools, Ints
from market.core.clock import SECOND, format_time
from market.core.errors import DataError, LedgerError, MargincastError
from models.forecaster import Forecaster
from monitoring.book.account_files import AccountFileFeed
from monitoring.book.book_account import BookAccount
from monitoring.book.live_book import LiveBook
from monitoring.champion import MODEL_FAILED, ChampionWatch
from monitoring.evaluation.lease import Lease
from monitoring.evaluation.passes.book_cut import BookCut
from monitoring.evaluation.passes.model_job import ModelJob, ModelJobInput
from monitoring.evaluation.passes.rules_pass import RuleColumns, evaluate_book, evaluate_rules
from monitoring.evaluation.passes.second_core import SecondCore
from monitoring.evaluation.passes.state_inputs import advance_states
from monitoring.evaluation.record.book_totals import totals_of
from monitoring.evaluation.record.evaluation_record import (
    EvaluationBasis,
    EvaluationLog,
    PassOutcome,
    evaluation_entry,
)
from monitoring.evaluation.record.evaluation_state import EvaluationState, state_block
from monitoring.evaluation.state_engine import StateEngine, StateStep
from monitoring.evaluation.triggers import TriggerRules, deadline_due, has_moved, mark_prices
from monitoring.evaluation.working import Scored, Working
from monitoring.market_state.state import Clock
from monitoring.rules_in_force import RulesInForce
from monitoring.shared_market import SharedMarket

LEASE = "monitor"
"""Name of the lease of the process that evaluates."""

LOOK_SECONDS = 0.1
"""Time between two looks at the chains while nothing is to be done."""

RETRY_SECONDS = 0.5
"""Time after a failed step until the next one."""

_LOG = logging.getLogger("margincast.monitor")


@dataclass(frozen=True, slots=True)
class MonitorInputs:
    """What evaluations rest on, and how they are made.

    Attributes
    ----------
    ledger:
        Of market, accounts and evaluations.
    market:
        The market, recovered.
    rules, champion:
        Rules and model.
    triggers:
        When the book is evaluated.
    clock, mark_max_age:
        Of decisions, as of the endpoint.
    second:
        Scores chunks of model passes in a second process; None: one process does all.
    files:
        Account files that are a source of the live book; None: none are.
    engine:
        Enforcement; None: states move by the rule set's life cycle alone. With it every step of
        the market is evaluated, also those that were missed while no monitor ran.
    """

    ledger: Ledger
    market: SharedMarket
    rules: RulesInForce
    champion: ChampionWatch
    triggers: TriggerRules
    clock: Clock
    mark_max_age: int | None = None
    second: SecondCore | None = None
    files: AccountFileFeed | None = None
    engine: StateEngine | None = None


@dataclass(slots=True)
class StepTimes:
    """When passes ended, on the clock of `time.perf_counter`.

    Attributes
    ----------
    urgent, rules, model:
        The newest pass over urgent accounts, over all by the rules, over all by the model.
    """

    urgent: float = 0.0
    rules: float = 0.0
    model: float = 0.0


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """Accounts of a book and what the rules say about them."""

    cut: BookCut
    rows: Ints
    columns: RuleColumns


@dataclass(frozen=True, slots=True)
class _Planned:
    """A model pass before its levels are read; `place` is None where it is not of all accounts."""

    rows: Ints
    place: Scored | None
    model: Forecaster | None
    no_model: str
    basis: EvaluationBasis


class BookMonitor:
    """Evaluates the live book of a ledger while it holds the lease.

    Parameters
    ----------
    inputs:
        What the evaluations rest on.

    Attributes
    ----------
    book:
        The live book.
    times:
        When passes ended.
    """

    def __init__(self, inputs: MonitorInputs) -> None:
        self._inputs = inputs
        self._lease = Lease(inputs.ledger, LEASE)
        self._log = EvaluationLog(inputs.ledger, self._lease)
        self.book = LiveBook(inputs.ledger)
        self.times = StepTimes()
        self._work: Working | None = None
        self._said = ""
        self._read: int | None = None
        self._behind = False

    @property
    def leads(self) -> bool:
        """Whether this process held the lease when it last looked."""
        return self._lease.held

    @property
    def state(self) -> EvaluationState | None:
        """Levels and states; None while another process evaluates."""
        return None if self._work is None else self._work.state

    @property
    def columns(self) -> RuleColumns | None:
        """What the newest rule pass found, by the accounts of `state`."""
        return None if self._work is None else self._work.columns

    def run(self, stop: threading.Event) -> None:
        """Evaluate until `stop` is set; whatever fails is logged and tried again."""
        try:
            while not stop.is_set():
                stop.wait(self._try_step())
        finally:
            self.close()

    def close(self) -> None:
        """Let another process evaluate at once."""
        self._work = None
        if self._inputs.second is not None:
            self._inputs.second.close()
        try:
            self._lease.release()
        except LedgerError as error:
            _LOG.warning("the lease of the monitor expires by itself: %s", error)

    def _try_step(self) -> float:
        """One step; how many seconds to wait before the next one."""
        try:
            worked = self.step()
        except MargincastError as error:
            # Of a commit it may not be known whether it happened: the records tell.
            self._forget(str(error))
            return RETRY_SECONDS
        except Exception as error:  # noqa: BLE001  monitoring never ends because of an error
            self._forget(f"an unexpected error: {error!r}", error)
            return RETRY_SECONDS
        if self._said:
            _LOG.warning("the live book is evaluated again")
            self._said = ""
        return 0.0 if worked else LOOK_SECONDS

    def _forget(self, cause: str, unexpected: Exception | None = None) -> None:
        """Log a failure once, and start again from the records."""
        if cause != self._said:
            _LOG.error("the live book is not evaluated: %s", cause, exc_info=unexpected)
        self._said, self._work = cause, None

    def step(self) -> bool:
        """Follow the chains and do what is due; whether there is more to do at once.

        Raises
        ------
        MargincastError
            Nothing counts that was not recorded.
        """
        work = self._follow(holds=self._lease.renew_if_due())
        basis = None if work is None else self._basis()
        if work is None or basis is None:
            return False
        trigger = self._trigger(work, basis)
        if trigger is not None:
            self._rule_pass(work, basis, trigger)
        if work.job is None:
            work.job = self._next_job(work, basis)
        if work.job is None:
            return False
        self._advance(work, work.job)
        return True

    def _follow(self, *, holds: bool) -> Working | None:
        """Bring market and book to the end of their chains; None without the lease."""
        market, engine = self._inputs.market, self._inputs.engine
        self._behind = market.catch_up(one_step=engine is not None)
        if self._inputs.clock == "wall" and not self._behind:
            try:
                market.count_due(time.time_ns())
            except DataError as error:
                _LOG.debug("waiting steps cannot count: %s", error)
        if holds:
            self._read_files()
        before = BookCut.of(self.book)
        changed = self.book.catch_up()
        if not holds:
            self._work = None
            return None
        work = self._work
        if work is None:
            self._work = work = Working.start(self._inputs.ledger, BookCut.of(self.book))
            if engine is not None:
                work.earlier |= engine.restore(work.evaluated_book)
            at = work.state.evaluated_at
            newest = "there is no evaluation yet" if at is None else f"newest {format_time(at)}"
            _LOG.info("evaluating %d accounts of the live book; %s", len(self.book), newest)
            return work
        work.state = work.state.advanced(self._log.chain)
        if changed:
            work.note_updates(before, changed)
            work.state = work.state.grown(BookCut.of(self.book).names(len(work.state)))
        return work

    def _read_files(self) -> None:
        """Bring what the account files hold up to now into the book; once a second at most."""
        files, market = self._inputs.files, self._inputs.market
        now = time.time_ns() if self._inputs.clock == "wall" else market.live.state.newest_known
        if files is None or now is None:
            return
        if self._read is not None and now < self._read + SECOND:
            return
        files.advance(now)
        self._read = now

    def _basis(self) -> CallBasis | None:
        """Market and rules now; None before the first bar."""
        inputs = self._inputs
        inputs.market.check_following()
        try:
            state = inputs.market.live.state
            # A step that was missed is evaluated at its own time.
            clock: Clock = "market" if self._behind else inputs.clock
            snapshot = state.decision_snapshot(None, clock, inputs.mark_max_age)
        except NoMarketError:
            return None
        return CallBasis(snapshot, inputs.rules.of_decision(snapshot.as_of, requested=False))

    def _trigger(self, work: Working, basis: CallBasis) -> str | None:
        """Why a rule pass is due; None where it is not."""
        now = basis.snapshot.as_of
        if not len(work.state) or now < work.state.states.as_of:
            return None
        if work.columns is None:
            return "start"
        if int(basis.snapshot.features.closes[0]) != work.close:
            return "bar"
        if basis.ruleset.sha256 != work.ruleset:
            return "rules"
        if work.updated:
            return "accounts"
        rules = self._inputs.triggers
        if self._inputs.market.head != work.market:
            threshold = rules.mark_threshold
            view = basis.snapshot.view()
            if threshold == 0.0 or has_moved(work.prices, mark_prices(view), threshold):
                return "mark"
        if self._inputs.engine is not None and self._inputs.engine.has_work(now):
            return "enforcement"
        timer = time.monotonic() - work.passed >= rules.timer_seconds
        return "timer" if timer or deadline_due(work.state.states, now) else None

    def _rule_pass(self, work: Working, basis: CallBasis, trigger: str) -> None:
        """Evaluate all accounts by the rules, urgent ones first, and record what changed."""
        began = time.perf_counter()
        cut, view = BookCut.of(self.book), basis.snapshot.view()
        amounts = work.state.levels.amount
        heads = self._heads(work, basis, trigger, None)
        urgent = work.urgent()
        if len(urgent):
            first = evaluate_rules(cut.take(urgent), amounts[urgent], view, basis.ruleset)
            self.times.urgent = time.perf_counter()
            self._record_states(work, heads, _Evaluated(cut, urgent, first), began)
            heads = replace(heads, after=work.state.head.seq)
        columns = evaluate_book(cut, amounts, view, basis.ruleset)
        work.columns, work.prices = columns, mark_prices(view)
        every = _Evaluated(cut, np.arange(len(cut)), columns)
        whole = trigger in ("start", "bar", "rules", "timer")
        self._record_states(work, heads, every, began, whole=whole)
        self.times.rules = time.perf_counter()
        if not len(urgent):
            self.times.urgent = self.times.rules
        work.market, work.passed = heads.market, time.monotonic()
        work.close, work.ruleset = int(basis.snapshot.features.closes[0]), basis.ruleset.sha256
        work.updated, work.earlier = set(), {}

    def _record_states(
        self,
        work: Working,
        basis: EvaluationBasis,
        evaluated: _Evaluated,
        began: float,
        *,
        whole: bool = False,
    ) -> None:
        """Move the states of accounts to now; record those that changed, or all of them."""
        rows, state, engine = evaluated.rows, work.state, self._inputs.engine
        names = [state.names[i] for i in rows.tolist()]
        before, now = state.states.take(rows), basis.snapshot.as_of
        step, inputs = None, None
        if engine is not None:
            earlier = {name: work.earlier.pop(name) for name in names if name in work.earlier}
            whole_book = len(rows) == len(state.names)
            step = StateStep(
                names,
                state.index if whole_book else {name: i for i, name in enumerate(names)},
                before,
                evaluated.columns,
                state.levels.amount[rows],
                basis.snapshot,
                basis.ruleset,
                basis.event,
                earlier,
                lambda name: self._known(name).account,
                lambda name: self._known(name).sequence,
                partial(evaluated.cut.take, rows),
                whole_book,
            )
            inputs = engine.inputs(step)
        after, transitions = advance_states(
            before, evaluated.columns, names, now, basis.ruleset, inputs
        )
        acted = engine is not None and step is not None and engine.outcome(step, after, transitions)
        changed: Bools = after.state != before.state
        differs = changed | after.differs(before)
        if inputs is not None:
            differs |= inputs.rows(names)
        if not (whole or acted or differs.any()):
            return
        chosen = np.arange(len(rows)) if whole else np.flatnonzero(differs)
        enforced = None
        if engine is not None and inputs is not None:
            enforced = inputs.content(chosen) | engine.facts()
        outcome = PassOutcome(
            "rules",
            state_block([names[i] for i in chosen.tolist()], after.take(chosen), changed[chosen]),
            whole,
            len(evaluated.cut),
            len(rows),
            len(evaluated.columns.problems),
            time.perf_counter() - began,
            enforcement=enforced,
        )
        entry = evaluation_entry(outcome, basis, state)
        shared = shared_contents(basis.snapshot, basis.ruleset)
        within = None if engine is None else engine.write
        totals = totals_of(evaluated.columns) if whole else None
        record = self._log.append(state.head, entry, shared, within=within, totals=totals)
        work.state = state.after(record)
        work.due |= {names[i] for i in np.flatnonzero(changed).tolist()}

    def _known(self, name: str) -> BookAccount:
        found = self.book.find(name)
        if found is None:
            raise DataError(f"account {name!r} is not in the live book")
        return found

    def _heads(
        self, work: Working, basis: CallBasis, trigger: str, model: str | None
    ) -> EvaluationBasis:
        return EvaluationBasis(
            basis.snapshot,
            basis.ruleset,
            model,
            self._inputs.market.head,
            self.book.head,
            trigger,
            work.state.head.seq,
        )

    def _next_job(self, work: Working, basis: CallBasis) -> ModelJob | None:
        """The model pass that is due; None where none is."""
        columns = work.columns
        if columns is None or len(columns) != len(work.state):
            return None
        targets = basis.ruleset.add_on.targets
        champion = self._inputs.champion.current().for_horizons(targets)
        sha256 = None if champion.model is None else champion.model.bundle.sha256
        place = int(basis.snapshot.features.closes[0]), basis.ruleset.sha256, sha256
        whole = place != work.scored
        if whole:
            chosen = np.ones(len(columns), dtype=np.bool_)
        else:
            threshold = self._inputs.triggers.distance_threshold
            chosen = work.due_rows(columns.distance(), threshold)
        if not chosen.any():
            return None
        urgent = columns.urgent()
        rows = np.concatenate([np.flatnonzero(chosen & urgent), np.flatnonzero(chosen & ~urgent)])
        trigger = "accounts" if not whole else "start" if work.scored is None else "bar"
        heads = self._heads(work, basis, trigger, sha256)
        reason = champion.unavailable_reason
        planned = _Planned(rows, place if whole else None, champion.model, reason, heads)
        return self._job(work, planned)

    def _job(self, work: Working, planned: _Planned) -> ModelJob:
        """A model pass over some accounts, from the levels in force now."""
        state = work.state
        work.look_at_decisions(self._inputs.ledger)
        names = [state.names[i] for i in planned.rows.tolist()]
        apart, continued = work.levels_apart(names)
        job = ModelJobInput(
            BookCut.of(self.book),
            planned.rows,
            planned.place is not None,
            state.levels.take(planned.rows),
            apart,
            continued,
            np.array([name in state.restated for name in names]),
            planned.basis,
            planned.model,
            planned.no_model,
        )
        work.due -= set(names)
        work.scored = planned.place or work.scored
        return ModelJob(job, None if planned.model is None else self._inputs.second)

    def _advance(self, work: Working, job: ModelJob) -> None:
        """Do one part of a model pass; record it once it is done."""
        try:
            done = job.advance()
        except Exception as error:
            if job.input.model is None:
                raise
            _LOG.error("the model failed; the rule floor answers: %s", error, exc_info=error)
            basis = replace(job.input.basis, model=None, after=work.state.head.seq)
            place = work.scored if job.input.whole else None
            failed = _Planned(job.input.rows, place, None, MODEL_FAILED, basis)
            work.job = self._job(work, failed)
            return
        if not done:
            return
        entry = evaluation_entry(job.outcome(), job.input.basis, work.state)
        record = self._log.append(work.state.head, entry, job.contents(), job.decisions)
        work.state = work.state.after(record)
        work.note_levels(job, BookCut.of(self.book))
        work.job = None
        if job.input.whole:
            self.times.model = time.perf_counter()
