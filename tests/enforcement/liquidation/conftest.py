"""The small market of the margin tests."""

from tests.margin.conftest import make_view, market, view

__all__ = ["make_view", "market", "view"]
