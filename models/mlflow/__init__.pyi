from .child_runs import ChildRun as ChildRun
from .registry import (
    Version as Version,
    find_challenger as find_challenger,
    list_versions as list_versions,
    set_aliases as set_aliases,
)
from .run_figures import evaluation_metrics as evaluation_metrics
from .run_reader import load_run as load_run
from .store import Tracking as Tracking
from .tracking import TrainingRun as TrainingRun, log_training as log_training

__all__ = [
    "ChildRun",
    "Tracking",
    "TrainingRun",
    "Version",
    "evaluation_metrics",
    "find_challenger",
    "list_versions",
    "load_run",
    "log_training",
    "set_aliases",
]
