from . import logs as logs, metrics as metrics, tracing as tracing
from .exchange import Exchange as Exchange
from .telemetry import Telemetry as Telemetry

__all__ = ["Exchange", "Telemetry", "logs", "metrics", "tracing"]
