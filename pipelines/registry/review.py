"""Champion against the newest version, from MLflow: terminal, JSON and one page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from market.core.errors import ModelError
from market.core.files import replace_file
from models.bundle.pointer import CHAMPION, read_pointer
from models.mlflow.registry import Version, list_versions
from models.mlflow.run_reader import load_run
from pipelines.config.config import Config
from pipelines.registry.log_run import INCUMBENT_TAG, tracking
from pipelines.registry.shadow_review import compare_in_shadow
from training.evaluation.comparison import Comparison, compare
from training.reports.review_page import review_page
from training.reports.run_record import RunRecord


def review(config: Config, out: Path | None, *, shadow: bool = False) -> dict[str, Any]:
    """Compare the newest version with the champion; `out` is an HTML file to write, or None.

    With `shadow`, also champion and challenger on recorded decisions, under ``shadow``: see
    `pipelines.registry.shadow_review`.

    Returns
    -------
    ``newest`` and, if there is one, ``champion``: version, bundle, verdict, reasons, log losses,
    skills and gates; ``comparison`` if they are two versions; ``page`` if one was written. The
    champion is what serves: the bundle that the pointer file names. ``serving`` is that bundle,
    the one of MLflow's alias champion and, where they differ, a ``warning``.

    Raises
    ------
    ModelError
        Nothing is registered, or a run cannot be read.
    """
    versions = list_versions(tracking(config))
    if not versions:
        raise ModelError("no model is registered yet; run margincast retrain first")
    newest = versions[-1]
    serving = _serving(config, versions)
    champion = next((v for v in versions if v.bundle_sha256 == serving["champion"]), None)
    subject = _run_record(config, newest)
    report = {"newest": _summary(subject), "serving": serving}
    comparison: Comparison | None = None
    if champion is not None and champion.bundle_sha256 is not None:
        other = subject if champion == newest else _run_record(config, champion)
        report["champion"] = _summary(other)
        if other is not subject:
            comparison = compare(other, subject)
            report["comparison"] = _plain(comparison)
    if shadow:
        report["shadow"] = compare_in_shadow(config)
    if out is not None:
        replace_file(out, review_page(subject, comparison).encode())
        report["page"] = {"path": str(out)}
    return report


def _serving(config: Config, versions: list[Version]) -> dict[str, Any]:
    """What the pointer file and MLflow's alias say, and a warning where they differ."""
    pointed = read_pointer(config.serving.bundles, CHAMPION)
    alias = next((v for v in versions if CHAMPION in v.aliases), None)
    named = None if alias is None else alias.bundle_sha256
    serving = {
        "champion": pointed,
        "alias_champion": named,
        "alias_version": None if alias is None else alias.version,
    }
    registered = pointed is None or any(v.bundle_sha256 == pointed for v in versions)
    if alias is not None and named != pointed:
        serves = "no bundle serves" if pointed is None else f"bundle {pointed} serves"
        adopt = (
            "margincast promote --from-alias adopts it through the gates"
            if named is not None
            else "it was not registered by margincast retrain and cannot serve"
        )
        serving["warning"] = (
            f"MLflow's alias champion is at version {alias.version} (bundle {named or 'unknown'}), "
            f"but {serves}: moving the alias changes nothing that serves. {adopt}; "
            "margincast promote SHA256 with the bundle that serves moves the alias back"
        )
    elif alias is None and pointed is not None and registered:
        serving["warning"] = (
            f"bundle {pointed} serves, but MLflow's alias champion was taken away; margincast "
            "promote SHA256 with that bundle sets it again"
        )
    elif not registered:
        serving["warning"] = (
            f"bundle {pointed} serves, but no version of model {config.tracking.model!r} at "
            f"{tracking(config).address} was made from it; check [tracking], or promote a bundle "
            "that is registered"
        )
    return serving


def _run_record(config: Config, version: Version) -> RunRecord:
    if version.run_id is None:
        raise ModelError(
            f"version {version.version} of model {config.tracking.model!r} names no run; only "
            "what margincast retrain registered can be reviewed"
        )
    run = load_run(tracking(config), version.run_id)
    return RunRecord(
        bundle=version.bundle_sha256 or "",
        verdict=run.tags.get("verdict", "unknown"),
        reasons=json.loads(run.tags.get("reasons", "[]")),
        evaluation=run.evaluation,
        gates=run.gates,
        manifest=run.manifest,
        review=run.review,
        backtest=run.backtest,
        params=run.params,
        incumbent=run.tags.get(INCUMBENT_TAG),
        version=version.version,
        created=version.created,
        aliases=version.aliases,
        run_id=version.run_id,
    )


def _summary(run: RunRecord) -> dict[str, Any]:
    horizons = run.evaluation["horizons"]
    return {
        "version": run.version,
        "bundle": run.bundle,
        "aliases": list(run.aliases),
        "created": run.created,
        "verdict": run.verdict,
        "reasons": list(run.reasons),
        "span": run.evaluation["span"],
        "rows": run.evaluation["rows"],
        "log_loss": {
            hours: {
                name: figures["log_loss"]
                for name, figures in horizon["models"].items()
                if figures is not None
            }
            for hours, horizon in horizons.items()
        },
        **{
            key: {hours: horizon[key] for hours, horizon in horizons.items()}
            for key in (
                "best_baseline",
                "log_loss_skill",
                "log_loss_skill_ci95",
                "predicted_over_observed",
            )
        },
        "walk_forward": {
            hours: {
                key: table[key]
                for key in ("best_baseline", "log_loss_skill", "log_loss_skill_ci95")
            }
            for hours, table in _pooled(run).items()
        },
        "gates": {name: gate["passed"] for name, gate in run.gates.items()},
        "accepted": {
            name: gate["accepted"] for name, gate in run.gates.items() if gate.get("accepted")
        },
    }


def _pooled(run: RunRecord) -> Mapping[str, Any]:
    """Tables of the walk-forward by horizon; empty for a run without one."""
    return ((run.review or {}).get("walk_forward") or {}).get("pooled") or {}


def _plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "same_rows": comparison.same_rows,
        "lines": [asdict(line) for line in comparison.lines],
        "paired": {name: dict(gate) for name, gate in comparison.paired.items()},
        "differences": [asdict(item) for item in comparison.differences],
        "gates_changed": dict(comparison.gates_changed),
    }
