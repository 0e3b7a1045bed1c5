"""Promote, roll back, review: the pointer, the ledger and MLflow move together."""

from __future__ import annotations

from typing import Any

from ledger.records import Entry
from ledger.store import Ledger
from market.errors import ModelError
from models import pointer
from models.bundle import load_bundle
from models.forecaster import Forecaster
from models.pointer import CHAMPION, PREVIOUS, read_pointer
from models.registry import list_versions, set_aliases
from models.tracking import load_run
from pipelines.config import Config
from pipelines.retrain import tracking


def promote(config: Config, sha: str) -> dict[str, Any]:
    """Make a bundle the champion; it is audited first and the change is recorded."""
    root = config.serving.bundles
    before = read_pointer(root, CHAMPION)
    Forecaster(load_bundle(root / sha))
    _check_registered(config, sha)
    if before != sha:
        _record(config, "promotion", {"bundle": sha, "champion_before": before})
        pointer.promote(root, sha)
    return _aligned(config)


def rollback(config: Config) -> dict[str, Any]:
    """Make the previous champion the champion again."""
    root = config.serving.bundles
    before, target = read_pointer(root, CHAMPION), read_pointer(root, PREVIOUS)
    if target is None:
        raise ModelError("there is no previous champion to go back to; promote a bundle instead")
    Forecaster(load_bundle(root / target))
    _check_registered(config, target)
    _record(config, "rollback", {"bundle": target, "champion_before": before})
    pointer.rollback(root)
    return _aligned(config)


def review(config: Config) -> dict[str, Any]:
    """Champion and newest version side by side, from MLflow."""
    versions = list_versions(tracking(config))
    if not versions:
        raise ModelError("no model is registered yet; run margincast retrain first")
    newest = max(versions, key=lambda version: version.version)
    chosen = {
        "champion": next((v for v in versions if CHAMPION in v.aliases), None),
        "newest": newest,
    }
    report: dict[str, Any] = {}
    for role, version in chosen.items():
        if version is None or version.run_id is None:
            continue
        run = load_run(tracking(config), version.run_id)
        report[role] = {
            "version": version.version,
            "bundle": version.bundle_sha256,
            "aliases": list(version.aliases),
            "created": version.created,
            "verdict": run.tags.get("verdict"),
            "log_loss": {
                hours: {
                    name: figures["log_loss"]
                    for name, figures in horizon["models"].items()
                    if figures is not None
                }
                for hours, horizon in run.evaluation["horizons"].items()
            },
            "log_loss_skill": {
                hours: horizon["log_loss_skill"]
                for hours, horizon in run.evaluation["horizons"].items()
            },
            "gates": {name: gate["passed"] for name, gate in run.gates.items()},
        }
    return report


def _check_registered(config: Config, sha: str) -> None:
    """Refuse before anything moves a bundle whose alias MLflow could not set afterwards."""
    if all(version.bundle_sha256 != sha for version in list_versions(tracking(config))):
        raise ModelError(
            f"bundle {sha} is not registered at {config.tracking.uri}; only what margincast "
            "retrain made with this [tracking] can become champion"
        )


def _record(config: Config, kind: str, payload: dict[str, Any]) -> None:
    with Ledger(config.ledger.url, chain="registry") as ledger:
        ledger.append([Entry(kind=kind, payload=payload)])


def _aligned(config: Config) -> dict[str, Any]:
    """MLflow's aliases follow the pointers."""
    root = config.serving.bundles
    champion, previous = read_pointer(root, CHAMPION), read_pointer(root, PREVIOUS)
    set_aliases(tracking(config), champion=champion, challenger=None, previous=previous)
    return {"champion": champion, "previous": previous}
