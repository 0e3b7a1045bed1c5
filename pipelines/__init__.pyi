from . import (
    cli as cli,
    config as config,
    data as data,
    jobs as jobs,
    registry as registry,
    reports as reports,
    rulesets as rulesets,
    scheduler as scheduler,
)

__all__ = ["cli", "config", "data", "jobs", "registry", "reports", "rulesets", "scheduler"]
