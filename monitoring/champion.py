"""The champion: the bundle that answers now, followed through its pointer file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from decisions.book_scoring import PreviousAddOn
from decisions.decision import NO_BUNDLE, Outcome, decide
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account
from market.core.errors import BundleError, MargincastError, ModelError
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, read_pointer
from models.bundle.self_test import SelfTestError, self_test
from models.forecaster import Forecaster

MODEL_FAILED = "no model: the model failed to answer"

CHECK_SECONDS = 1.0
"""The pointer is read no more often than this."""

RETRY_SECONDS = 30.0
"""Time after which a bundle that failed its audit is tried again, in case it was restored. A
disabled one is not tried again."""

MOST_FAILURES = 3
"""Different calls in a row on which a model fails before it is tested again."""

TEST_SECONDS = 30.0
"""Shortest time between two tests of a model."""

_LOG = logging.getLogger("margincast.serving")

_Signature = tuple[int, int, int]


class ModelFailures:
    """Failures of one model since it last answered. Safe to use from several threads.

    The same accounts in the same market count once: they may be all that the model fails on.

    Attributes
    ----------
    tested:
        When it passed its self-test again, on the monotonic clock; None: it was not tested.
    """

    def __init__(self) -> None:
        self.tested: float | None = None
        self._lock = threading.Lock()
        self._calls: set[Hashable] = set()

    def failed(self, call: Hashable) -> None:
        """Count a failure on a call."""
        with self._lock:
            if len(self._calls) < MOST_FAILURES:
                self._calls.add(call)

    def answered(self) -> None:
        """The model answered: forget earlier failures."""
        if self._calls:
            with self._lock:
                self._calls.clear()

    @property
    def too_many(self) -> bool:
        """Whether the model is to be tested."""
        early = self.tested is not None and time.monotonic() - self.tested < TEST_SECONDS
        return len(self._calls) >= MOST_FAILURES and not early

    def passed(self) -> bool:
        """Note that the model passed its self-test; returns whether for the first time."""
        first, self.tested = self.tested is None, time.monotonic()
        self.answered()
        return first


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that answers now.

    Attributes
    ----------
    model:
        The model, or None: the rule floor answers.
    unavailable_reason:
        Why there is none; empty with a model.
    health_error:
        What is wrong with the bundle that should answer; None if nothing is.
    failures:
        Counts how often the model fails.
    """

    model: Forecaster | None
    unavailable_reason: str
    health_error: str | None
    failures: ModelFailures = field(default_factory=ModelFailures, compare=False)

    def for_horizons(self, horizons: Collection[int]) -> Champion:
        """This champion, or one without a model if the model lacks a horizon of the rules."""
        if self.model is None:
            return self
        missing = sorted(set(horizons) - set(self.model.horizons))
        if not missing:
            return self
        name = self.model.bundle.sha256[:12]
        cause = f"bundle {name} lacks horizons {missing} h, which the rule set in force targets"
        return Champion(None, f"no model: {cause}", f"{cause}: no model answers")

    def decide(
        self,
        accounts: Sequence[Account],
        snapshot: MarketSnapshot,
        ruleset: RuleSet,
        previous: Mapping[str, PreviousAddOn],
        explain: Collection[str] = (),
    ) -> Outcome:
        """Decide on accounts; by the rule floor where the model does not fit the rules.

        Parameters are those of `decisions.decision.decide`.

        Raises
        ------
        ModelError
            The model failed.
        """
        champion = self.for_horizons(ruleset.add_on.targets)
        results = decide(
            accounts,
            snapshot,
            ruleset,
            champion.model,
            previous,
            no_model=champion.unavailable_reason,
            explain=explain,
        )
        if champion.model is not None:
            self.failures.answered()
        return Outcome.of(results, champion.model)

    def decide_or_degrade(
        self,
        accounts: Sequence[Account],
        snapshot: MarketSnapshot,
        ruleset: RuleSet,
        previous: Mapping[str, PreviousAddOn],
        explain: Collection[str] = (),
    ) -> Outcome:
        """Decide on accounts as `decide`, by the rule floor also where the model fails.

        An unexpected error is raised only if the rule floor fails as well.
        """
        try:
            return self.decide(accounts, snapshot, ruleset, previous, explain)
        except ModelError as error:
            names = frozenset(account.account_id for account in accounts)
            self.failures.failed((snapshot.as_of, names))
            _LOG.error("the model failed; the rule floor answers: %s", error)
        except MargincastError:
            raise
        except Exception:
            if self.model is None:
                raise
            _LOG.exception("an unexpected error with the model; the rule floor answers")
        failed = Champion(None, MODEL_FAILED, None)
        return failed.decide(accounts, snapshot, ruleset, previous, explain)


class ChampionWatch:
    """Follows a pointer file: audits a new bundle, then switches to it, else keeps the old model.

    A model that fails on `MOST_FAILURES` calls in a row is tested again in a thread. If it passes,
    it stays in use; else it is disabled until the pointer file is written again, and the rule floor
    answers.

    The first bundle is there when this is made; a later one is loaded and audited in a thread, one
    at a time, and the old model answers meanwhile.

    Parameters
    ----------
    bundles:
        Folder of the bundles and of the pointer file.
    horizons:
        Returns the horizons in hours that the rule set in force targets; a bundle without one of
        them is refused.
    pointer:
        Name of the pointer file, see `models.bundle.pointer`.
    """

    def __init__(
        self, bundles: Path, horizons: Callable[[], Collection[int]], pointer: str = CHAMPION
    ) -> None:
        self._bundles, self._pointer = bundles, pointer
        self._horizons = horizons
        self._lock = threading.Lock()
        self._signature: _Signature | None = None
        self._tried = self._checked = time.monotonic()
        self._champion = Champion(None, NO_BUNDLE, NO_BUNDLE)
        self._loading = self._testing = False
        self._disabled: str | None = None
        sha = self._refresh()
        if sha is not None:
            self._switch(sha)

    def current(self) -> Champion:
        """The champion now; never waits for a bundle that loads."""
        due = time.monotonic() - self._checked >= CHECK_SECONDS
        if due and not self._loading and self._lock.acquire(blocking=False):
            try:
                if not self._loading and (sha := self._refresh()) is not None:
                    self._start_loading(sha)
            finally:
                self._lock.release()
        champion = self._champion
        if champion.failures.too_many and not self._testing:
            self._start_test(champion)
        return champion

    def _start_test(self, failing: Champion) -> None:
        """Test a failing model in a thread; it stays in use meanwhile."""
        model = failing.model
        if model is None:
            return

        def test() -> None:
            bundle = model.bundle
            try:
                self_test(
                    bundle.scorer, bundle.schema, bundle.trees, bundle.calibration, bundle.priors
                )
            except SelfTestError as error:
                self._disable(failing, error)
            else:
                if failing.failures.passed():
                    _LOG.warning(
                        "bundle %s failed on %d calls in a row and passed its self-test: it stays "
                        "in use, the rule floor answers the calls on which it fails",
                        *(model.bundle.sha256[:12], MOST_FAILURES),
                    )
            finally:
                self._testing = False

        with self._lock:
            if self._testing:
                return
            self._testing = True
        try:
            threading.Thread(target=test, name="test-bundle", daemon=True).start()
        except RuntimeError as error:  # no thread available: the next call tries again
            self._testing = False
            _LOG.warning("%s was not tested: %s", self._pointer, error)

    def _disable(self, failed: Champion, error: SelfTestError) -> None:
        """Let the rule floor answer in place of a model that fails its self-test."""
        with self._lock:
            if self._champion.model is failed.model and failed.model is not None:
                self._disabled = failed.model.bundle.sha256
                cause = f"bundle {self._disabled[:12]} failed to answer and was disabled"
                _LOG.error("%s (%s); point %s to another bundle", cause, error, self._pointer)
                self._champion = Champion(None, f"no model: {cause}", f"{cause}: no model answers")

    def _refresh(self) -> str | None:
        """Read the pointer; returns the bundle to load if it changed."""
        self._checked = time.monotonic()
        # The signature is taken first: a pointer replaced while it is read shows the next time.
        try:
            signature = _signature(self._bundles / self._pointer)
        except OSError as error:
            _LOG.warning("the pointer file %s cannot be looked at: %s", self._pointer, error)
            self._keep("the pointer file cannot be read")
            return None
        failed = (
            self._champion.health_error is not None and self._checked - self._tried >= RETRY_SECONDS
        )
        if signature == self._signature and not failed:
            return None
        if signature != self._signature:
            self._disabled = None
        self._signature, self._tried = signature, self._checked
        return self._follow()

    def _follow(self) -> str | None:
        try:
            sha = read_pointer(self._bundles, self._pointer)
        except (ModelError, OSError) as error:
            _LOG.warning("the pointer file %s cannot be followed: %s", self._pointer, error)
            self._keep("the pointer file failed its audit")
            return None
        model = self._champion.model
        if sha is None:
            self._champion = Champion(None, NO_BUNDLE, NO_BUNDLE)
        elif sha == self._disabled:
            return None
        elif model is None or model.bundle.sha256 != sha:
            return sha
        else:
            self._champion = Champion(model, "", None, self._champion.failures)
        return None

    def _start_loading(self, sha: str) -> None:
        """Load a bundle in a thread; the pointer is not read again until it is loaded."""

        def load() -> None:
            try:
                self._switch(sha)
            finally:
                self._loading = False

        self._loading = True
        try:
            threading.Thread(target=load, name="load-bundle", daemon=True).start()
        except RuntimeError as error:  # no thread available
            self._loading = False
            _LOG.warning("%s %s was not loaded: %s", self._pointer, sha, error)
            self._keep(f"bundle {sha[:12]} could not be loaded")

    def _switch(self, sha: str) -> None:
        try:
            model = self._load(sha)
        except (ModelError, OSError) as error:
            _LOG.warning("%s %s was not loaded: %s", self._pointer, sha, error)
            test = "self-test" if isinstance(error, SelfTestError) else "audit"
            self._keep(f"bundle {sha[:12]} failed its {test}")
        except Exception:  # noqa: BLE001 - the old model answers, whatever it is
            _LOG.exception("%s %s was not loaded", self._pointer, sha)
            self._keep(f"bundle {sha[:12]} could not be loaded")
        else:
            with self._lock:
                self._champion = Champion(model, "", None)

    def _load(self, sha: str) -> Forecaster:
        model = Forecaster(load_bundle(self._bundles / sha))
        missing = sorted(set(self._horizons()) - set(model.horizons))
        if missing:
            raise BundleError(
                f"the rule set targets horizons {missing} h and bundle {sha} answers "
                f"{list(model.horizons)} h; retrain with them"
            )
        _LOG.info("%s is now bundle %s", self._pointer, sha)
        return model

    def _keep(self, cause: str) -> None:
        """Keep the current model, and name what is wrong."""
        model = self._champion.model
        if model is None:
            self._champion = Champion(None, f"no model: {cause}", f"{cause}: no model answers")
        else:
            old = model.bundle.sha256[:12]
            error = f"{cause}: bundle {old} keeps answering"
            self._champion = Champion(model, "", error, self._champion.failures)


def _signature(path: Path) -> _Signature | None:
    """What changes when the pointer is replaced; None where there is no file."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
