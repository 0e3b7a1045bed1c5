"""Promote and roll back: the pointer, the ledger and MLflow move together."""

from __future__ import annotations

from typing import Any

from ledger.records import Entry
from ledger.store import Ledger
from market.core.errors import ModelError
from models.bundle import pointer
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, PREVIOUS, read_pointer
from models.forecaster import Forecaster
from models.mlflow.registry import Version, find_challenger, list_versions, set_aliases
from models.mlflow.run_reader import load_run
from pipelines.config.config import Config
from pipelines.registry.log_run import tracking


def promote(config: Config, bundle: str | None, override: str | None = None) -> dict[str, Any]:
    """Make a bundle the champion: audit it, record the change, move the pointer and the aliases.

    Parameters
    ----------
    config:
        Names the bundles, the registry and the ledger.
    bundle:
        SHA-256; None for the challenger.
    override:
        Reason to serve a bundle that failed a safety gate; recorded in the ledger.

    Raises
    ------
    ModelError
        There is no challenger, the bundle is not registered, or it failed a safety gate without
        an override.
    BundleError
        The bundle is missing or damaged.
    """
    root = config.serving.bundles
    sha = bundle if bundle is not None else find_challenger(tracking(config))
    if sha is None:
        raise ModelError("there is no challenger to promote; give the SHA-256 of a bundle")
    before = read_pointer(root, CHAMPION)
    Forecaster(load_bundle(root / sha))
    failed = _failed_safety_gates(config, _find_version(config, sha))
    if failed and not (override and override.strip()):
        raise ModelError(
            f"bundle {sha} failed the safety gate(s) {', '.join(failed)}; retrain, or give "
            "--override REASON to serve it all the same: the reason is recorded"
        )
    if before != sha:
        overridden = {"override": override, "failed_gates": failed} if failed else {}
        _record(config, "promotion", {"bundle": sha, "champion_before": before, **overridden})
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
    """Set MLflow's aliases to the pointers; returns these."""
    root = config.serving.bundles
    champion, previous = read_pointer(root, CHAMPION), read_pointer(root, PREVIOUS)
    challenger = find_challenger(tracking(config))
    set_aliases(
        tracking(config),
        champion=champion,
        challenger=None if challenger == champion else challenger,
        previous=previous,
    )
    return {"champion": champion, "previous": previous}
