from .metrics import (
    CONTENT_TYPE as CONTENT_TYPE,
    Metrics as Metrics,
    MetricsFolder as MetricsFolder,
)

__all__ = ["CONTENT_TYPE", "Metrics", "MetricsFolder"]
