"""The contract of a model: which columns go in, which horizons come out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import msgspec

from market.core.errors import ModelError

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_FEATURES = 4096
MAX_HORIZONS = 64


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no white space: equal values give equal bytes.

    Raises
    ------
    ModelError
        The value holds something JSON cannot say, NaN and infinity included.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"value cannot be written as JSON ({error}); give finite numbers, texts, lists and "
            "mappings only, and null for what is missing"
        ) from error
    return text.encode()


def is_sha256(text: str) -> bool:
    """Whether a text is 64 lower-case hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """Columns, constraints and horizons of a model.

    Attributes
    ----------
    features:
        Names of the input columns, in order, length F.
    monotone:
        +1, -1 or 0 for each column: the direction of the probability in it.
    horizons:
        Forecast horizons in hours, rising, length H.
    prior:
        For each horizon the column that holds its prior logit, the term which the trees correct;
        each of them is an ordinary column too, with constraint +1. Empty for a model without a
        structural prior.
    features_sha256:
        Hash of all `feature_digests`; in bundles without any, of the whole feature registry that
        made the columns.
    feature_digests:
        SHA-256 of each column, see `features.identity`; empty in bundles of earlier versions.
    prior_distances:
        For each horizon the columns of log distances that its `models.prior.SplinePrior` reads,
        each of them an ordinary column with constraint -1. Empty where `prior` names columns of
        logits, and in a model without a prior.

    Raises
    ------
    ModelError
        The parts do not fit together.
    """

    features: tuple[str, ...]
    monotone: tuple[int, ...]
    horizons: tuple[int, ...]
    prior: tuple[str, ...]
    features_sha256: str
    feature_digests: tuple[str, ...] = ()
    prior_distances: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        self._check_columns()
        self._check_horizons()
        self._check_prior()
        if not is_sha256(self.features_sha256):
            raise ModelError(
                f"features_sha256 is {self.features_sha256!r}; expected 64 lower-case hex digits"
            )
        if self.feature_digests:
            self._check_digests()

    @classmethod
    def of_columns(
        cls,
        features: tuple[str, ...],
        monotone: tuple[int, ...],
        horizons: tuple[int, ...],
        prior: tuple[str, ...],
        feature_digests: tuple[str, ...],
        prior_distances: tuple[tuple[str, ...], ...] = (),
    ) -> ModelSchema:
        """A schema on columns of known identity: see the attributes."""
        combined = _sha256_of_digests(feature_digests)
        return cls(features, monotone, horizons, prior, combined, feature_digests, prior_distances)

    def _check_digests(self) -> None:
        if len(self.feature_digests) != len(self.features):
            raise ModelError(
                f"schema has {len(self.feature_digests)} digests for {len(self.features)} "
                "features; give one each, or none at all"
            )
        malformed = [digest for digest in self.feature_digests if not is_sha256(digest)]
        if malformed:
            raise ModelError(
                f"feature digest {malformed[0]!r} is malformed; expected 64 lower-case hex digits"
            )
        if self.features_sha256 != _sha256_of_digests(self.feature_digests):
            raise ModelError("features_sha256 is not the hash of feature_digests; use of_columns")

    def _check_columns(self) -> None:
        if not 1 <= len(self.features) <= MAX_FEATURES:
            raise ModelError(
                f"schema has {len(self.features)} features; expected 1 to {MAX_FEATURES}"
            )
        for name in self.features:
            if not _COLUMN.fullmatch(name):
                raise ModelError(
                    f"feature name {name!r} is not plain; use letters, digits, '_' and '.'"
                )
        if len(set(self.features)) != len(self.features):
            twice = sorted({name for name in self.features if self.features.count(name) > 1})
            raise ModelError(f"features {twice} are listed twice; list each column once")
        if len(self.monotone) != len(self.features):
            raise ModelError(
                f"schema has {len(self.monotone)} monotone constraints for {len(self.features)} "
                "features; give one each"
            )
        if not set(self.monotone) <= {-1, 0, 1}:
            raise ModelError(f"monotone constraints are {self.monotone}; each must be -1, 0 or +1")

    def _check_horizons(self) -> None:
        rising = all(a < b for a, b in zip(self.horizons, self.horizons[1:], strict=False))
        if not 1 <= len(self.horizons) <= MAX_HORIZONS or self.horizons[0] < 1 or not rising:
            raise ModelError(
                f"horizons are {self.horizons}; expected 1 to {MAX_HORIZONS} whole hours, rising"
            )

    def _check_prior(self) -> None:
        if self.prior and len(self.prior) != len(self.horizons):
            raise ModelError(
                f"schema has {len(self.prior)} prior columns for {len(self.horizons)} horizons; "
                "give one each, or none at all"
            )
        constraints = dict(zip(self.features, self.monotone, strict=True))
        for name in self.prior:
            if constraints.get(name) != 1:
                raise ModelError(
                    f"prior column {name!r} must be one of the features, with constraint +1: "
                    "a riskier prior never lowers the probability"
                )
        widths = {len(names) for names in self.prior_distances}
        if self.prior_distances and (
            self.prior or len(self.prior_distances) != len(self.horizons) or len(widths) != 1
        ):
            raise ModelError(
                f"schema has prior_distances {self.prior_distances} for horizons {self.horizons}; "
                "give as many columns for each horizon, and then no prior columns of logits"
            )
        for name in self.distance_names():
            if constraints.get(name) != -1:
                raise ModelError(
                    f"prior distance {name!r} must be one of the features, with constraint -1: "
                    "more headroom never raises the probability"
                )

    def prior_columns(self) -> tuple[int, ...]:
        """Position of each horizon's prior logit among the features; empty without one."""
        return tuple(self.features.index(name) for name in self.prior)

    def distance_names(self) -> tuple[str, ...]:
        """The columns of `prior_distances`, each once, in the order of their first mention."""
        return tuple(dict.fromkeys(name for names in self.prior_distances for name in names))

    def prior_inputs(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the columns that the prior of each horizon reads, whatever its form.

        Where one of them is NaN so is the prior. Empty for every horizon without a prior.
        """
        if self.prior:
            return tuple((column,) for column in self.prior_columns())
        if self.prior_distances:
            return tuple(
                tuple(self.features.index(name) for name in names) for names in self.prior_distances
            )
        return ((),) * len(self.horizons)

    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of `to_dict`."""
        return hashlib.sha256(canonical_json(self.to_dict())).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """The schema as lists, numbers and texts; what later versions added has no key while it is
        empty."""
        return {
            key: _as_list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key not in ("feature_digests", "prior_distances") or value
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> ModelSchema:
        """Read what `to_dict` wrote; unknown keys and wrong types are refused.

        Raises
        ------
        ModelError
            A key is missing, unknown or of the wrong type, or the parts do not fit together.
        """
        unknown = sorted(set(data) - set(cls.__slots__))
        if unknown:
            raise ModelError(f"schema has unknown keys {unknown}; known are {list(cls.__slots__)}")
        try:
            return msgspec.convert(dict(data), cls)
        except msgspec.ValidationError as error:
            raise ModelError(
                f"schema is malformed ({error}); export the model again with this version"
            ) from error


def _as_list(values: tuple[object, ...]) -> list[object]:
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _sha256_of_digests(digests: tuple[str, ...]) -> str:
    return hashlib.sha256(canonical_json(list(digests))).hexdigest()
