"""The retraining job: data, features, labels, fit, calibrate, evaluate, export, gate, register.

The pointer moves last. Whatever fails or is killed before leaves at most an unnamed bundle
folder, which the next run finds and reuses.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.registry import ACCOUNT_FEATURES, prior_column, registry_sha256
from ledger.records import Entry
from ledger.store import Ledger
from margin.ruleset import RuleSet
from market.clock import HOUR
from market.errors import DataError, ModelError
from models.bundle import (
    DRAFT,
    Bundle,
    bundle_files,
    load_bundle,
    remove_unfinished,
    write_bundle,
)
from models.gates import Decision, decide, parity_gate
from models.lightgbm_trees import trees_from_booster
from models.manifest import TrainingRecord
from models.mlflow_store import Tracking
from models.onnx_export import export
from models.parity import ParityReport, check_parity, threshold_adjacent_rows
from models.pointer import CHAMPION, PREVIOUS, promote, read_pointer
from models.registry import find_challenger, set_aliases
from models.schema import ModelSchema
from models.scorer import Scorer
from models.tracking import TrainingRun, log_training
from models.trees import TreeTable
from pipelines.accounts import read_dataset, read_segments
from pipelines.config import Config
from pipelines.inputs import Market, describe, read_market, read_rules
from pipelines.judge import bounds, calibrated_and_better, no_worse_than_champion
from pipelines.lock import RETRAIN_LOCK, exclusive
from pipelines.notify import notified
from pipelines.progress import Stages
from pipelines.serve import MARKET_STATE
from pipelines.watch import beside_champion
from training.baselines import fit_baselines, fit_plain
from training.bootstrap import utc_day
from training.dataset import Dataset
from training.drift.reference import REFERENCE_FILE, make_reference
from training.drifting_calibration import DriftingLine, filtered_platt
from training.evaluate import (
    PLAIN_FILE,
    baseline_columns,
    evaluate,
    forecast,
    model_columns,
    plain_schema,
)
from training.fit import PARAMETERS, Ensemble, fit_trees
from training.model_card import model_card
from training.plots import training_plots
from training.splits import Block, default_boundaries, purged_split

MIN_PRESENCE = 0.6
"""A feature present in a smaller share of the fit rows is left out: it would date the row."""

_PARITY_ROWS = 20_000
_LIBRARIES = ("lightgbm", "numpy", "numba", "onnx", "onnxruntime", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training made, before it is a bundle."""

    schema: ModelSchema
    ensembles: dict[int, Ensemble]
    trees: dict[int, TreeTable]
    lines: dict[int, DriftingLine]
    baselines: dict[str, Any]
    plain: dict[str, bytes]

    @property
    def calibration(self) -> dict[int, tuple[float, float]]:
        """Slope and intercept by horizon."""
        return {hours: (line.slope, line.intercept) for hours, line in self.lines.items()}


def split_ends(config: Config, first: int, last: int) -> tuple[int, int, int]:
    """Ends of the fit, calibration and test blocks: as configured, or 60, 20 and 20 per cent."""
    training = config.training
    if training.fit_end_ns is None:
        return default_boundaries(first, last + config.training.horizons[-1] * HOUR)
    return (
        training.fit_end_ns,
        training.calibrate_end_ns or 0,
        training.test_end_ns or 0,
    )


def retrain(config: Config) -> dict[str, Any]:
    """Train, judge and register one model; the object of ``retrain --json``.

    Raises
    ------
    BusyError
        Another retraining is running.
    MargincastError
        Data, model or ledger refused; nothing was promoted.
    """

    def job() -> dict[str, Any]:
        with exclusive(config.serving.bundles / RETRAIN_LOCK, "retrain"), Stages(10) as stages:
            return _retrain(config, stages)

    return notified(config, "retrain", job)


def _retrain(config: Config, stages: Stages) -> dict[str, Any]:
    with stages.stage("features"):
        market = read_market(config)
        ruleset = read_rules(config)
    with stages.stage("labels"):
        segments = read_segments(config, market, ruleset)
        data = read_dataset(config, market, segments, ruleset)
        data_sha = data.sha256()
        data.write(config.serving.bundles.parent / "dataset.parquet")
    ends = split_ends(config, int(data.time[0]), int(data.time[-1]))
    block = purged_split(data.time, data.horizons[-1], *ends)
    _check_blocks(block, config)
    with stages.stage("fit"):
        fitted = _fit(data, block)
    with stages.stage("export"):
        onnx = export(fitted.schema, fitted.trees, fitted.calibration)
        parity = _check_parity(fitted, onnx)
    training = _training_record(config, data, block, ends, fitted)
    root = config.serving.bundles
    remove_unfinished(_made(root))
    draft_folder = tempfile.TemporaryDirectory(dir=root, prefix=DRAFT)
    with stages.stage("evaluate"), draft_folder as folder:
        draft = _write(Path(folder), fitted, onnx, training, data_sha, ruleset, {})
        bundle = load_bundle(Path(folder) / draft)
        test = data.take(np.flatnonzero(block == Block.TEST))
        forecasts = forecast(bundle, test)
        evaluation = evaluate(
            test, forecasts, training, describe(config, market), market.history.bars.symbols
        )
    with stages.stage("bundle"):
        metrics = {hours: figures["models"] for hours, figures in evaluation["horizons"].items()}
        reference = make_reference(bundle.scorer, fitted.schema, data, block)
        fitted.plain[REFERENCE_FILE] = reference.to_bytes()
        sha = _write(root, fitted, onnx, training, data_sha, ruleset, metrics)
        bundle = load_bundle(root / sha)
    champion = read_pointer(root, CHAMPION)
    with stages.stage("gate"):
        gates = [
            parity_gate(parity.max_difference, parity.rows, parity.limit),
            bounds(config, market, ruleset, bundle),
            *calibrated_and_better(test, forecasts, evaluation),
            *no_worse_than_champion(root, champion, sha, test, forecasts),
        ]
        decision = decide(gates, has_champion=champion not in (None, sha))
    with stages.stage("drift"):
        beside = beside_champion(config, market, ruleset, data, champion, sha)
    with stages.stage("register"):
        report = {
            "verdict": decision.verdict,
            "reasons": list(decision.reasons),
            "bundle": sha,
            "data_sha256": data_sha,
            "ruleset_sha256": ruleset.sha256,
            "rows": training["rows"],
            "gates": {name: gate.to_dict() for name, gate in decision.gates.items()},
            "seconds": dict(stages.seconds),
            "evaluation": {"bundle": sha, **evaluation},
            "bars": market.history.report.to_dict(),
            "champion_before": champion,
            **beside,
        }
        run = _log(config, bundle, report, training, onnx)
        report["mlflow_run"] = run
        report["champion"] = _settle(config, market, bundle, decision, report)
    return report


def _check_blocks(block: npt.NDArray[np.int8], config: Config) -> None:
    for part in (Block.FIT, Block.CALIBRATE, Block.TEST):
        if not (block == part).any():
            training = config.training
            raise DataError(
                f"no rows fall into the {part.name.lower()} block; check [training] fit_end "
                f"{training.fit_end!r}, calibrate_end {training.calibrate_end!r}, test_end "
                f"{training.test_end!r} against the span of the data"
            )


def _fit(data: Dataset, block: npt.NDArray[np.int8]) -> Fitted:
    fit, calibrate = np.flatnonzero(block == Block.FIT), np.flatnonzero(block == Block.CALIBRATE)
    schema = _schema(data, fit)
    X = np.ascontiguousarray(data.features[fit][:, model_columns(schema)])
    X_calibrate = np.ascontiguousarray(data.features[calibrate][:, model_columns(schema)])
    columns = {name: column[fit] for name, column in baseline_columns(data).items()}
    threads = os.cpu_count() or 1
    ensembles: dict[int, Ensemble] = {}
    trees: dict[int, TreeTable] = {}
    lines: dict[int, DriftingLine] = {}
    baselines: dict[str, Any] = {}
    plain: dict[str, bytes] = {}
    for h, hours in enumerate(data.horizons):
        y = data.labels[fit, h]
        ensemble = fit_trees(X, y, data.time[fit], schema, hours, seed=1, num_threads=threads)
        ensembles[hours] = ensemble
        trees[hours] = (
            TreeTable.empty(len(schema.features))
            if ensemble.booster is None
            else trees_from_booster(ensemble.booster, len(schema.features))
        )
        prior = schema.prior_columns()[h]
        raw = [part[:, prior] + trees[hours].raw_score(part) for part in (X, X_calibrate)]
        seen = np.concatenate((fit, calibrate))
        lines[hours] = filtered_platt(
            np.concatenate(raw), data.labels[seen, h], utc_day(data.time[seen])
        )
        baselines[str(hours)] = fit_baselines(columns, y, hours)
        own = plain_schema(schema, hours)
        booster = fit_plain(
            np.ascontiguousarray(data.features[fit][:, model_columns(own)]),
            y,
            data.time[fit],
            hours,
            own.features,
            seed=1,
            num_threads=threads,
        )
        table = trees_from_booster(booster, len(own.features), average=True)
        plain[PLAIN_FILE.format(hours=hours)] = export(own, {hours: table}, {hours: (1.0, 0.0)})
    return Fitted(schema, ensembles, trees, lines, baselines, plain)


def _schema(data: Dataset, fit: npt.NDArray[np.intp]) -> ModelSchema:
    """Columns that are present often enough; priors of the trained horizons only."""
    priors = tuple(prior_column(hours) for hours in data.horizons)
    presence = 1.0 - np.isnan(data.features[fit]).mean(axis=0)
    kept = [
        feature
        for feature, share in zip(ACCOUNT_FEATURES, presence, strict=True)
        if share >= MIN_PRESENCE
        and (feature.name in priors or not feature.name.startswith("prior_logit_"))
    ]
    missing = [name for name in priors if name not in {feature.name for feature in kept}]
    if missing:
        raise ModelError(f"prior column(s) {', '.join(missing)} are mostly missing; check the data")
    return ModelSchema(
        features=tuple(feature.name for feature in kept),
        monotone=tuple(feature.monotone for feature in kept),
        horizons=data.horizons,
        prior=priors,
        features_sha256=registry_sha256(),
    )


def _check_parity(fitted: Fitted, onnx: bytes) -> ParityReport:
    """ONNX against LightGBM itself, on rows beside the thresholds."""

    def raw(ensemble: Ensemble, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if ensemble.booster is None:
            return np.zeros(len(X))
        return np.asarray(ensemble.booster.predict(X, raw_score=True), dtype=np.float64)

    rows = threshold_adjacent_rows(fitted.schema, fitted.trees, _PARITY_ROWS, seed=1)
    return check_parity(
        Scorer(onnx, fitted.schema),
        fitted.trees,
        fitted.calibration,
        rows,
        boosters={
            hours: lambda X, own=ensemble: raw(own, X)  # type: ignore[misc]
            for hours, ensemble in fitted.ensembles.items()
        },
    )


def _training_record(
    config: Config,
    data: Dataset,
    block: npt.NDArray[np.int8],
    ends: tuple[int, int, int],
    fitted: Fitted,
) -> dict[str, Any]:
    fit = block == Block.FIT
    trained = data.time[fit | (block == Block.CALIBRATE)]
    return {
        "config_sha256": config.sha256(),
        "span_ns": [int(trained[0]), int(trained[-1])],
        "ends_ns": list(ends),
        "rows": {
            part.name.lower(): int((block == part).sum())
            for part in (Block.FIT, Block.CALIBRATE, Block.TEST)
        },
        "base_rates": {
            str(hours): float(data.labels[fit, h].mean()) for h, hours in enumerate(data.horizons)
        },
        "parameters": dict(PARAMETERS),
        "calibration": {str(hours): asdict(line) for hours, line in fitted.lines.items()},
        "trees": {
            str(hours): {
                "rounds": ensemble.rounds,
                "prior_loss": ensemble.prior_loss,
                "tree_loss": ensemble.tree_loss,
            }
            for hours, ensemble in fitted.ensembles.items()
        },
    }


def _write(
    root: Path,
    fitted: Fitted,
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
    )
    return write_bundle(root, {**files, **fitted.plain})


def _log(
    config: Config,
    bundle: Bundle,
    report: Mapping[str, Any],
    training: Mapping[str, Any],
    onnx: bytes,
) -> str:
    card = model_card(
        bundle.manifest,
        report["evaluation"],
        report["gates"],
        bundle_sha256=bundle.sha256,
        verdict=report["verdict"],
        reasons=report["reasons"],
    )
    run = TrainingRun(
        bundle_sha256=bundle.sha256,
        data_sha256=report["data_sha256"],
        ruleset_sha256=report["ruleset_sha256"],
        features_sha256=registry_sha256(),
        params={
            **{f"rows_{name}": count for name, count in training["rows"].items()},
            **{f"rounds_{hours}h": trees["rounds"] for hours, trees in training["trees"].items()},
            "features": len(bundle.schema.features),
            "max_rows": config.training.max_rows,
            "population": config.accounts.population,
            "ruleset": config.rules.ruleset,
        },
        evaluation=report["evaluation"],
        gates=report["gates"],
        verdict=report["verdict"],
        reasons=report["reasons"],
        onnx=onnx,
        manifest=bundle.read("manifest.json"),
        plots=training_plots(report["evaluation"]),
        model_card=card,
    )
    return log_training(tracking(config), run).run_id


def tracking(config: Config) -> Tracking:
    """Where experiments are kept."""
    return Tracking(config.tracking.uri, config.tracking.experiment, config.tracking.model)


def _settle(
    config: Config,
    market: Market,
    bundle: Bundle,
    decision: Decision,
    report: Mapping[str, Any],
) -> str | None:
    """Record the verdict, save the market state, and move the pointer last."""
    root = config.serving.bundles
    before = read_pointer(root, CHAMPION)
    with Ledger(config.ledger.url, chain="registry") as ledger:
        ledger.append(
            [
                Entry(
                    kind="retrain",
                    payload={
                        "verdict": decision.verdict,
                        "reasons": list(decision.reasons),
                        "bundle": bundle.sha256,
                        "champion_before": before,
                        "data_sha256": report["data_sha256"],
                        "ruleset_sha256": report["ruleset_sha256"],
                        "mlflow_run": report["mlflow_run"],
                        "drift": report["drift"] and report["drift"]["verdict"],
                        "change": report["change"],
                    },
                )
            ]
        )
    market.state.save(root / MARKET_STATE)
    if decision.verdict == "promoted" and before != bundle.sha256:
        promote(root, bundle.sha256)
    champion = read_pointer(root, CHAMPION)
    challenger = None if decision.verdict == "promoted" else bundle.sha256
    if decision.verdict == "refused":
        challenger = find_challenger(tracking(config))
    set_aliases(
        tracking(config),
        champion=champion,
        challenger=challenger,
        previous=read_pointer(root, PREVIOUS),
    )
    return champion


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
