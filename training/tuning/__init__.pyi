from .search import (
    SearchPlan as SearchPlan,
    SearchResult as SearchResult,
    Space as Space,
    Trial as Trial,
    search_hyperparameters as search_hyperparameters,
)

__all__ = ["SearchPlan", "SearchResult", "Space", "Trial", "search_hyperparameters"]
