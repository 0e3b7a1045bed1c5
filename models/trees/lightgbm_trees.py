"""From a LightGBM booster to a `TreeTable`, exactly, or not at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from market.core.errors import ExportError
from models.trees.tree_table import TreeTable

if TYPE_CHECKING:
    import lightgbm

_PARAMETER = re.compile(r"^\[(\w+): (.*)\]$", re.MULTILINE)
_BOOSTINGS = ("gbdt", "dart", "goss")
ZERO_BAND = float(np.float32(1e-35))
"""LightGBM's predictor reads every |x| up to this as 0."""


def trees_from_booster(
    booster: lightgbm.Booster, n_features: int, *, average: bool = False
) -> TreeTable:
    """The trees of a booster that predict the same raw score to the last bit.

    Uses the best iteration where early stopping found one, as `Booster.predict` does. Two habits
    of LightGBM's predictor are folded into the table: where a split knows no missing values, NaN
    is compared as 0; and values within `ZERO_BAND` count as 0, so that a threshold inside the
    band moves to its edge.

    Parameters
    ----------
    booster:
        A model with one tree an iteration and numeric splits only.
    n_features:
        Width of its input.
    average:
        Accept ``boost_from_average=true``, which hides the base rate in the first tree. Right
        only for a model without a prior.

    Raises
    ------
    ExportError
        The booster uses categorical splits, ``zero_as_missing``, ``linear_tree``, random forest
        boosting, several classes, a hidden base rate, or another number of features.

    References
    ----------
    LightGBM 4 documentation, `Booster.dump_model`; its JSON keeps thresholds and leaves to 17
    digits.
    """
    dump: dict[str, Any] = booster.dump_model()
    _check_booster(booster, dump, n_features, average)
    nodes = _Nodes()
    tree_start = [0]
    for tree in dump["tree_info"]:
        nodes.append_tree(tree["tree_structure"])
        tree_start.append(len(nodes.feature))
    return TreeTable(
        n_features=n_features,
        tree_start=np.array(tree_start, np.int64),
        feature=np.array(nodes.feature, np.int32),
        threshold=np.array(nodes.threshold, np.float64),
        left=np.array(nodes.left, np.int32),
        right=np.array(nodes.right, np.int32),
        default_left=np.array(nodes.default_left, np.bool_),
        value=np.array(nodes.value, np.float64),
    )


def _check_booster(
    booster: lightgbm.Booster, dump: dict[str, Any], n_features: int, average: bool
) -> None:
    parameters = dict(_PARAMETER.findall(booster.model_to_string()))
    width = int(dump["max_feature_idx"]) + 1
    if width != n_features:
        raise ExportError(f"booster has {width} features; the schema has {n_features}")
    if dump["num_tree_per_iteration"] != 1:
        raise ExportError(
            f"booster has {dump['num_tree_per_iteration']} trees an iteration; multiclass models "
            "are not exported, train one binary model a horizon"
        )
    if dump.get("average_output") or parameters.get("boosting") not in _BOOSTINGS:
        raise ExportError(
            f"boosting is {parameters.get('boosting')!r}; expected one of {_BOOSTINGS}, because a "
            "random forest averages its trees"
        )
    for name, refused in (("linear_tree", "linear leaves"), ("zero_as_missing", "zeros as NaN")):
        if parameters.get(name) != "0":
            raise ExportError(f"booster has {refused}; train with {name}=false")
    if not average and (parameters.get("boost_from_average") != "0" or _hidden_base_rate(dump)):
        raise ExportError(
            "booster hides the base rate in its first tree, which the prior already holds; train "
            "with init_score and boost_from_average=false"
        )


def _hidden_base_rate(dump: dict[str, Any]) -> bool:
    """Without init_score and without a split LightGBM makes the base rate its only tree."""
    roots = [tree["tree_structure"] for tree in dump["tree_info"]]
    return len(roots) == 1 and "split_feature" not in roots[0] and roots[0]["leaf_value"] != 0.0


class _Nodes:
    """Columns of a tree table while it grows, each tree in preorder."""

    def __init__(self) -> None:
        self.feature: list[int] = []
        self.threshold: list[float] = []
        self.left: list[int] = []
        self.right: list[int] = []
        self.default_left: list[bool] = []
        self.value: list[float] = []

    def append_tree(self, root: dict[str, Any]) -> None:
        pending: list[tuple[dict[str, Any], list[int], int]] = [(root, [-1], 0)]
        while pending:
            node, links, parent = pending.pop()
            index = len(self.feature)
            links[parent] = index
            if "split_feature" in node:
                self._append_split(node)
                pending.append((node["right_child"], self.right, index))
                pending.append((node["left_child"], self.left, index))
            else:
                self._append(-1, 0.0, False, float(node["leaf_value"]))

    def _append_split(self, node: dict[str, Any]) -> None:
        feature = int(node["split_feature"])
        if node["decision_type"] != "<=":
            raise ExportError(
                f"booster splits column {feature} by category; encode categories as numbers"
            )
        if node["missing_type"] not in ("None", "NaN"):
            raise ExportError(
                f"booster treats zero as missing in column {feature}; train with "
                "zero_as_missing=false"
            )
        threshold = _outside_zero_band(float(node["threshold"]))
        knows_nan = node["missing_type"] == "NaN"
        default_left = bool(node["default_left"]) if knows_nan else threshold >= 0.0
        self._append(feature, threshold, default_left, float(node["internal_value"]))

    def _append(self, feature: int, threshold: float, default_left: bool, value: float) -> None:
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.left.append(-1)
        self.right.append(-1)
        self.default_left.append(default_left)
        self.value.append(value)


def _outside_zero_band(threshold: float) -> float:
    """The threshold that splits raw values as this one splits values flushed to 0 in the band."""
    if 0.0 <= threshold < ZERO_BAND:
        return ZERO_BAND
    if -ZERO_BAND <= threshold < 0.0:
        return float(np.nextafter(-ZERO_BAND, -np.inf))
    return threshold
