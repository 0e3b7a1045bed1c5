"""The champion: the bundle that answers now, followed through its pointer file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from decisions.book_scoring import PreviousAddOn
from decisions.decision import NO_BUNDLE, Outcome, decide
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account
from market.core.errors import BundleError, ModelError
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, read_pointer
from models.forecaster import Forecaster

MODEL_FAILED = "no model: the model failed to answer"

CHECK_SECONDS = 1.0
"""The pointer is read no more often than this."""

RETRY_SECONDS = 30.0
"""A bundle that failed its audit is tried again after this, in case it was restored."""

_LOG = logging.getLogger("margincast.serving")

_Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that answers now.

    Attributes
    ----------
    model:
        The model, or None: the rule floor takes its place.
    unavailable_reason:
        Why there is none; empty with a model.
    health_error:
        What is wrong with the bundle that should answer; None if nothing is.
    """

    model: Forecaster | None
    unavailable_reason: str
    health_error: str | None

    def for_horizons(self, horizons: Collection[int]) -> Champion:
        """Itself, or no model where it lacks a horizon that the rules target."""
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
    ) -> Outcome:
        """Decide on accounts; by the rule floor where the model fails or does not fit the rules.

        Parameters are those of `decisions.decision.decide`.
        """
        champion = self.for_horizons(ruleset.add_on.targets)
        model, no_model = champion.model, champion.unavailable_reason
        try:
            results = decide(accounts, snapshot, ruleset, model, previous, no_model=no_model)
        except ModelError as error:
            _LOG.error("the model failed; the rule floor answers: %s", error)
            model = None
            results = decide(accounts, snapshot, ruleset, None, previous, no_model=MODEL_FAILED)
        return Outcome.of(results, model)


_NO_CHAMPION = Champion(None, NO_BUNDLE, NO_BUNDLE)


class ChampionWatch:
    """Follows the pointer file ``champion``: audits a new bundle, then switches to it, else keeps
    the old model.

    Parameters
    ----------
    bundles:
        Folder of the bundles and of the pointer file.
    horizons:
        Returns the horizons in hours that the rule set in force targets; a bundle without one of
        them is refused.
    """

    def __init__(self, bundles: Path, horizons: Callable[[], Collection[int]]) -> None:
        self._bundles = bundles
        self._horizons = horizons
        self._lock = threading.Lock()
        self._signature: _Signature | None = None
        self._tried = self._checked = time.monotonic()
        self._champion = _NO_CHAMPION
        with self._lock:
            self._refresh()

    def current(self) -> Champion:
        """The champion now. While a new bundle loads, other threads go on with the old one."""
        if time.monotonic() - self._checked >= CHECK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self._champion

    def _refresh(self) -> None:
        self._checked = time.monotonic()
        # The signature is taken first: a pointer replaced while it is read shows the next time.
        try:
            signature = _signature(self._bundles / CHAMPION)
        except OSError as error:
            _LOG.warning("the pointer file champion cannot be looked at: %s", error)
            self._keep("the pointer file cannot be read")
            return
        failed = (
            self._champion.health_error is not None and self._checked - self._tried >= RETRY_SECONDS
        )
        if signature == self._signature and not failed:
            return
        self._signature, self._tried = signature, self._checked
        self._follow()

    def _follow(self) -> None:
        sha: str | None = None
        try:
            sha = read_pointer(self._bundles, CHAMPION)
            if sha is None:
                self._champion = _NO_CHAMPION
                return
            model = self._champion.model
            if model is None or model.bundle.sha256 != sha:
                model = self._load(sha)
        except (ModelError, OSError) as error:
            _LOG.warning("champion %s was not loaded: %s", sha, error)
            name = "the pointer file" if sha is None else f"bundle {sha[:12]}"
            self._keep(f"{name} failed its audit")
        else:
            self._champion = Champion(model, "", None)

    def _load(self, sha: str) -> Forecaster:
        model = Forecaster(load_bundle(self._bundles / sha))
        missing = sorted(set(self._horizons()) - set(model.horizons))
        if missing:
            raise BundleError(
                f"the rule set targets horizons {missing} h and bundle {sha} answers "
                f"{list(model.horizons)} h; retrain with them"
            )
        _LOG.info("champion is now bundle %s", sha)
        return model

    def _keep(self, cause: str) -> None:
        """Keep the current model, and name what is wrong."""
        model = self._champion.model
        if model is None:
            self._champion = Champion(None, f"no model: {cause}", f"{cause}: no model answers")
        else:
            old = model.bundle.sha256[:12]
            self._champion = Champion(model, "", f"{cause}: bundle {old} goes on answering")


def _signature(path: Path) -> _Signature | None:
    """What changes when the pointer is replaced; None where there is no file."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
