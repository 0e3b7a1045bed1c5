from .configured_sinks import (
    delivering as delivering,
    sinks_of as sinks_of,
    subscriptions_of as subscriptions_of,
)

__all__ = ["delivering", "sinks_of", "subscriptions_of"]
