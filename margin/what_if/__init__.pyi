from .outcome import (
    Outcome as Outcome,
    marginal_requirements as marginal_requirements,
    outcomes as outcomes,
)
from .remedies import find_remedies as find_remedies
from .shocks import (
    Shocks as Shocks,
    shock_case as shock_case,
    shock_quotes as shock_quotes,
)
from .sizing import (
    largest_size as largest_size,
    search_largest as search_largest,
    size_unit as size_unit,
)
from .trades import Change as Change

__all__ = [
    "Change",
    "Outcome",
    "Shocks",
    "find_remedies",
    "largest_size",
    "marginal_requirements",
    "outcomes",
    "search_largest",
    "shock_case",
    "shock_quotes",
    "size_unit",
]
