from .app import create_app as create_app
from .problems import PROBLEM_JSON as PROBLEM_JSON, Problem as Problem

__all__ = ["PROBLEM_JSON", "Problem", "create_app"]
