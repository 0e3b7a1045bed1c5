"""MLflow's store: where it is, and a client whose failures are ours.

MLflow takes seconds to import and serves review only, so it is imported inside functions and
never by the endpoint. This file alone knows how to keep it quiet and how it fails.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SADeprecationWarning, SQLAlchemyError

from market.core.errors import ModelError
from market.core.redaction import display_address, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS = "mlartifacts"
"""Folder of artifacts beside a SQLite file."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The default of 7 keeps a caller waiting some four minutes for a server that is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}


@dataclass(frozen=True, slots=True)
class Tracking:
    """MLflow's store, the experiment of the trainings and the registered model.

    Attributes
    ----------
    uri:
        A database, best ``sqlite:///var/mlflow.db``, or a server, ``https://…``. May hold a
        password, so it is not shown: `address` is.
    experiment, model:
        Names in MLflow.

    Raises
    ------
    ModelError
        The address cannot be read, or names a SQLite database in memory, or a name is empty.
    """

    uri: str = field(repr=False)
    experiment: str
    model: str

    def __post_init__(self) -> None:
        try:
            url = make_url(self.uri)
        except ArgumentError:
            raise ModelError(
                "[tracking] uri cannot be read; write it like sqlite:///var/mlflow.db, "
                "postgresql://… or https://…"
            ) from None
        if _is_sqlite(url) and url.database in (None, "", ":memory:"):
            raise ModelError(
                "[tracking] uri is a SQLite database in memory, which would be gone after this "
                "run; name a file, like sqlite:///var/mlflow.db"
            )
        if not self.experiment or not self.model:
            raise ModelError("[tracking] experiment and model must not be empty; name them")

    @property
    def address(self) -> str:
        """The uri fit to be shown, see `market.core.redaction.display_address`."""
        return display_address(self.uri)

    @property
    def artifact_location(self) -> str | None:
        """Folder ``mlartifacts`` beside a SQLite file, as a URI; None leaves it to the server."""
        url = make_url(self.uri)
        if not _is_sqlite(url):
            return None
        return (Path(str(url.database)).resolve().parent / ARTIFACTS).as_uri()

    def redact(self, text: str) -> str:
        """The text with this store's uri and secrets taken out."""
        return redact(text.replace(self.uri, self.address), self.uri)


@contextmanager
def mlflow_client(tracking: Tracking) -> Iterator[MlflowClient]:
    """An MLflow client for the length of a ``with`` block, silent and with our errors.

    The database, and on SQLite its folder, is made on first use, which takes some seconds.

    Raises
    ------
    ModelError
        MLflow is not installed, its store cannot be reached, or it refused something in the
        block. The message names the store without its password.

    References
    ----------
    MLflow documentation, "Backend stores".
    """
    _set_environment()
    with _quiet_warnings():
        try:
            import mlflow
            from mlflow.exceptions import MlflowException
        except ModuleNotFoundError as error:
            raise ModelError(
                f"MLflow cannot be imported ({error}); install margincast with its extra `training`"
            ) from error
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        _check_database(tracking)
        try:
            yield mlflow.MlflowClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise ModelError(
                f"MLflow at {tracking.address} failed: {tracking.redact(str(error))}; see that "
                "[tracking] uri is reachable, writable and made by this version of MLflow"
            ) from error


def is_missing(error: Exception) -> bool:
    """Whether an MLflow exception says that a thing does not exist."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _set_environment() -> None:
    """Settings that MLflow reads on import; those of the caller's environment win."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def _quiet_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # MLflow 3.17 eagerly loads with `noload`, which SQLAlchemy 2.1 deprecates; the call is
        # theirs and works.
        warnings.filterwarnings("ignore", category=SADeprecationWarning, module=r"mlflow\.")
        # On import MLflow infers schemas from its own type hints and warns of them.
        warnings.filterwarnings(
            "ignore", message=".*Any type hint is inferred", category=UserWarning
        )
        # It compares the names of an example's columns with a range, which pandas 3 deprecates.
        warnings.filterwarnings("ignore", message="Operation with range is deprecated")
        yield


def _check_database(tracking: Tracking) -> None:
    """Fail at once where MLflow would try for minutes."""
    url = make_url(tracking.uri)
    if url.drivername in ("http", "https"):
        return
    try:
        if _is_sqlite(url):
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url)
        try:
            inspect(engine).get_table_names()
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise ModelError(
            f"MLflow's database {tracking.address} cannot be opened: "
            f"{tracking.redact(str(error))}; correct [tracking] uri or start the database"
        ) from error
