from .read_messages import (
    Alive as Alive,
    DecisionExplanation as DecisionExplanation,
    DecisionPage as DecisionPage,
    ModelInfo as ModelInfo,
    Readiness as Readiness,
    RecordedDecision as RecordedDecision,
    RuleSetInfo as RuleSetInfo,
    SupersedingChange as SupersedingChange,
    recorded as recorded,
)

__all__ = [
    "Alive",
    "DecisionExplanation",
    "DecisionPage",
    "ModelInfo",
    "Readiness",
    "RecordedDecision",
    "RuleSetInfo",
    "SupersedingChange",
    "recorded",
]
