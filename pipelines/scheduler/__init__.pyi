from .cron import parse_cron as parse_cron
from .lock import RETRAIN_LOCK as RETRAIN_LOCK, exclusive as exclusive
from .notify import run_and_notify as run_and_notify
from .schedule import Scheduler as Scheduler, next_starts as next_starts

__all__ = ["RETRAIN_LOCK", "Scheduler", "exclusive", "next_starts", "parse_cron", "run_and_notify"]
