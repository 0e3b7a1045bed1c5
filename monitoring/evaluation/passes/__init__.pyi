from .model_pass import score_levels as score_levels
from .rules_pass import evaluate_book as evaluate_book

__all__ = ["evaluate_book", "score_levels"]
