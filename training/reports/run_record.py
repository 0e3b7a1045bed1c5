"""The record of a training run that a review is made from: fresh from the job, or from its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Figures, gates and settings of one training run.

    Attributes
    ----------
    bundle:
        SHA-256.
    verdict, reasons:
        Of the gates.
    evaluation, gates:
        Objects of ``retrain --json``.
    manifest:
        Of the bundle.
    review:
        Contributions, ablation, folds and provenance; None for a run logged without them.
    backtest:
        The object of ``backtest --json``, or its reason in ``not_evaluated``; None where none was
        made.
    params:
        Settings of the training.
    incumbent:
        The bundle that was champion while this was trained, which its paired gates compare with;
        None where there was none or it is not known.
    version, created, aliases, run_id:
        In the registry; None and empty before it is registered.
    """

    bundle: str
    verdict: str
    reasons: Sequence[str]
    evaluation: Mapping[str, Any]
    gates: Mapping[str, Mapping[str, Any]]
    manifest: Mapping[str, Any]
    review: Mapping[str, Any] | None
    backtest: Mapping[str, Any] | None
    params: Mapping[str, Any]
    incumbent: str | None = None
    version: int | None = None
    created: str | None = None
    aliases: Sequence[str] = ()
    run_id: str | None = None

    @property
    def completed_backtest(self) -> Mapping[str, Any] | None:
        """The backtest; None where there is none, the data did not allow it, or an earlier version
        made it."""
        backtest = self.backtest
        return backtest if backtest is not None and "uncovered" in backtest else None
