"""The registered model in MLflow: its versions, each of one bundle, and their aliases.

MLflow keeps no history of aliases and serving does not read them: they mirror the pointer files
for review, while the ledger records promotions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from market.core.clock import format_time
from market.core.errors import ModelError
from models.mlflow.store import Tracking, is_missing, mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

BUNDLE_TAG = "bundle_sha256"
"""Tag of a run and of a version that names the bundle."""
CHALLENGER = "challenger"
"""Alias of the newest version that was sound and did not replace the champion."""

MODEL_DESCRIPTION = (
    "Probability that a crypto derivatives account falls under its maintenance margin, by horizon. "
    "Each version is one bundle of `margincast retrain`, named by its tag `bundle_sha256`. "
    "Aliases: **champion** serves, **challenger** is the newest sound version that does not, "
    "**previous** is what `margincast rollback` goes back to. The pointer files beside the "
    "bundles decide what serves; the aliases mirror them. After moving the alias champion here, "
    "run `margincast promote --from-alias`: it adopts the version through the gates."
)

_NANOSECONDS_PER_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the registered model.

    Attributes
    ----------
    version:
        Its number, from 1.
    bundle_sha256:
        The bundle it was made from; None for a version that was registered by other means.
    run_id:
        The run that logged it, or None.
    aliases:
        Those of champion, challenger, previous (and others) that point to it, sorted.
    created:
        ISO 8601, UTC.
    """

    version: int
    bundle_sha256: str | None
    run_id: str | None
    aliases: tuple[str, ...]
    created: str


def list_versions(tracking: Tracking) -> list[Version]:
    """Every version of the registered model, oldest first; none where it does not exist.

    Raises
    ------
    ModelError
        MLflow is not installed or its store fails.
    """
    with mlflow_client(tracking) as client:
        return read_versions(client, tracking)


def set_aliases(
    tracking: Tracking,
    *,
    champion: str | None,
    challenger: str | None,
    previous: str | None,
) -> None:
    """Point the aliases champion, challenger and previous to the versions of these bundles.

    None takes an alias away. All bundles are looked up before the first alias moves.

    Parameters
    ----------
    tracking:
        The store.
    champion, challenger, previous:
        SHA-256 of a bundle, or None.

    Raises
    ------
    ModelError
        No version is tagged with one of the bundles, or MLflow or its store fails.

    References
    ----------
    MLflow documentation, "Model registry: model aliases".
    """
    bundles = {"champion": champion, "challenger": challenger, "previous": previous}
    with mlflow_client(tracking) as client:
        versions = read_versions(client, tracking)
        targets = {
            alias: _version_of(versions, sha, tracking)
            for alias, sha in bundles.items()
            if sha is not None
        }
        current = {alias: v.version for v in versions for alias in v.aliases}
        for alias in bundles:
            target = targets.get(alias)
            if target == current.get(alias):
                continue
            if target is None:
                client.delete_registered_model_alias(tracking.model, alias)
            else:
                client.set_registered_model_alias(tracking.model, alias, str(target))


def find_alias(tracking: Tracking, alias: str) -> Version | None:
    """The version that an alias points to, or None.

    Raises
    ------
    ModelError
        MLflow is not installed or its store fails.
    """
    return next((v for v in list_versions(tracking) if alias in v.aliases), None)


def find_challenger(tracking: Tracking) -> str | None:
    """The bundle of the alias challenger, or None; raises as `find_alias`."""
    version = find_alias(tracking, CHALLENGER)
    return None if version is None else version.bundle_sha256


def read_versions(client: MlflowClient, tracking: Tracking) -> list[Version]:
    """`list_versions` through an open client."""
    registered = _registered_model(client, tracking)
    if registered is None:
        return []
    aliases: dict[int, list[str]] = {}
    for alias, number in registered.aliases.items():
        aliases.setdefault(int(number), []).append(alias)
    versions: list[Version] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{tracking.model}'", page_token=token)
        versions += [
            Version(
                version=int(entry.version),
                bundle_sha256=entry.tags.get(BUNDLE_TAG),
                run_id=entry.run_id or None,
                aliases=tuple(sorted(aliases.get(int(entry.version), ()))),
                created=format_time(entry.creation_timestamp * _NANOSECONDS_PER_MILLISECOND),
            )
            for entry in page
        ]
        token = page.token
        if not token:
            return sorted(versions, key=lambda version: version.version)


def find_version(client: MlflowClient, tracking: Tracking, bundle_sha256: str) -> int | None:
    """Number of the version that was made from a bundle, or None."""
    for version in read_versions(client, tracking):
        if version.bundle_sha256 == bundle_sha256:
            return version.version
    return None


def register_version(
    client: MlflowClient,
    tracking: Tracking,
    bundle_sha256: str,
    *,
    run_id: str,
    model_id: str,
    description: str = "",
) -> int:
    """Make a logged model the next version of the registered model and tag it in the same step.

    The registered model is created where it does not exist. `description` is Markdown.
    """
    if _registered_model(client, tracking) is None:
        client.create_registered_model(tracking.model, description=MODEL_DESCRIPTION)
    created = client.create_model_version(
        tracking.model,
        source=f"models:/{model_id}",
        run_id=run_id,
        tags={BUNDLE_TAG: bundle_sha256},
        model_id=model_id,
        description=description or None,
    )
    return int(created.version)


def _registered_model(client: MlflowClient, tracking: Tracking) -> RegisteredModel | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(tracking.model)
    except MlflowException as error:
        if is_missing(error):
            return None
        raise


def _version_of(versions: list[Version], bundle_sha256: str, tracking: Tracking) -> int:
    for version in versions:
        if version.bundle_sha256 == bundle_sha256:
            return version.version
    known = ", ".join(f"{v.version}: {v.bundle_sha256}" for v in versions) or "none"
    raise ModelError(
        f"no version of model {tracking.model!r} at {tracking.address} is tagged with bundle "
        f"{bundle_sha256}; registered are {known}; log its training first"
    )
