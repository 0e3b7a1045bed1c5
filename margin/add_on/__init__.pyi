from .bounds import (
    AddOn as AddOn,
    ModelLevel as ModelLevel,
    add_on_cap as add_on_cap,
    bound_add_on as bound_add_on,
    deposit_to_meet as deposit_to_meet,
    in_stress as in_stress,
    opening_requirement as opening_requirement,
)
from .explain import Explanation as Explanation, explain_engine as explain_engine
from .reduction import reduction_fractions as reduction_fractions
from .solver import (
    RELATIVE_PRECISION as RELATIVE_PRECISION,
    required_level as required_level,
    target_horizons as target_horizons,
)

__all__ = [
    "RELATIVE_PRECISION",
    "AddOn",
    "Explanation",
    "ModelLevel",
    "add_on_cap",
    "bound_add_on",
    "deposit_to_meet",
    "explain_engine",
    "in_stress",
    "opening_requirement",
    "reduction_fractions",
    "required_level",
    "target_horizons",
]
