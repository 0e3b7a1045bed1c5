"""What the endpoint does, without HTTP: decide, try out, take in bars, look up."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import select

from decisions.account_validation import Intake, validate_accounts
from decisions.decision import PreviousAddOn, decide
from decisions.messages import (
    AccountProblem,
    BarResult,
    BarsRequest,
    BarsResponse,
    Decision,
    ScoreRequest,
    ScoreResponse,
)
from decisions.opening_check import DecisionBasis
from decisions.reasons import missing_context, out_of_force
from decisions.recording import Outcome, Recording
from decisions.what_if.changes import apply_changes, trade_prices
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from features.registry import STALE_INTERVALS, WARM_UP_HOURS
from features.state.snapshot import MarketSnapshot
from ledger.idempotency import IdempotentAnswer, LedgerDuplicateError
from ledger.records import Entry
from ledger.schema import database_errors, records
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account
from market.core.clock import DAY, SECOND, Interval, format_time, parse_time
from market.core.errors import DataError, LedgerError, MargincastError, ModelError
from market.sources.http import AccountIn, bar_updates, quote_updates
from models.forecaster import Forecaster
from monitoring.champion import ChampionWatch
from monitoring.market_state.live_market import LiveMarket, named
from monitoring.market_state.posted_bars import Correction
from monitoring.quotes.messages import QuoteResult, QuotesRequest, QuotesResponse
from serving.http.metrics import Metrics
from serving.http.problems import ProblemError, invalid, not_found, unavailable
from serving.ledger_writer import LedgerWriter
from serving.rules_in_force import RulesInForce
from serving.schemas.read_messages import ModelInfo, Readiness, recorded
from serving.settings import ServingSettings
from serving.what_if_analysis import answer_questions, check_questions

MODEL_FAILED = "no model: the model failed to answer"
DEFAULT_PAGE = 50
"""Decisions of a page where no limit is given."""

_MAX_AHEAD = DAY
_MAX_KEY = 200
_MAX_BEFORE = 2**53
_MAX_ID = 128
_ACCOUNT_ID = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")
"""As `decisions.messages.Name`."""
_LOG = logging.getLogger("margincast.serving")


@dataclass(frozen=True, slots=True)
class Answer:
    """An encoded answer, and whether it is a repeated one."""

    body: bytes
    replayed: bool = False


@dataclass(slots=True)
class Service:
    """The endpoint's work. Safe to use from several threads.

    Attributes
    ----------
    settings, ledger, rules, live, metrics:
        What it works with and under which limits.
    in_force:
        Which version of the rules applies.
    """

    settings: ServingSettings
    ledger: Ledger
    rules: RuleHistory
    live: LiveMarket
    metrics: Metrics
    in_force: RulesInForce = field(init=False)
    _champion: ChampionWatch = field(init=False)
    _writer: LedgerWriter = field(init=False)

    def __post_init__(self) -> None:
        self._writer = LedgerWriter(self.ledger)
        self.in_force = RulesInForce(self.rules, self.live, self.settings)
        self._champion = ChampionWatch(self.settings.bundles, self.in_force.targets)

    def catch_up(self) -> None:
        """Apply what is recorded of the market, see `LiveMarket.catch_up`."""
        self.live.catch_up(self.ledger, self.in_force.cash_assets(), self._wall())

    def score(self, request: ScoreRequest, owner: str, key: str | None, body_sha256: str) -> Answer:
        """Decide on accounts and record every decision before answering.

        Parameters
        ----------
        request:
            The accounts; one that is named twice is decided on neither time.
        owner:
            Whose request it is.
        key:
            Its Idempotency-Key, if any.
        body_sha256:
            SHA-256 of its body.

        Raises
        ------
        ProblemError
            422: the decision time is impossible, or no rules are in force then, or no account
            could be answered; 503: there is no market yet, or no rules are in force now.
        LedgerConflictError
            The key was used with another body.
        LedgerError
            A decision could not be recorded; there is none then.
        """
        if key is not None:
            _check_key(key)
            stored = self.ledger.answers.lookup(owner, key, body_sha256)
            if stored is not None:
                return Answer(stored.response, replayed=True)
        self._count_due()
        snapshot = self._snapshot(request.as_of)
        ruleset = self._rules_of(snapshot, request)
        intake = self._take_in(request.accounts, snapshot)
        book = intake.book()

        def decide_on(names: Sequence[str], previous: Mapping[str, PreviousAddOn]) -> Outcome:
            return self._decide({name: book[name] for name in names}, snapshot, ruleset, previous)

        def encoded(decisions: list[Decision], problems: list[AccountProblem]) -> bytes:
            return msgspec.json.encode(ScoreResponse(decisions, intake.all_problems(problems)))

        def respond(
            decisions: list[Decision], problems: list[AccountProblem]
        ) -> IdempotentAnswer | None:
            if key is None:
                return None
            body = encoded(decisions, problems)
            return IdempotentAnswer(owner, key, body_sha256, 200, body)

        recording = Recording(
            intake.accounts, intake.levels, intake.given, snapshot, ruleset, decide_on, respond
        )
        recording.run()
        try:
            recording.record(self._writer.append_decisions)
        except LedgerDuplicateError as error:
            return Answer(error.answer.response, replayed=True)
        if not recording.decisions:
            raise _nobody(intake.all_problems(recording.problems))
        self.metrics.decisions(recording.decisions)
        return Answer(encoded(recording.decisions, recording.problems))

    def what_if(self, request: WhatIfRequest) -> WhatIfResponse:
        """Decide on accounts before and after changes, with the same add-on in force.

        Nothing is recorded and no decision has an id. What else is asked is asked of the accounts
        as they stand, see `serving.what_if_analysis`.

        Raises
        ------
        ProblemError
            As in `score`, and 422 where a change or question names an account that is not in the
            request, or more is asked than can be answered at once.
        LedgerError
            The add-ons in force cannot be read.
        """
        check_questions(request)
        self._count_due()
        snapshot = self._snapshot(request.as_of)
        ruleset = self._rules_of(snapshot, request)
        intake = self._take_in(request.accounts, snapshot)
        before = intake.book()
        wanted = [change for change in request.changes if change.account_id in before]
        after = apply_changes(before, wanted, trade_prices(snapshot.view(), ruleset))
        standing_now = self._decide(before, snapshot, ruleset, intake.previous)
        changed = self._decide(after, snapshot, ruleset, intake.previous)
        answers = [
            ScoreResponse(outcome.decisions, intake.all_problems(outcome.problems))
            for outcome in (standing_now, changed)
        ]
        if not any(answer.decisions for answer in answers):
            raise _nobody(answers[0].errors)
        sound = {decision.account_id for decision in answers[0].decisions}
        standing = {name: account for name, account in before.items() if name in sound}
        basis = DecisionBasis(snapshot, ruleset, standing_now.model, intake.previous)
        found = answer_questions(request, standing, basis)
        return WhatIfResponse(answers[0], answers[1], found.remedies, found.marginal, found.largest)

    def post_bars(self, request: BarsRequest, owner: str) -> BarsResponse:
        """Take in bars; what is new is on disk before it counts.

        Parameters
        ----------
        request:
            The bars; whether its sender may correct is checked before.
        owner:
            Whose request it is.

        Raises
        ------
        ProblemError
            422: there is no such interval.
        LedgerError
            The bars could not be recorded; the market did not move.
        """
        try:
            Interval.parse(request.interval)
        except MargincastError as error:
            raise invalid(str(error)) from None
        now = self._wall()
        batch = bar_updates(request.bars, now)
        response = self.live.post(
            request.interval,
            batch.updates,
            now=now,
            final=request.final,
            correction=Correction(owner) if request.correct else None,
            record=self._record,
        )
        results = batch.in_order(
            response.results,
            lambda i, why: BarResult(request.bars[i].symbol, "", "rejected", why),
        )
        # Times are answered as they were posted.
        pairs = zip(results, request.bars, strict=True)
        results = [msgspec.structs.replace(result, ts=bar.ts) for result, bar in pairs]
        self.metrics.bars(results)
        return BarsResponse(results, response.as_of)

    def post_quotes(self, request: QuotesRequest) -> QuotesResponse:
        """Take in quotes; what is new is on disk before it counts.

        Raises
        ------
        ProblemError
            503: on the market's clock, there is no market yet.
        LedgerError
            The quotes could not be recorded; the market did not move.
        """
        try:
            now = self._wall()
            batch = quote_updates(request.quotes, now)
            response = self.live.post_quotes(
                batch.updates,
                cash_assets=self.in_force.cash_assets(),
                now=now,
                record=self._writer.append,
            )
        except DataError as error:
            raise unavailable("no-market", str(error)) from None
        results = batch.in_order(
            response.results,
            lambda i, why: QuoteResult(request.quotes[i].instrument, "", "rejected", why),
        )
        pairs = zip(results, request.quotes, strict=True)
        results = [msgspec.structs.replace(r, ts=quote.ts or r.ts) for r, quote in pairs]
        self.metrics.quotes(results)
        return QuotesResponse(results, response.as_of)

    def decision(self, decision_id: str) -> dict[str, Any]:
        """A recorded decision, as `serving.schemas.read_messages.RecordedDecision`.

        Raises
        ------
        ProblemError
            404: there is no such decision.
        LedgerError
            It cannot be read, or was altered.
        """
        wanted = select(records.c.id).where(records.c.id == decision_id)
        wanted = wanted.where(records.c.kind == "decision")
        with database_errors("read"), self.ledger.engine.connect() as connection:
            known = connection.execute(wanted).first() is not None
        if not known:
            raise not_found(f"there is no decision {decision_id!r}; give an id that was returned")
        return recorded(self.ledger.get_record(decision_id))

    def decisions_of(
        self, account_id: str, limit: int | None, before: int | None
    ) -> dict[str, Any]:
        """A page of an account's decisions, as `DecisionPage`; without a
        limit `DEFAULT_PAGE` of them, or as many as a page may hold."""
        if limit is None:
            limit = min(DEFAULT_PAGE, self.settings.max_page)
        if not 1 <= limit <= self.settings.max_page:
            raise invalid(f"limit is {limit}; give 1 to {self.settings.max_page}")
        if before is not None and not 1 <= before <= _MAX_BEFORE:
            raise invalid(f"before is {before}; give next_before of the page before")
        if not _ACCOUNT_ID.fullmatch(account_id):
            raise invalid(
                f"account id {account_id[:_MAX_ID]!r} cannot be one; give 1 to {_MAX_ID} "
                "characters and no control characters, URL-encoded"
            )
        found, more = self.ledger.decisions_of(account_id, limit, before)
        return {"decisions": [recorded(record) for record in found], "next_before": more}

    def model(self) -> ModelInfo:
        """The model that answers.

        Raises
        ------
        ProblemError
            404: there is none.
        """
        champion = self._champion.current()
        if champion.model is None:
            raise not_found(champion.silence)
        bundle = champion.model.bundle
        manifest = bundle.manifest
        return ModelInfo(
            sha256=bundle.sha256,
            horizons=list(bundle.schema.horizons),
            features=list(bundle.schema.features),
            training=manifest["training"],
            training_data_sha256=manifest["training_data_sha256"],
            ruleset_sha256=manifest["ruleset_sha256"],
            metrics=manifest["metrics"],
            versions=manifest["versions"],
        )

    def readiness(self) -> Readiness:
        """Whether a rule floor can be computed and a decision recorded, and what is missing."""
        marked = bool((self.live.moment.mark > 0.0).any())
        unpriced = None if marked else "no symbol has a mark: no rule floor can be computed"
        found = (unpriced, self.in_force.trouble(), self._writer.trouble())
        missing = [reason for reason in found if reason]
        if missing:
            return Readiness("unavailable", missing)
        champion = self._champion.current().answering(self.in_force.targets())
        self._try_count_due()
        snapshot = self._snapshot(None)
        doubts = (
            champion.trouble,
            out_of_force(self.in_force.now(), snapshot.as_of),
            self._market_trouble(),
            self.live.waiting_reason(self._wall()),
            self._suspect_prices(),
            self._context_trouble(champion.model),
        )
        reasons = [reason for reason in doubts if reason]
        return Readiness("degraded" if reasons else "ready", reasons)

    def exposition(self) -> bytes:
        """Metrics in Prometheus text form."""
        model = self._champion.current().model
        self._try_count_due()
        newest, quoted = self.live.newest_close, self.live.moment.quotes.newest
        age, quote_age, usable = float("nan"), float("nan"), 0
        if newest is not None:
            snapshot = self._snapshot(None)
            age = (snapshot.as_of - newest) / SECOND
            usable = int(snapshot.usable().sum())
            if quoted is not None:
                quote_age = (snapshot.as_of - quoted) / SECOND
        sha = model.bundle.sha256 if model else None
        suspects = len(self.live.moment.suspect_prices)
        return self.metrics.exposition(sha, age, quote_age, usable, suspects)

    def _record(self, entry: Entry) -> None:
        self._writer.append([entry])

    def _count_due(self) -> None:
        """Let the steps count whose grace is over; they are on disk before."""
        now = self._wall()
        if now is not None:
            self.live.count_due(now, self._record)

    def _try_count_due(self) -> None:
        """The same where nothing is decided: a ledger that refuses leaves the market as it is."""
        try:
            self._count_due()
        except LedgerError as error:
            _LOG.error("waiting steps cannot be recorded and do not count: %s", error)

    def _snapshot(self, as_of: str | None) -> MarketSnapshot:
        """The market at the decision time of a request."""
        moment = self.live.moment
        newest = moment.newest_known
        if newest is None or moment.newest_close is None:
            raise unavailable("no-market", "the market has no bar yet; post bars first")
        # A clock that was set back must not put the decision before what is known.
        now = max(time.time_ns(), newest)
        mark_max_age = self.settings.mark_max_age
        if as_of is None:
            return moment.snapshot(now if self.settings.clock == "wall" else newest, mark_max_age)
        try:
            given = parse_time(as_of)
            if given > now + _MAX_AHEAD:
                raise invalid(
                    f"as_of {as_of} is more than a day after {format_time(now)}; a decision ahead "
                    "of its time would hold back those that follow"
                )
            return moment.snapshot(given, mark_max_age)
        except DataError as error:
            raise invalid(str(error)) from None

    def _wall(self) -> int | None:
        """The wall clock where it counts."""
        return time.time_ns() if self.settings.clock == "wall" else None

    def _rules_of(self, snapshot: MarketSnapshot, request: ScoreRequest | WhatIfRequest) -> RuleSet:
        return self.in_force.of_decision(snapshot.as_of, asked=request.as_of is not None)

    def _take_in(self, accounts: Sequence[AccountIn], snapshot: MarketSnapshot) -> Intake:
        limit = self.settings.max_history_bytes
        return validate_accounts(accounts, snapshot.as_of, self.ledger, limit)

    def _decide(
        self,
        accounts: Mapping[str, Account],
        snapshot: MarketSnapshot,
        ruleset: RuleSet,
        previous: Mapping[str, PreviousAddOn],
    ) -> Outcome:
        champion = self._champion.current().answering(ruleset.add_on.targets)
        model, no_model, book = champion.model, champion.silence, list(accounts.values())
        try:
            answers = decide(book, snapshot, ruleset, model, previous, no_model=no_model)
        except ModelError as error:
            _LOG.error("the model failed; the rule floor answers: %s", error)
            model, no_model = None, MODEL_FAILED
            answers = decide(book, snapshot, ruleset, model, previous, no_model=no_model)
        return Outcome(
            [answer for answer in answers if isinstance(answer, Decision)],
            [answer for answer in answers if isinstance(answer, AccountProblem)],
            model,
        )

    def _context_trouble(self, model: Forecaster | None) -> str | None:
        return None if model is None else missing_context(self._snapshot(None), model)

    def _market_trouble(self) -> str | None:
        snapshot = self._snapshot(None)
        close = int(snapshot.features.closes[0])
        if snapshot.as_of - close > STALE_INTERVALS * snapshot.interval.nanoseconds:
            return f"stale market data: the newest bar closed at {format_time(close)}"
        usable = snapshot.usable()
        if not usable.any():
            return f"warm-up: no symbol has {WARM_UP_HOURS} h of history and every feature yet"
        if not usable.all():
            symbols = snapshot.features.symbols
            unfit = [name for name, fit in zip(symbols, usable, strict=True) if not fit]
            return f"{len(unfit)} of {len(symbols)} symbols are stale or in warm-up: {named(unfit)}"
        return None

    def _suspect_prices(self) -> str | None:
        """The prices that wait for confirmation."""
        found = self.live.moment.suspect_prices
        if not found:
            return None
        prices = [f"{name} at {price:g} of {format_time(ts)}" for name, price, ts in found]
        return f"{len(found)} suspect price(s) wait for confirmation: {named(prices)}"


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= _MAX_KEY or not (key.isascii() and key.isprintable()):
        raise invalid(f"Idempotency-Key must be 1 to {_MAX_KEY} printable ASCII characters")


def _nobody(problems: Sequence[AccountProblem]) -> ProblemError:
    return ProblemError(
        422,
        "no-account-answered",
        "no account of the request could be answered; errors says why for each",
        problems,
    )
