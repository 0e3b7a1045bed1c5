"""The manifest of a bundle: schema, training data, parameters and figures of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from market.core.errors import BundleError, ModelError
from models.bundle.schema import ModelSchema, canonical_json, is_sha256
from models.prior.score import Priors, checked_priors
from models.prior.spline_prior import SplinePrior
from models.trees.tree_table import TreeTable, trees_sha256

FORMAT_VERSION = 1
MAX_JSON_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """Where a model comes from. It names no time of day: equal trainings give equal bundles.

    Attributes
    ----------
    training_data_sha256, ruleset_sha256:
        Hashes of the training data and the rule set.
    versions:
        Library versions by name.
    training:
        Span, rows, base rates and parameters of the training.
    metrics:
        Figures of the evaluation; None where there is none, for JSON has no NaN.
    baselines:
        Parameters of the fitted baselines.
    """

    training_data_sha256: str
    ruleset_sha256: str
    versions: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of ``manifest.json``; mappings by horizon have its hours as keys."""

    format_version: int
    schema: dict[str, Any]
    schema_sha256: str
    calibration: dict[int, tuple[float, float]]
    trees_sha256: dict[int, str]
    training_data_sha256: str
    ruleset_sha256: str
    training: dict[str, Any]
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    versions: dict[str, str]
    priors: dict[int, dict[str, Any]] = {}


def manifest_bytes(
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
    record: TrainingRecord,
    priors: Priors | None = None,
) -> bytes:
    """``manifest.json`` in canonical form, checked as a reader would check it.

    A model without spline priors has no key for them, so its manifest is that of earlier versions.

    Raises
    ------
    ModelError
        A value cannot be written as JSON, a hash is malformed, or the parts do not fit the schema.
    """
    splines = {str(hours): prior.to_dict() for hours, prior in (priors or {}).items()}
    encoded = canonical_json(
        {
            "format_version": FORMAT_VERSION,
            "schema": schema.to_dict(),
            "schema_sha256": schema.sha256(),
            "calibration": {str(h): [float(v) for v in pair] for h, pair in calibration.items()},
            "trees_sha256": {str(h): trees_sha256(table) for h, table in trees.items()},
            "training_data_sha256": record.training_data_sha256,
            "ruleset_sha256": record.ruleset_sha256,
            "versions": dict(record.versions),
            "training": dict(record.training),
            "metrics": dict(record.metrics),
            "baselines": dict(record.baselines),
        }
        | ({"priors": splines} if splines else {})
    )
    parse_manifest(encoded)
    return encoded


def parse_manifest(encoded: bytes) -> tuple[Manifest, ModelSchema]:
    """Read a manifest and its schema, strictly.

    Raises
    ------
    ModelError
        It is malformed, of another format version, or its parts do not fit its schema.
    """
    if len(encoded) > MAX_JSON_BYTES:
        raise BundleError(f"manifest has over {MAX_JSON_BYTES} bytes; keep large data elsewhere")
    try:
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BundleError(f"manifest is malformed ({error}); export the model again") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(
            f"bundle has format {manifest.format_version}; this version reads {FORMAT_VERSION}, "
            "retrain the model"
        )
    for name in ("training_data_sha256", "ruleset_sha256"):
        if not is_sha256(getattr(manifest, name)):
            raise BundleError(f"manifest has a malformed {name}; expected 64 hex digits")
    schema = ModelSchema.from_dict(manifest.schema)
    _check_against_schema(manifest, schema)
    priors_of(manifest, schema)
    return manifest, schema


def priors_of(manifest: Manifest, schema: ModelSchema) -> dict[int, SplinePrior]:
    """The spline prior of each horizon, empty for a schema without `prior_distances`.

    Raises
    ------
    ModelError
        One is malformed, its horizon is named, or they do not fit the schema.
    """
    priors = {}
    for horizon, parts in manifest.priors.items():
        try:
            priors[horizon] = SplinePrior.from_dict(parts)
        except ModelError as error:
            raise BundleError(f"manifest has an unsound prior of {horizon} h: {error}") from error
    checked_priors(schema, priors)
    return priors


def _check_against_schema(manifest: Manifest, schema: ModelSchema) -> None:
    if manifest.schema_sha256 != schema.sha256():
        raise BundleError(
            f"manifest names schema {manifest.schema_sha256} but holds {schema.sha256()}; export "
            "the model again"
        )
    for name, part in (
        ("calibration", manifest.calibration),
        ("trees_sha256", manifest.trees_sha256),
    ):
        if set(part) != set(schema.horizons):
            raise BundleError(
                f"manifest has {name} of {sorted(part)} h; expected exactly {schema.horizons} h"
            )
    for horizon, pair in manifest.calibration.items():
        if not (np.isfinite(pair).all() and pair[0] > 0.0):
            raise BundleError(
                f"manifest calibrates {horizon} h with slope and intercept {pair}; both must be "
                "finite and the slope positive"
            )
