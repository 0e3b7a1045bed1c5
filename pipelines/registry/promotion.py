"""Promote and roll back: the pointer, the ledger and MLflow move together."""

from __future__ import annotations

import os
from typing import Any

from ledger.records import Entry
from ledger.store import Ledger
from market.core.errors import ModelError
from models.bundle import pointer
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, PREVIOUS, read_pointer, read_sound_pointer
from models.forecaster import Forecaster
from models.mlflow.registry import (
    BUNDLE_TAG,
    Version,
    find_alias,
    find_challenger,
    list_versions,
    set_aliases,
)
from models.mlflow.run_reader import load_run
from pipelines.config.config import Config
from pipelines.registry.log_run import tracking


def promote(
    config: Config, bundle: str | None, override: str | None = None, *, from_alias: bool = False
) -> dict[str, Any]:
    """Make a bundle the champion: audit it, record the change, move the pointer and the aliases.

    A damaged pointer is replaced, and the record says that the champion before is unknown.

    Parameters
    ----------
    config:
        Names the bundles, the registry and the ledger.
    bundle:
        SHA-256; None for the challenger.
    override:
        Reason to serve a bundle that failed a safety gate; recorded in the ledger.
    from_alias:
        Adopt the version that MLflow's alias champion points to, moved in its user interface.

    Raises
    ------
    ModelError
        There is no challenger, the alias names no bundle, the bundle is not registered, or it
        failed a safety gate without an override.
    BundleError
        The bundle is missing or damaged.
    """
    root = config.serving.bundles
    sha = _chosen_bundle(config, bundle, from_alias)
    before = read_sound_pointer(root, CHAMPION)
    Forecaster(load_bundle(root / sha))
    failed = _failed_safety_gates(config, _find_version(config, sha))
    if failed and not (override and override.strip()):
        raise ModelError(
            f"bundle {sha} failed the safety gate(s) {', '.join(failed)}; retrain, or give "
            "--override REASON to serve it all the same: the reason is recorded"
        )
    if before != sha:
        details: dict[str, Any] = {"override": override, "failed_gates": failed} if failed else {}
        if before is None and os.path.lexists(root / CHAMPION):
            details["champion_before_unknown"] = "its pointer was damaged"
        if from_alias:
            details["adopted_from"] = f"MLflow alias {CHAMPION}"
        _record(config, "promotion", {"bundle": sha, "champion_before": before, **details})
        pointer.promote(root, sha)
    return _align_aliases(config)


def rollback(config: Config) -> dict[str, Any]:
    """Make the previous champion the champion again."""
    root = config.serving.bundles
    before, target = read_pointer(root, CHAMPION), read_pointer(root, PREVIOUS)
    if target is None:
        raise ModelError("there is no previous champion to go back to; promote a bundle instead")
    Forecaster(load_bundle(root / target))
    _find_version(config, target)
    _record(config, "rollback", {"bundle": target, "champion_before": before})
    pointer.rollback(root)
    return _align_aliases(config)


def _chosen_bundle(config: Config, bundle: str | None, from_alias: bool) -> str:
    if not from_alias:
        sha = bundle if bundle is not None else find_challenger(tracking(config))
        if sha is None:
            raise ModelError("there is no challenger to promote; give the SHA-256 of a bundle")
        return sha
    if bundle is not None:
        raise ModelError(
            f"both bundle {bundle} and --from-alias were given; give the bundle, or adopt the "
            "version of the alias"
        )
    version = find_alias(tracking(config), CHAMPION)
    if version is None:
        raise ModelError(
            f"no version of model {config.tracking.model!r} at {tracking(config).address} has the "
            f"alias {CHAMPION}; set it in MLflow, or give the SHA-256 of a bundle"
        )
    if version.bundle_sha256 is None:
        raise ModelError(
            f"the alias {CHAMPION} points to version {version.version} of model "
            f"{config.tracking.model!r}, which has no tag {BUNDLE_TAG}; only a version that "
            "margincast retrain registered can become champion"
        )
    return version.bundle_sha256


def _find_version(config: Config, sha: str) -> Version:
    """The registered version of a bundle; without one MLflow could not set its alias."""
    for version in list_versions(tracking(config)):
        if version.bundle_sha256 == sha:
            return version
    raise ModelError(
        f"bundle {sha} is not registered at {tracking(config).address}; only a bundle of "
        "margincast retrain with this [tracking] can become champion"
    )


def _failed_safety_gates(config: Config, version: Version) -> list[str]:
    """Names of the safety gates that failed in the training of the version."""
    if version.run_id is None:
        return ["(no gates on record)"]
    gates = load_run(tracking(config), version.run_id).gates
    return sorted(
        name for name, gate in gates.items() if gate["kind"] == "safety" and not gate["passed"]
    )


def _record(config: Config, kind: str, payload: dict[str, Any]) -> None:
    with Ledger(config.ledger.url, chain="registry") as ledger:
        ledger.append([Entry(kind=kind, payload=payload)])


def _align_aliases(config: Config) -> dict[str, Any]:
    """Set MLflow's aliases champion and previous to the pointers, and the pointer challenger to
    its alias; returns champion and previous."""
    root = config.serving.bundles
    champion, previous = read_pointer(root, CHAMPION), read_pointer(root, PREVIOUS)
    challenger = find_challenger(tracking(config))
    if challenger == champion or challenger is None or not (root / challenger).is_dir():
        challenger = None
    set_aliases(tracking(config), champion=champion, challenger=challenger, previous=previous)
    pointer.set_challenger(root, challenger)
    return {"champion": champion, "previous": previous}
