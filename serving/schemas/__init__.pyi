from .read_messages import (
    Alive as Alive,
    DecisionPage as DecisionPage,
    ModelInfo as ModelInfo,
    Readiness as Readiness,
    RecordedDecision as RecordedDecision,
    RuleSetInfo as RuleSetInfo,
    recorded as recorded,
)

__all__ = [
    "Alive",
    "DecisionPage",
    "ModelInfo",
    "Readiness",
    "RecordedDecision",
    "RuleSetInfo",
    "recorded",
]
