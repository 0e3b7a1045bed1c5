"""The retraining job: data, features, labels, fit, calibrate, evaluate, export, gate, register.

The pointer moves last: a run that fails or is killed earlier leaves at most an unreferenced
bundle folder, which the next run reuses.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from features.identity import coefficients_end
from ledger.records import Entry
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR
from market.core.errors import ConfigError, DataError, ModelError
from models.bundle.bundle import (
    DRAFT_PREFIX,
    Bundle,
    bundle_files,
    load_bundle,
    remove_unfinished,
    write_bundle,
)
from models.bundle.manifest import TrainingRecord
from models.bundle.pointer import CHAMPION, PREVIOUS, promote, read_pointer, set_challenger
from models.drift.reference_file import REFERENCE_FILE
from models.gates import (
    Acceptance,
    Gate,
    PromotionVerdict,
    accept_gates,
    check_acceptances,
    decide_promotion,
    event_gate,
    parity_gate,
)
from models.mlflow.registry import find_alias, find_challenger, set_aliases
from models.onnx.export import export
from models.onnx.parity import ParityReport, check_parity, threshold_adjacent_rows
from models.onnx.scorer import Scorer
from models.review import MODEL_REVIEW
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.accounts import (
    DATASET_FILE,
    decision_span,
    label_market,
    read_dataset,
    read_intervals,
)
from pipelines.data.loaders import (
    Market,
    describe,
    describe_rules,
    read_label_rules,
    read_market,
    read_rules,
)
from pipelines.data.provenance import user_name
from pipelines.jobs.drift import compare_with_champion
from pipelines.jobs.serve import MARKET_STATE
from pipelines.registry.hyperparameter_search import configured_settings, find_settings
from pipelines.registry.log_run import log_run, tracking
from pipelines.registry.promotion_gates import (
    add_on_gates,
    calibrated_and_better,
    check_bounds,
    no_worse_than_champion,
    requirement_change,
    stress_and_segments,
)
from pipelines.registry.rule_adoption import adopt_first_rules
from pipelines.registry.training_inputs import RETRAINED, inputs_sha256
from pipelines.registry.training_review import TrainingArtifacts, examine
from pipelines.scheduler.lock import RETRAIN_LOCK, exclusive
from pipelines.scheduler.notify import run_and_notify
from training.backtest.backtest import BacktestSettings
from training.backtest.release_checks import RELEASE_HOURS
from training.drift.reference import make_reference
from training.evaluation.evaluate import evaluate, forecast
from training.fitting.candidate import Candidate, fit_candidate
from training.fitting.hyperparameters import DEFAULTS, Hyperparameters
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import Dataset
from training.labels.dataset_file import write_dataset
from training.labels.splits import Block, default_boundaries, purged_split
from training.reports.model_review import model_review

_PARITY_ROWS = 20_000
_LIBRARIES = ("lightgbm", "numpy", "numba", "onnx", "onnxruntime", "scikit-learn")


def split_ends(config: Config, first: int, last: int) -> tuple[int, int, int]:
    """Ends of the fit, calibration and test blocks: as configured, or 60, 20 and 20 per cent."""
    training = config.training
    if training.fit_end_ns is None:
        return default_boundaries(first, last + config.training.horizons[-1] * HOUR)
    return training.fit_end_ns, training.calibrate_end_ns or 0, training.test_end_ns or 0


def retrain(config: Config, accepted: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Train, gate and register one model; the object of ``retrain --json``.

    Parameters
    ----------
    config:
        The configuration.
    accepted:
        By the name of a stress or segment gate the reason for which its failure does not hold the
        model back. It is recorded with the name of the user that runs this process.

    Raises
    ------
    BusyError
        Another retraining is running.
    ModelError
        A gate that cannot be accepted was, before anything is trained.
    ConfigError
        A rule set tolerates a probability at a horizon that is not trained.
    MargincastError
        Data, model or ledger refused; nothing was promoted.
    """
    check_acceptances(accepted or {}, config.training.horizons)
    acceptances = {
        gate: Acceptance(user_name(), reason) for gate, reason in (accepted or {}).items()
    }

    def job() -> dict[str, Any]:
        # The sums of linear algebra depend on its threads, and these waste time on arrays as small
        # as those of a fit: most of it where another process runs.
        with (
            exclusive(config.serving.bundles / RETRAIN_LOCK, "retrain"),
            threadpool_limits(1, user_api="blas"),
            Stages(11) as stages,
        ):
            return _retrain(config, acceptances, stages)

    return run_and_notify(config, "retrain", job)


def _retrain(
    config: Config, acceptances: Mapping[str, Acceptance], stages: Stages
) -> dict[str, Any]:
    started = time.time_ns()
    inputs = inputs_sha256(config)  # before anything is read: what changes meanwhile is not in it
    with stages.stage("features"):
        market = read_market(config)
        ruleset, in_force = read_label_rules(config, market), read_rules(config, market)
        if config.training.event == "call":
            _check_targets(config, ruleset, in_force)
    with stages.stage("labels"):
        intervals = read_intervals(config, market, ruleset)
        ends = split_ends(config, *decision_span(config, market, intervals))
        data = read_dataset(
            config, market, intervals, ruleset, samples="training", test_start=ends[1]
        )
        data_sha = data.sha256()
        write_dataset(data, config.serving.bundles.parent / DATASET_FILE)
    span = purged_split(data.time, data.horizons[-1], *ends)
    block = data.learning_block(span)
    _check_blocks(block, config)
    with stages.stage("fit"):
        search = find_settings(config, data, block)
        settings = configured_settings(config) if search is None else search.settings
        fitted = fit_candidate(data, block, settings=settings)
    with stages.stage("export"):
        onnx = export(fitted.schema, fitted.trees, fitted.calibration, fitted.priors)
        parity = _check_parity(fitted, onnx)
    training = _training_record(config, data, block, ends, fitted)
    if search is not None:
        training["search"] = search.record
    root = config.serving.bundles
    root.mkdir(parents=True, exist_ok=True)
    remove_unfinished(root)
    draft_folder = tempfile.TemporaryDirectory(dir=root, prefix=DRAFT_PREFIX)
    with stages.stage("evaluate"), draft_folder as folder:
        draft = _write(Path(folder), fitted, onnx, training, data_sha, ruleset, {})
        bundle = load_bundle(Path(folder) / draft)
        test = data.take(np.flatnonzero((block == Block.TEST) & data.uniform))
        forecasts = forecast(bundle, test)
        evaluation = evaluate(
            test, forecasts, training, describe(config, market), market.history.bars.symbols
        )
    with stages.stage("bundle"):
        metrics = {hours: figures["models"] for hours, figures in evaluation["horizons"].items()}
        reference = make_reference(bundle.scorer, fitted.schema, data, span)
        fitted.plain[REFERENCE_FILE] = reference.to_bytes()
        sha = _write(root, fitted, onnx, training, data_sha, ruleset, metrics)
        bundle = load_bundle(root / sha)
    with stages.stage("review"):
        trained = TrainingArtifacts(
            config, market, intervals, ruleset, data, block, ends, fitted, bundle, test
        )
        review = examine(trained, stages)
    champion = read_pointer(root, CHAMPION)
    serves = config.training.event == "call"  # other events are compared with no champion
    compared = champion if serves else None
    with stages.stage("drift"):
        comparison = compare_with_champion(config, market, in_force, data, compared, sha)
    with stages.stage("gate"):
        gates = [
            parity_gate(parity.max_difference, parity.rows, parity.limit),
            check_bounds(config, market, in_force, bundle)
            if serves
            else event_gate(config.training.event),
            *calibrated_and_better(test, forecasts, evaluation),
            *no_worse_than_champion(root, compared, sha, test, forecasts),
            *requirement_change(comparison["change"], in_force),
            *stress_and_segments(evaluation),
            *(
                _add_on_gates(config, market, intervals, ruleset, bundle, compared, ends)
                if serves
                else ()
            ),
        ]
        decision = decide_promotion(
            accept_gates(gates, acceptances),
            has_champion=champion not in (None, sha),
            is_champion=champion == sha,
        )
    with stages.stage("register"):
        report = {
            "verdict": decision.verdict,
            "reasons": list(decision.reasons),
            "bundle": sha,
            "data_sha256": data_sha,
            "inputs_sha256": inputs,
            "ruleset_sha256": ruleset.sha256,
            "ruleset": describe_rules(ruleset),
            "rows": training["rows"],
            "gates": {name: gate.to_dict() for name, gate in decision.gates.items()},
            "accepted": {
                name: asdict(gate.accepted)
                for name, gate in decision.gates.items()
                if gate.accepted is not None
            },
            "seconds": dict(stages.seconds),
            "evaluation": {"bundle": sha, **evaluation},
            "bars": market.history.report.to_dict(),
            "champion_before": champion,
            **comparison,
        }
        report["mlflow_run"] = log_run(config, bundle, report, review, test, started, search)
        reviewed = model_review(sha, evaluation, review).payload()
        report["champion"] = _settle(config, market, bundle, decision, report, reviewed)
        report["reasons"] += align_aliases(config, decision.verdict, sha, champion)
    return report


def _add_on_gates(
    config: Config,
    market: Market,
    intervals: BookIntervals,
    ruleset: RuleSet,
    bundle: Bundle,
    champion: str | None,
    ends: tuple[int, int, int],
) -> list[Gate]:
    """Gates on the add-on between the ends of the calibration and test blocks."""
    spans = (ends[0], ends[1]), (ends[1], ends[2])
    return add_on_gates(
        label_market(config, market, intervals, ruleset),
        intervals,
        ruleset,
        bundle,
        None if champion in (None, bundle.sha256) else config.serving.bundles / str(champion),
        BacktestSettings(*spans, config.accounts.seed, RELEASE_HOURS),
    )


def _check_targets(config: Config, *rulesets: RuleSet) -> None:
    """Refuse rule sets that tolerate a probability at a horizon that is not trained."""
    horizons = config.training.horizons
    for ruleset in rulesets:
        targets = ruleset.add_on.targets
        if not targets.keys() <= set(horizons):
            raise ConfigError(
                f"rule set {ruleset.name} has add_on.p_star at {sorted(targets)} h and [training] "
                f"horizons is {list(horizons)}; give a rule set with p_star at these horizons, or "
                "train the horizons of its p_star"
            )


def _check_blocks(block: npt.NDArray[np.int8], config: Config) -> None:
    for part in (Block.FIT, Block.CALIBRATE, Block.TEST):
        if not (block == part).any():
            training = config.training
            raise DataError(
                f"no rows fall into the {part.name.lower()} block; check [training] fit_end "
                f"{training.fit_end!r}, calibrate_end {training.calibrate_end!r}, test_end "
                f"{training.test_end!r} against the span of the data"
            )


def _check_parity(fitted: Candidate, onnx: bytes) -> ParityReport:
    """Compare ONNX with LightGBM on rows beside the thresholds of the trees."""
    rows = threshold_adjacent_rows(
        fitted.schema, fitted.trees, _PARITY_ROWS, seed=1, priors=fitted.priors
    )
    return check_parity(
        Scorer(onnx, fitted.schema),
        fitted.trees,
        fitted.calibration,
        rows,
        priors=fitted.priors,
        boosters={hours: ensemble.raw_score for hours, ensemble in fitted.ensembles.items()},
    )


def _training_record(
    config: Config,
    data: Dataset,
    block: npt.NDArray[np.int8],
    ends: tuple[int, int, int],
    fitted: Candidate,
) -> dict[str, Any]:
    fit = block == Block.FIT
    trained = data.time[fit | (block == Block.CALIBRATE)]
    return {
        "config_sha256": config.sha256(),
        "event": config.training.event,
        "span_ns": [int(trained[0]), int(trained[-1])],
        "ends_ns": list(ends),
        "coefficients_end_ns": coefficients_end(fitted.schema.features),
        "rows": {
            part.name.lower(): int((block == part).sum())
            for part in (Block.FIT, Block.CALIBRATE, Block.TEST)
        },
        "base_rates": {
            str(hours): data.base_rate(np.flatnonzero(fit), hours) for hours in data.horizons
        },
        "sample": {
            "considered": data.considered,
            "kept": len(data),
            "weighted": int((data.weight > 0.0).sum()),
            "uniform": int(data.uniform.sum()),
        },
        "parameters": fitted.settings.lightgbm(),
        "calibration": {
            str(hours): {"slope": slope, "intercept": intercept}
            for hours, (slope, intercept) in fitted.calibration.items()
        },
        "trees": {
            str(hours): {
                "rounds": ensemble.rounds,
                "boosters": sum(len(part.boosters) for part in ensemble.parts),
                "prior_loss": ensemble.prior_loss,
                "tree_loss": ensemble.tree_loss,
            }
            for hours, ensemble in fitted.ensembles.items()
        },
        **_changed_settings(fitted.settings),
    }


def _changed_settings(settings: Hyperparameters) -> dict[str, Any]:
    """All settings where one differs from its default: with the defaults a bundle keeps the digest
    that it had before they could be changed."""
    if settings == DEFAULTS:
        return {}
    rounds = {str(hours): trees for hours, trees in sorted(settings.num_iterations.items())}
    seeds = list(settings.seeds)
    return {"hyperparameters": asdict(settings) | {"num_iterations": rounds, "seeds": seeds}}


def _write(
    root: Path,
    fitted: Candidate,
    onnx: bytes,
    training: Mapping[str, Any],
    data_sha: str,
    ruleset: RuleSet,
    metrics: Mapping[str, Any],
) -> str:
    record = TrainingRecord(
        training_data_sha256=data_sha,
        ruleset_sha256=ruleset.sha256,
        versions={name: version(name) for name in _LIBRARIES},
        training=training,
        metrics=metrics,
        baselines=fitted.baselines,
    )
    files = bundle_files(
        model=onnx,
        schema=fitted.schema,
        trees=fitted.trees,
        calibration=fitted.calibration,
        record=record,
        priors=fitted.priors,
    )
    return write_bundle(root, {**files, **fitted.plain})


def _settle(
    config: Config,
    market: Market,
    bundle: Bundle,
    decision: PromotionVerdict,
    report: Mapping[str, Any],
    review: dict[str, Any],
) -> str | None:
    """Record verdict and review, save the market state, and move the pointer last."""
    root = config.serving.bundles
    before = read_pointer(root, CHAMPION)
    payload = {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "bundle": bundle.sha256,
        "champion_before": before,
        "data_sha256": report["data_sha256"],
        "inputs_sha256": report["inputs_sha256"],
        "ruleset_sha256": report["ruleset_sha256"],
        "mlflow_run": report["mlflow_run"],
        "drift": report["drift"] and report["drift"]["verdict"],
        "change": report["change"],
        "accepted": report["accepted"],
    }
    with Ledger(config.ledger.url, chain="registry") as ledger:
        ledger.append([Entry(MODEL_REVIEW, review), Entry(RETRAINED, payload)])
        adopt_first_rules(config, ledger)
    market.state.save(root / MARKET_STATE)
    if decision.verdict == "promoted" and before != bundle.sha256:
        promote(root, bundle.sha256)
    if decision.verdict != "refused":
        set_challenger(root, bundle.sha256)
    return read_pointer(root, CHAMPION)


def align_aliases(
    config: Config, verdict: str, bundle: str, champion_before: str | None
) -> list[str]:
    """Set MLflow's aliases to the pointers; returns what an operator must know of them.

    The pointer decides what is served and has moved already, so a failure of MLflow does not fail
    the training: ``promote`` or the next training sets the aliases. An alias champion that was
    moved by hand is a decision that waits for ``promote --from-alias``: it stays unless this
    training replaces the champion, and is named either way.
    """
    root = config.serving.bundles
    champion = read_pointer(root, CHAMPION)
    notes: list[str] = []
    try:
        alias = find_alias(tracking(config), CHAMPION)
        if alias is not None and alias.bundle_sha256 not in (champion_before, champion):
            waits = verdict != "promoted" and alias.bundle_sha256 is not None
            name = f"version {alias.version} (bundle {alias.bundle_sha256 or 'unknown'})"
            notes.append(
                f"MLflow's alias champion points to {name} and bundle {champion} serves; "
                "margincast promote --from-alias adopts it"
                if waits
                else f"MLflow's alias champion pointed to {name}, which did not serve; it was set "
                f"to bundle {champion}"
            )
            champion = alias.bundle_sha256 if waits else champion
        challenger = find_challenger(tracking(config)) if verdict == "refused" else bundle
        set_aliases(
            tracking(config),
            champion=champion,
            challenger=None if verdict == "promoted" else challenger,
            previous=read_pointer(root, PREVIOUS),
        )
    except ModelError as error:
        notes.append(f"MLflow's aliases were not moved ({error}); margincast promote aligns them")
    return notes
