"""The errors that the Python API raises, all of them a `MargincastError`."""

from market.core.errors import ConfigError, DataError, MargincastError, ModelError, RuleSetError

__all__ = ["ConfigError", "DataError", "MargincastError", "ModelError", "RuleSetError"]
