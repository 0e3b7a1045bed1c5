"""The extras of the installation: which verb needs which, and what to do where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from market.core.errors import MissingExtraError

MODULES: Mapping[str, tuple[str, ...]] = {
    "training": (
        "apscheduler",
        "filelock",
        "jinja2",
        "lightgbm",
        "matplotlib",
        "mlflow",
        "onnx",
        "scipy",
        "sklearn",
    ),
    "postgres": ("psycopg",),
}
"""What the code imports of each extra, by the name of the import."""


def require(extra: str, verb: str) -> None:
    """Refuse a verb at once where its extra is not installed, and not after half of its work.

    Raises
    ------
    MissingExtraError
        A package of the extra cannot be imported.
    """
    missing = [name for name in MODULES[extra] if not _installed(name)]
    if missing:
        raise MissingExtraError(
            f"{verb} needs the {extra} extra, and {', '.join(missing)} cannot be imported; "
            f"install margincast[{extra}]"
        )


def missing_module(error: ModuleNotFoundError) -> str | None:
    """What to install where an import of an extra failed; None where it belongs to none."""
    name = (error.name or "").partition(".")[0]
    for extra, modules in MODULES.items():
        if name in modules:
            return f"this needs the {extra} extra ({error}); install margincast[{extra}]"
    return None


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
