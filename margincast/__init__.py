"""Margincast in Python: from frames of positions, collateral and bars to add-ons.

A short tour (`docs/python.md` has all of it)::

    import margincast as mc

    book = mc.simulate(seed=1)                      # or frames of your own
    model = mc.load_champion()                      # of margincast.toml in this folder
    market = mc.Market(book.bars)                   # cleaned and with its features, once

    decisions = mc.score(book.positions, book.collateral, market, model=model)
    margins = mc.requirement(book.positions, book.collateral, market)   # the rules alone
    parts = mc.explain(book.positions, book.collateral, market, model=model)
    fall = mc.Scenario(spot={"*": -0.1}, target_headroom=0.0)
    changed = mc.what_if(book.positions, book.collateral, market, fall, model=model)
    columns = mc.features(market)                   # market features by symbol and time

Frames in are pandas or polars, frames out are pandas. `MarginCallClassifier` and
`PurgedTimeSeriesSplit` bring the model and its splits to scikit-learn; the classifier needs
``margincast[training]``. Every deliberate error is a `MargincastError`, whose message says what was
given, what was expected and what to do.

Nothing is loaded before its first use.
"""

import sys
from types import ModuleType

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        from market.core.errors import MissingExtraError
        from pipelines.cli.extras import missing_module

        needed = missing_module(error)
        if needed is None:
            raise
        raise MissingExtraError(f"margincast.{name}: {needed}") from None


class _PublicNames(ModuleType):
    """Keeps public names: in an installation `margincast.features` is also a package, and its
    import would put the package in the place of the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _PublicNames
