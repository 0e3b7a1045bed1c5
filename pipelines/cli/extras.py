"""Optional dependencies (extras): checks, and messages that say what to install."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from importlib.util import find_spec

from market.core.errors import MissingExtraError

MODULES: Mapping[str, tuple[str, ...]] = {
    "training": (
        "apscheduler",
        "filelock",
        "joblib",
        "lightgbm",
        "matplotlib",
        "mlflow",
        "onnx",
        "scipy",
        "sklearn",
        "threadpoolctl",
    ),
    "jwt": ("jwt",),
    "pdf": ("reportlab",),
    "postgres": ("psycopg",),
    "search": ("optuna",),
    "otel": ("opentelemetry",),
}
"""Modules that the code imports from each extra."""


def require(extra: str, verb: str) -> None:
    """Refuse a verb before it starts if its extra is not installed.

    Raises
    ------
    MissingExtraError
        A module of the extra cannot be imported.
    """
    missing = [name for name in MODULES[extra] if not _installed(name)]
    if missing:
        raise MissingExtraError(
            f"{verb} needs the {extra} extra, and {', '.join(missing)} cannot be imported; "
            f"install it: {_install(extra)}"
        )


def missing_module(error: ModuleNotFoundError) -> str | None:
    """What to install after a failed import; None if the module belongs to no extra."""
    name = (error.name or "").partition(".")[0]
    for extra, modules in MODULES.items():
        if name in modules:
            return f"this needs the {extra} extra ({error}); install it: {_install(extra)}"
    return None


def _install(extra: str) -> str:
    """The command that installs an extra into the running interpreter's environment."""
    return shlex.join([sys.executable, "-m", "pip", "install", f"margincast[{extra}]"])


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
