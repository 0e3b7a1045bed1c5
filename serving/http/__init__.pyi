from .app import create_app as create_app
from .metrics import Metrics as Metrics
from .problems import PROBLEM_JSON as PROBLEM_JSON, Problem as Problem

__all__ = ["PROBLEM_JSON", "Metrics", "Problem", "create_app"]
