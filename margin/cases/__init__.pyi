from .liquidation_cases import run_liquidation_case as run_liquidation_case
from .margin_cases import run_case as run_case, run_cases as run_cases
from .what_if_cases import (
    explain_against as explain_against,
    explain_case as explain_case,
    what_if_case as what_if_case,
)

__all__ = [
    "explain_against",
    "explain_case",
    "run_case",
    "run_cases",
    "run_liquidation_case",
    "what_if_case",
]
