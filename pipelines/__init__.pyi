from . import (
    cli as cli,
    config as config,
    data as data,
    jobs as jobs,
    ledger_reports as ledger_reports,
    pro_forma as pro_forma,
    registry as registry,
    reports as reports,
    rulesets as rulesets,
    scheduler as scheduler,
)

__all__ = [
    "cli",
    "config",
    "data",
    "jobs",
    "ledger_reports",
    "pro_forma",
    "registry",
    "reports",
    "rulesets",
    "scheduler",
]
