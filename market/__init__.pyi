from . import (
    accounts as accounts,
    bars as bars,
    core as core,
    quotes as quotes,
    simulator as simulator,
    sources as sources,
)

__all__ = ["accounts", "bars", "core", "quotes", "simulator", "sources"]
