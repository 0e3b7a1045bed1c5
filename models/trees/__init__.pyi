from .contributions import (
    BIAS as BIAS,
    PRIOR as PRIOR,
    contribution_names as contribution_names,
    horizon_contributions as horizon_contributions,
    of_prior as of_prior,
    score_contributions as score_contributions,
)
from .lightgbm_trees import trees_from_booster as trees_from_booster
from .tree_bracketing import LevelGuesser as LevelGuesser
from .tree_table import (
    Floats as Floats,
    TreeTable as TreeTable,
    as_rows as as_rows,
    trees_from_bytes as trees_from_bytes,
    trees_sha256 as trees_sha256,
    trees_to_bytes as trees_to_bytes,
)

__all__ = [
    "BIAS",
    "PRIOR",
    "Floats",
    "LevelGuesser",
    "TreeTable",
    "as_rows",
    "contribution_names",
    "horizon_contributions",
    "of_prior",
    "score_contributions",
    "trees_from_booster",
    "trees_from_bytes",
    "trees_sha256",
    "trees_to_bytes",
]
