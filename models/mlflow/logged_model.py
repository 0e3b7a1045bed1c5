"""A bundle as an MLflow model: named columns in and out, an example, no pickled object."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from market.core.arrays import Floats
from models.bundle.bundle import Bundle
from models.bundle.schema import ModelSchema
from models.mlflow.registry import BUNDLE_TAG

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

LOGGED_MODEL = "model"
LOADER = "margincast.mlflow_model"
"""Module that loads the bundle. Registered versions name it, so it must not move."""
REQUIREMENTS = ("margincast", "numpy", "onnxruntime", "pandas")
"""Packages that the logged model needs, pinned to the versions at hand."""


def output_names(schema: ModelSchema) -> list[str]:
    """Columns of a forecast: ``p_8`` is the probability of a call within 8 hours."""
    return [f"p_{hours}" for hours in schema.horizons]


def log_model(bundle: Bundle, example: Floats) -> str:
    """Log a bundle to the active run as a ``python_function`` model; returns the model's id.

    The folder of the bundle is copied as it is, and `LOADER` audits the copy before it loads it.
    Signature and requirements are passed: MLflow would take seconds to guess them.

    Parameters
    ----------
    bundle:
        The bundle.
    example:
        A few rows of the model's features, float64, shape (N, F). MLflow scores them when
        the model is logged, which proves that the copy loads.

    References
    ----------
    MLflow documentation, ``mlflow.pyfunc``: "Custom models by loader module".
    """
    import mlflow.pyfunc
    import pandas as pd

    schema = bundle.schema
    info = mlflow.pyfunc.log_model(
        name=LOGGED_MODEL,
        loader_module=LOADER,
        data_path=str(bundle.path),
        signature=_signature(schema),
        input_example=pd.DataFrame(example, columns=list(schema.features)),
        pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
        metadata={
            BUNDLE_TAG: bundle.sha256,
            "features": list(schema.features),
            "horizons": list(schema.horizons),
        },
    )
    return str(info.model_id)


def _signature(schema: ModelSchema) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    def columns(names: list[str]) -> Schema:
        return Schema([ColSpec(DataType.double, name) for name in names])

    return ModelSignature(
        inputs=columns(list(schema.features)), outputs=columns(output_names(schema))
    )
