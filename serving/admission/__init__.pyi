from .deadline import DeadlineError as DeadlineError, call_seconds as call_seconds
from .lane import Lane as Lane, LaneFullError as LaneFullError
from .lanes import Lanes as Lanes

__all__ = ["DeadlineError", "Lane", "LaneFullError", "Lanes", "call_seconds"]
