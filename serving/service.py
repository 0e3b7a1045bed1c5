"""The endpoint's operations without HTTP: decide, what-if, post to the market, look up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from decisions.account_validation import validate_accounts
from decisions.batch import EncodedResponse, ScoreBatch, ScoreCall
from decisions.book_scoring import DecisionBasis
from decisions.decision_group import CallBasis, DecisionMaker, PendingCall
from decisions.errors import (
    NoAccountScoredError,
    NoMarketError,
    NotFoundError,
)
from decisions.levels_in_force import LevelsInForce, altered_problem
from decisions.messages import AccountChange, AccountProblem, Decision, ScoreResponse
from decisions.what_if.changes import apply_changes, trade_prices
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from decisions.what_if.scenario_grid import ScenarioGrid, scenario_grid
from decisions.what_if.shocks import enter_before_shock, shock_market
from decisions.what_if.what_if_analysis import analyse, check_analysis
from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.what_if.shocks import Shocks
from market.accounts.book import Account
from market.core.errors import DataError, LedgerError, MargincastError, RuleSetError
from market.core.redaction import withholding
from models.bundle.pointer import CHALLENGER
from monitoring.champion import Champion, ChampionWatch
from monitoring.evaluation.book_follower import BookFollower
from monitoring.evaluation.record.book_totals import TotalsHistory
from monitoring.evaluation.view import BookView
from monitoring.follower import Follower
from monitoring.ledger_writer import LedgerWriter
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarsRequest
from monitoring.quotes.messages import QuotesRequest
from monitoring.readiness import health_errors, health_warnings
from monitoring.recorded_models import RecordedModels
from monitoring.rules_in_force import RulesInForce
from monitoring.shadow import ShadowCall, ShadowScorer
from monitoring.shared_market import PostOrigin, SharedMarket
from monitoring.warm_up import warm_up
from serving.http.problems import encoded_refusal
from serving.market_posts import MarketPosts
from serving.recorded_decisions import RecordedDecisions
from serving.schemas.read_messages import (
    ModelInfo,
    Readiness,
    RuleSetInfo,
)
from serving.settings import ServingSettings
from serving.telemetry.metrics.market_facts import MarketFactsReader
from serving.telemetry.metrics.metrics import Metrics
from serving.telemetry.stages import BatchClock

_UNCOUNTED = "waiting steps cannot count, the log has the cause: the market is older than its bars"
_LOG = logging.getLogger("margincast.serving")


@dataclass(slots=True)
class Service:
    """The operations of an endpoint. Safe to use from several threads.

    Attributes
    ----------
    settings, ledger, rules, live, metrics:
        What it works with and under which limits.
    in_force:
        Which version of the rules applies.
    follower:
        Keeps the market at the end of the market chain while its block is entered.
    shadow:
        Scores recorded decisions with the challenger; to be started and closed by the caller.
    facts:
        Reads what metrics say of market and model.
    book:
        The live book and its evaluations.
    book_follower:
        Keeps it current while its block is entered.
    decisions:
        Reads and replays recorded decisions.
    totals:
        Totals of the live book over time.
    """

    settings: ServingSettings
    ledger: Ledger
    rules: RuleHistory
    live: LiveMarket
    metrics: Metrics
    in_force: RulesInForce = field(init=False)
    follower: Follower = field(init=False)
    shadow: ShadowScorer = field(init=False)
    facts: MarketFactsReader = field(init=False)
    book: BookView = field(init=False)
    decisions: RecordedDecisions = field(init=False)
    book_follower: BookFollower = field(init=False)
    totals: TotalsHistory = field(init=False)
    _champion: ChampionWatch = field(init=False)
    _market: SharedMarket = field(init=False)
    _posts: MarketPosts = field(init=False)
    _levels: LevelsInForce = field(init=False)
    _writer: LedgerWriter = field(init=False)
    _uncounted: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._writer = LedgerWriter(self.ledger, self.metrics.appended)
        self.book = BookView(self.ledger)
        self.book_follower = BookFollower(self.ledger, self.book)
        self.totals = TotalsHistory(self.ledger)
        followed = self.book.level if self.settings.monitoring else None
        self._levels = LevelsInForce(self.ledger, evaluated=followed)
        self.in_force = RulesInForce(self.rules, self.live, self.settings.clock)
        cash_assets = self.in_force.cash_assets()
        self._market = SharedMarket(self.live, self.ledger, self._writer, cash_assets)
        self._posts = MarketPosts(self._market, self.metrics)
        self.follower = Follower(self._market)
        bundles, targets = self.settings.bundles, self.in_force.targets
        self._champion = ChampionWatch(bundles, targets)
        self.facts = MarketFactsReader(self._champion, self.live, lambda: self._snapshot(None))
        models = RecordedModels(bundles, self._champion)
        self.decisions = RecordedDecisions(self.ledger, models, self.settings.max_page)
        challenger = ChampionWatch(bundles, targets, CHALLENGER)
        self.shadow = ShadowScorer(self.ledger, challenger, self.metrics.shadow)

    def recover(self) -> None:
        """Apply the recorded bars and quotes, see `SharedMarket.recover`."""
        self._market.recover(self._wall())

    def warm_up(self) -> None:
        """Score synthetic accounts and record nothing, see `monitoring.warm_up`.

        Without rules in force or a market nothing is scored; requests report it.
        """
        with suppress(NoMarketError, RuleSetError):
            warm_up(self._champion.current(), self._snapshot(None), self.in_force.now())

    def read_book(self) -> None:
        """Read the live book and its evaluations, and evaluate it once, so that no request does.

        Nothing where no live book is monitored. What cannot be read is left to `book_follower`,
        which reads it again and tells readiness why it cannot.
        """
        if not self.settings.monitoring:
            return
        with suppress(LedgerError, NoMarketError, RuleSetError):
            self.book.follow()
            self.book.at(self._snapshot(None), self.in_force.now())

    def score_many(self, calls: Sequence[ScoreCall]) -> list[EncodedResponse | MargincastError]:
        """Decide on calls in arrival order and record every decision before answering.

        Calls without a decision time share one market. All are recorded in one transaction, and
        each result is the one that the call would get alone.

        Parameters
        ----------
        calls:
            The calls, in the order of their arrival.

        Returns
        -------
        In the order of the calls, its response, which may repeat a refusal, or its error:

        - `RequestError`: the decision time or the key is impossible, no rules are in force then,
          or no account could be decided on;
        - `NoMarketError`, `NoRulesError`: there is no market yet, or no rules are in force now;
        - `LedgerConflictError`: the key was used with another body;
        - `CallFailedError`: an unexpected error ended it;
        - `LedgerError`: its decisions could not be recorded; there are none then.
        """
        with withholding(lambda: _account_ids(calls)):
            return self._score_many(calls)

    def _score_many(self, calls: Sequence[ScoreCall]) -> list[EncodedResponse | MargincastError]:
        batch, clock = ScoreBatch(calls), BatchClock()
        batch.answer_repeated(self.ledger.answers)
        if batch.open:
            try:
                self._count_due()
            except LedgerError as error:
                batch.fail(error)
            batch.validate(self._basis(), self.settings.max_history_bytes)
            champion = self._champion.current()
            maker = DecisionMaker(
                self._levels,
                champion.decide,
                champion.decide_or_degrade,
                clock.timed(self._writer.append_decisions),
                encoded_refusal,
            )
            decided = batch.decide_and_record(maker)
            clock.finish(self.metrics)
            self._note(decided)
        return batch.results()

    def _note(self, calls: Sequence[PendingCall]) -> None:
        """Count the decisions of recorded calls, and let the challenger score them."""
        self.metrics.decisions([decision for call in calls for decision in call.decisions])
        if not self.shadow.active:
            return
        for call in calls:
            if isinstance(call.basis, MargincastError):
                continue
            self.shadow.submit(
                ShadowCall(
                    [str(decision.decision_id) for decision in call.decisions],
                    [call.validated.accounts[d.account_id] for d in call.decisions],
                    call.basis.snapshot,
                    call.basis.ruleset,
                    call.previous,
                )
            )

    def what_if(self, request: WhatIfRequest) -> WhatIfResponse:
        """Decide on accounts before and after changes, with the same add-on in force.

        Nothing is recorded and no decision has an id. The analysis is of the accounts as they
        stand, see `decisions.what_if.what_if_analysis`. With shocks it and the decisions after the
        changes are those in the shocked market; trades are done at the marks before.

        Raises
        ------
        RequestError
            As in `score_many`; or an account is named that is not in the request, or more is
            requested than one call takes.
        NoMarketError, NoRulesError
            As in `score_many`.
        LedgerError
            The add-ons in force cannot be read.
        """
        check_analysis(request)
        self._count_due()
        basis = self._basis()(request.as_of)
        snapshot, ruleset = basis.snapshot, basis.ruleset
        limit = self.settings.max_history_bytes
        validated = validate_accounts(request.accounts, snapshot.as_of, limit)
        validated, previous = self._levels.apply(validated)
        before = validated.accounts
        changes = [change for change in request.changes if change.account_id in before]
        prices = trade_prices(snapshot.view(), ruleset)
        after, market, standing = apply_changes(before, changes, prices), snapshot, before
        if request.shocks is not None:
            market = shock_market(snapshot, request.shocks)
        if market is not snapshot:
            after, standing = (enter_before_shock(book, prices) for book in (after, before))
        champion = self._champion.current()
        explain = list(before) if request.explain else ()
        outcomes = [
            champion.decide_or_degrade(list(book.values()), at, ruleset, previous, explain)
            for book, at in ((before, snapshot), (after, market))
        ]
        responses = [
            ScoreResponse(outcome.decisions, validated.all_problems(outcome.problems))
            for outcome in outcomes
        ]
        if not any(response.decisions for response in responses):
            raise NoAccountScoredError(responses[0].errors)
        decided = {decision.account_id for decision in responses[0].decisions}
        standing = {name: account for name, account in standing.items() if name in decided}
        decided_by = DecisionBasis(market, ruleset, outcomes[0].model, previous)
        analysis = analyse(request, standing, decided_by)
        return WhatIfResponse(
            responses[0], responses[1], analysis.remedies, analysis.marginal, analysis.largest
        )

    def scenario_grid(
        self,
        account: Account,
        changes: Sequence[AccountChange],
        scenarios: Sequence[Shocks],
        *,
        probability: bool,
    ) -> ScenarioGrid:
        """Figures of one account after changes in shocked markets, as `what_if` decides in each,
        see `decisions.what_if.scenario_grid`; raises as `what_if`."""
        basis = self.basis_now()
        snapshot, ruleset = basis.snapshot, basis.ruleset
        prices = trade_prices(snapshot.view(), ruleset)
        after = apply_changes({account.account_id: account}, changes, prices)
        model = self._champion.current().for_horizons(ruleset.add_on.targets).model
        return scenario_grid(
            after[account.account_id],
            scenarios,
            DecisionBasis(snapshot, ruleset, model, {}),
            probability=probability,
        )

    def explained_now(self, account: Account, basis: CallBasis) -> Decision | AccountProblem:
        """What a score with ``explain`` would answer on an account; nothing is recorded.

        Raises
        ------
        LedgerError
            The add-on in force cannot be read.
        """
        name = account.account_id
        found = self._levels.of([name])[name]
        altered = altered_problem(name, found)
        if altered is not None:
            return altered
        previous = {} if found.level is None else {name: found.level}
        outcome = self._champion.current().decide_or_degrade(
            [account], basis.snapshot, basis.ruleset, previous, [name]
        )
        return outcome.decisions[0] if outcome.decisions else outcome.problems[0]

    def post_bars(self, request: BarsRequest, sender: PostOrigin) -> EncodedResponse:
        """Post bars, see `serving.market_posts.MarketPosts.bars`."""
        return self._posts.bars(request, sender, self._wall())

    def post_quotes(self, request: QuotesRequest, sender: PostOrigin) -> EncodedResponse:
        """Post quotes, see `serving.market_posts.MarketPosts.quotes`."""
        return self._posts.quotes(request, sender, self._wall())

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

    def champion(self) -> Champion:
        """The model that answers, or why there is none."""
        return self._champion.current()

    def ruleset(self, as_of: str | None) -> RuleSetInfo:
        """The version of the rules in force at an ISO 8601 time, or now.

        Raises
        ------
        RequestError, NotFoundError
            As `RulesInForce.at`.
        """
        ruleset = self.in_force.at(as_of)
        return RuleSetInfo(ruleset.sha256, ruleset.content())

    def readiness(self, queue_error: str | None = None) -> Readiness:
        """Whether a rule floor can be computed and a decision recorded, and what is missing.

        Parameters
        ----------
        queue_error:
            Why no call reaches `score_many`; None if calls do.
        """
        errors = health_errors(self.live.state, self.in_force, self._writer, self.follower)
        errors += [queue_error] if queue_error else []
        if errors:
            return Readiness("unavailable", errors)
        champion = self._champion.current().for_horizons(self.in_force.targets())
        self._try_count_due()
        ruleset, snapshot = self.in_force.now(), self._snapshot(None)
        warnings = health_warnings(self.live, snapshot, ruleset, champion, self._wall())
        warnings += [_UNCOUNTED] if self._uncounted else []
        unwatched = self.book_follower.health_warning() if self.settings.monitoring else None
        warnings += [unwatched] if unwatched else []
        return Readiness("degraded" if warnings else "ready", warnings)

    def basis_now(self) -> CallBasis:
        """Market and rules now; raises as `score_many` answers."""
        self._count_due()
        return self._basis()(None)

    def horizons(self) -> tuple[int, ...]:
        """Horizons in hours of the model that answers; none without one."""
        model = self._champion.current().model
        return () if model is None else tuple(model.horizons)

    def _count_due(self) -> None:
        """Let the steps count whose grace is over; they are on disk before.

        Steps that cannot count leave the market as it is, here and in every other process: it is
        decided on, and readiness is degraded.

        Raises
        ------
        LedgerError
            They cannot be recorded, or this process does not follow the market chain.
        """
        self._market.check_following()
        now = self._wall()
        if now is None:
            return
        try:
            self._market.count_due(now)
        except DataError as error:
            if str(error) != self._uncounted:
                _LOG.error("waiting steps cannot count, the market stays as it is: %s", error)
            self._uncounted = str(error)
        else:
            self._uncounted = ""

    def _try_count_due(self) -> None:
        """As `_count_due`, but a failure of the ledger is logged and leaves the market as it is."""
        try:
            self._count_due()
        except LedgerError as error:
            _LOG.error("waiting steps cannot be recorded and do not count: %s", error)

    def _basis(self) -> Callable[[str | None], CallBasis]:
        """Gives market and rules at the decision time of a request, by the market as it is now."""
        state, settings = self.live.state, self.settings

        def basis(as_of: str | None) -> CallBasis:
            snapshot = state.decision_snapshot(as_of, settings.clock, settings.mark_max_age)
            ruleset = self.in_force.of_decision(snapshot.as_of, requested=as_of is not None)
            return CallBasis(snapshot, ruleset)

        return basis

    def _snapshot(self, as_of: str | None) -> MarketSnapshot:
        """The market at the decision time of a request."""
        settings = self.settings
        return self.live.state.decision_snapshot(as_of, settings.clock, settings.mark_max_age)

    def _wall(self) -> int | None:
        """The wall clock; None on the market's clock."""
        return time.time_ns() if self.settings.clock == "wall" else None


def _account_ids(calls: Sequence[ScoreCall]) -> Iterator[str]:
    return (account.account_id for call in calls for account in call.request.accounts)
