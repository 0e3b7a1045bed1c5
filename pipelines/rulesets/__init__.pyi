from .depth import write_depth as write_depth
from .rulesets_import import import_rulesets as import_rulesets

__all__ = ["import_rulesets", "write_depth"]
