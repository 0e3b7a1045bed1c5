"""The rule floors of the add-on.

A floor is one file in this folder, one table ``[floors.<name>]`` in `margin.rules.floors` with a
key ``enabled``, and one line in `margin.floors.registry`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
