"""The endpoint's operations without HTTP: decide, what-if, post to the market, look up."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import select

from decisions.account_validation import ValidatedAccounts, validate_accounts
from decisions.book_scoring import DecisionBasis, PreviousAddOn
from decisions.decision import Outcome
from decisions.errors import NoAccountScoredError, NotFoundError, RequestError
from decisions.messages import AccountProblem, Decision, ScoreRequest, ScoreResponse
from decisions.records import Recording
from decisions.what_if.changes import apply_changes, trade_prices
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from decisions.what_if.what_if_analysis import analyse, check_analysis
from features.state.snapshot import MarketSnapshot
from ledger.idempotency import IdempotentAnswer, LedgerDuplicateError
from ledger.records import Entry
from ledger.schema import database_errors, records
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.core.clock import SECOND, Interval
from market.core.errors import LedgerError, MargincastError
from market.sources.http import bar_updates, quote_updates
from monitoring.champion import ChampionWatch
from monitoring.ledger_writer import LedgerWriter
from monitoring.market_state.bar_updates import Correction
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarResult, BarsRequest, BarsResponse
from monitoring.quotes.messages import QuoteResult, QuotesRequest, QuotesResponse
from monitoring.readiness import health_errors, health_warnings
from monitoring.rules_in_force import RulesInForce
from serving.http.metrics import Metrics
from serving.schemas.read_messages import ModelInfo, Readiness, RuleSetInfo, recorded
from serving.settings import ServingSettings

DEFAULT_PAGE = 50
"""Decisions of a page where no limit is given."""

_MAX_KEY = 200
_MAX_BEFORE = 2**53
_MAX_ID = 128
_ACCOUNT_ID = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")
"""As `market.sources.http.Name`."""
_LOG = logging.getLogger("margincast.serving")


@dataclass(frozen=True, slots=True)
class EncodedResponse:
    """An encoded response, and whether it repeats a stored one."""

    body: bytes
    replayed: bool = False


@dataclass(slots=True)
class Service:
    """The operations of an endpoint. Safe to use from several threads.

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
        self.in_force = RulesInForce(self.rules, self.live, self.settings.clock)
        self._champion = ChampionWatch(self.settings.bundles, self.in_force.targets)

    def recover(self) -> None:
        """Apply the recorded bars and quotes, see `LiveMarket.recover`."""
        self.live.recover(self.ledger, self.in_force.cash_assets(), self._wall())

    def score(
        self, request: ScoreRequest, owner: str, key: str | None, body_sha256: str
    ) -> EncodedResponse:
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
        RequestError
            The decision time is impossible, no rules are in force then, or no account could be
            decided on.
        NoMarketError, NoRulesError
            There is no market yet, or no rules are in force now.
        LedgerConflictError
            The key was used with another body.
        LedgerError
            A decision could not be recorded; there is none then.
        """
        if key is not None:
            _check_key(key)
            stored = self.ledger.answers.lookup(owner, key, body_sha256)
            if stored is not None:
                return EncodedResponse(stored.response, replayed=True)
        snapshot, ruleset, validated = self._validated(request)

        def decide_on(names: Sequence[str], previous: Mapping[str, PreviousAddOn]) -> Outcome:
            chosen = [validated.accounts[name] for name in names]
            return self._champion.current().decide(chosen, snapshot, ruleset, previous)

        def encoded(decisions: list[Decision], problems: list[AccountProblem]) -> bytes:
            return msgspec.json.encode(ScoreResponse(decisions, validated.all_problems(problems)))

        def respond(
            decisions: list[Decision], problems: list[AccountProblem]
        ) -> IdempotentAnswer | None:
            if key is None:
                return None
            body = encoded(decisions, problems)
            return IdempotentAnswer(owner, key, body_sha256, 200, body)

        recording = Recording(
            validated.requests,
            validated.levels,
            validated.stated,
            snapshot,
            ruleset,
            decide_on,
            respond,
        )
        recording.run()
        try:
            recording.record(self._writer.append_decisions)
        except LedgerDuplicateError as error:
            return EncodedResponse(error.answer.response, replayed=True)
        if not recording.decisions:
            raise NoAccountScoredError(validated.all_problems(recording.problems))
        self.metrics.decisions(recording.decisions)
        return EncodedResponse(encoded(recording.decisions, recording.problems))

    def what_if(self, request: WhatIfRequest) -> WhatIfResponse:
        """Decide on accounts before and after changes, with the same add-on in force.

        Nothing is recorded and no decision has an id. The analysis is of the accounts as they
        stand, see `decisions.what_if.what_if_analysis`.

        Raises
        ------
        RequestError
            As in `score`; or an account is named that is not in the request, or more is requested
            than one call takes.
        NoMarketError, NoRulesError
            As in `score`.
        LedgerError
            The add-ons in force cannot be read.
        """
        check_analysis(request)
        snapshot, ruleset, validated = self._validated(request)
        before, previous = validated.accounts, validated.previous
        changes = [change for change in request.changes if change.account_id in before]
        after = apply_changes(before, changes, trade_prices(snapshot.view(), ruleset))
        outcomes = [
            self._champion.current().decide(list(book.values()), snapshot, ruleset, previous)
            for book in (before, after)
        ]
        responses = [
            ScoreResponse(outcome.decisions, validated.all_problems(outcome.problems))
            for outcome in outcomes
        ]
        if not any(response.decisions for response in responses):
            raise NoAccountScoredError(responses[0].errors)
        decided = {decision.account_id for decision in responses[0].decisions}
        standing = {name: account for name, account in before.items() if name in decided}
        basis = DecisionBasis(snapshot, ruleset, outcomes[0].model, previous)
        analysis = analyse(request, standing, basis)
        return WhatIfResponse(
            responses[0], responses[1], analysis.remedies, analysis.marginal, analysis.largest
        )

    def post_bars(self, request: BarsRequest, owner: str) -> BarsResponse:
        """Post bars to the live market; what is new is on disk before it counts.

        Parameters
        ----------
        request:
            The bars; whether its sender may correct is checked before.
        owner:
            Whose request it is.

        Raises
        ------
        RequestError
            There is no such interval.
        LedgerError
            The bars could not be recorded; the market did not move.
        """
        try:
            Interval.parse(request.interval)
        except MargincastError as error:
            raise RequestError(str(error)) from None
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
        """Post quotes to the live market; what is new is on disk before it counts.

        Raises
        ------
        NoMarketError
            On the market's clock, there is no market yet.
        LedgerError
            The quotes could not be recorded; the market did not move.
        """
        now = self._wall()
        batch = quote_updates(request.quotes, now)
        response = self.live.post_quotes(
            batch.updates,
            cash_assets=self.in_force.cash_assets(),
            now=now,
            record=self._writer.append,
        )
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
        NotFoundError
            There is no such decision.
        LedgerError
            It cannot be read, or was altered.
        """
        query = select(records.c.id).where(records.c.id == decision_id)
        query = query.where(records.c.kind == "decision")
        with database_errors("read"), self.ledger.engine.connect() as connection:
            known = connection.execute(query).first() is not None
        if not known:
            raise NotFoundError(
                f"there is no decision {decision_id!r}; give an id that was returned"
            )
        return recorded(self.ledger.get_record(decision_id))

    def decisions_of(
        self, account_id: str, limit: int | None, before: int | None
    ) -> dict[str, Any]:
        """A page of an account's decisions, as `DecisionPage`; without a limit of `DEFAULT_PAGE`
        decisions, or as many as a page may hold.

        Raises
        ------
        RequestError
            The limit, the cursor or the account id is impossible.
        """
        if limit is None:
            limit = min(DEFAULT_PAGE, self.settings.max_page)
        if not 1 <= limit <= self.settings.max_page:
            raise RequestError(f"limit is {limit}; give 1 to {self.settings.max_page}")
        if before is not None and not 1 <= before <= _MAX_BEFORE:
            raise RequestError(f"before is {before}; give next_before of the page before")
        if not _ACCOUNT_ID.fullmatch(account_id):
            raise RequestError(
                f"account id {account_id[:_MAX_ID]!r} cannot be one; give 1 to {_MAX_ID} "
                "characters and no control characters, URL-encoded"
            )
        page, more = self.ledger.decisions_of(account_id, limit, before)
        return {"decisions": [recorded(record) for record in page], "next_before": more}

    def model(self) -> ModelInfo:
        """The model that answers.

        Raises
        ------
        NotFoundError
            There is none.
        """
        champion = self._champion.current()
        if champion.model is None:
            raise NotFoundError(champion.unavailable_reason)
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

    def ruleset(self, as_of: str | None) -> RuleSetInfo:
        """The version of the rules in force at an ISO 8601 time, or now.

        Raises
        ------
        RequestError, NotFoundError
            As `RulesInForce.at`.
        """
        ruleset = self.in_force.at(as_of)
        return RuleSetInfo(ruleset.sha256, ruleset.content())

    def readiness(self) -> Readiness:
        """Whether a rule floor can be computed and a decision recorded, and what is missing."""
        errors = health_errors(self.live.state, self.in_force, self._writer)
        if errors:
            return Readiness("unavailable", errors)
        champion = self._champion.current().for_horizons(self.in_force.targets())
        self._try_count_due()
        ruleset, snapshot = self.in_force.now(), self._snapshot(None)
        warnings = health_warnings(self.live, snapshot, ruleset, champion, self._wall())
        return Readiness("degraded" if warnings else "ready", warnings)

    def exposition(self) -> bytes:
        """Metrics in Prometheus text form."""
        model = self._champion.current().model
        self._try_count_due()
        newest, quoted = self.live.newest_close, self.live.state.quotes.newest
        age, quote_age, usable = float("nan"), float("nan"), 0
        if newest is not None:
            snapshot = self._snapshot(None)
            age = (snapshot.as_of - newest) / SECOND
            usable = int(snapshot.usable().sum())
            if quoted is not None:
                quote_age = (snapshot.as_of - quoted) / SECOND
        sha = model.bundle.sha256 if model else None
        suspects = len(self.live.state.suspect_prices)
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

    def _validated(
        self, request: ScoreRequest | WhatIfRequest
    ) -> tuple[MarketSnapshot, RuleSet, ValidatedAccounts]:
        """Market and rules at the decision time of a request, and its accounts."""
        self._count_due()
        snapshot = self._snapshot(request.as_of)
        ruleset = self.in_force.of_decision(snapshot.as_of, requested=request.as_of is not None)
        limit = self.settings.max_history_bytes
        accounts = validate_accounts(request.accounts, snapshot.as_of, self.ledger, limit)
        return snapshot, ruleset, accounts

    def _snapshot(self, as_of: str | None) -> MarketSnapshot:
        """The market at the decision time of a request."""
        settings = self.settings
        return self.live.state.decision_snapshot(as_of, settings.clock, settings.mark_max_age)

    def _wall(self) -> int | None:
        """The wall clock where it counts."""
        return time.time_ns() if self.settings.clock == "wall" else None


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= _MAX_KEY or not (key.isascii() and key.isprintable()):
        raise RequestError(f"Idempotency-Key must be 1 to {_MAX_KEY} printable ASCII characters")
