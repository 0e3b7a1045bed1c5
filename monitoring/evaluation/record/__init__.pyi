from .evaluation_state import EvaluationState as EvaluationState, restore as restore

__all__ = ["EvaluationState", "restore"]
