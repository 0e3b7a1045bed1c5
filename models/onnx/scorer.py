"""Probabilities from an ONNX graph, on one thread, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from market.core.errors import BundleError, ModelError
from models.bundle.schema import ModelSchema
from models.trees.tree_table import Floats, as_rows

INPUT = "features"
PROBABILITY = "probability"
RAW_SCORE = "raw_score"
SCHEMA_KEY = "schema_sha256"
"""Key of the model metadata that ties a graph to its schema."""
CHUNK_ROWS = 65_536

_LOAD_ERRORS = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NotImplemented,
    runtime.RuntimeException,
    RuntimeError,
    ValueError,
)


class Scorer:
    """An audited ONNX graph that gives probabilities.

    One thread and no spinning: equal rows give equal bits in every batch, and other processes lose
    no time. Safe to share between threads.

    Parameters
    ----------
    onnx_bytes:
        A graph from `models.onnx.export`.
    schema:
        The schema it was exported with.

    Raises
    ------
    BundleError
        ONNX Runtime refuses the graph, or its inputs, outputs or schema hash are not as expected.
    """

    __slots__ = ("_session", "schema")

    def __init__(self, onnx_bytes: bytes, schema: ModelSchema) -> None:
        self.schema = schema
        self._session = _open_session(onnx_bytes)
        _check_session(self._session, schema)

    def probability(self, X: Floats) -> Floats:
        """Probability of a call within each horizon, never falling from one to the next.

        Parameters
        ----------
        X:
            float64, shape (N, F), columns as in the schema. NaN is a missing value.

        Returns
        -------
        float64, shape (N, H); NaN where the prior is NaN.

        Raises
        ------
        ModelError
            X is not float64 of shape (N, F), or the graph gives another shape.
        """
        return self._run(X, (PROBABILITY,))[0]

    def score(self, X: Floats) -> tuple[Floats, Floats]:
        """Raw scores before calibration and probabilities, each float64 of shape (N, H).

        Raises
        ------
        ModelError
            X is not float64 of shape (N, F).
        """
        raw, probability = self._run(X, (RAW_SCORE, PROBABILITY))
        return raw, probability

    def _run(self, X: Floats, outputs: tuple[str, ...]) -> list[Floats]:
        rows = as_rows(X, len(self.schema.features))
        results = [np.empty((len(rows), len(self.schema.horizons))) for _ in outputs]
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            parts = self._session.run(outputs, {INPUT: rows[chunk]})
            for result, part in zip(results, parts, strict=True):
                if part.shape != result[chunk].shape:
                    raise ModelError(
                        f"the graph gives shape {part.shape} for {len(rows[chunk])} rows; expected "
                        f"{result[chunk].shape}, export the model again"
                    )
                result[chunk] = part
        return results


def _open_session(onnx_bytes: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    except _LOAD_ERRORS as error:
        raise BundleError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the graph ({error}); export it again"
        ) from error


def _check_session(session: Any, schema: ModelSchema) -> None:
    expected_in = {INPUT: len(schema.features)}
    expected_out = dict.fromkeys((PROBABILITY, RAW_SCORE), len(schema.horizons))
    for side, nodes, expected in (
        ("inputs", session.get_inputs(), expected_in),
        ("outputs", session.get_outputs(), expected_out),
    ):
        if {node.name for node in nodes} != set(expected):
            raise BundleError(
                f"ONNX {side} are {[node.name for node in nodes]}; expected {list(expected)}, "
                "export the model with models.onnx.export"
            )
        for node in nodes:
            width = expected[node.name]
            fits = len(node.shape) == 2 and isinstance(node.shape[0], str)
            if node.type != "tensor(double)" or not fits or node.shape[1] != width:
                raise BundleError(
                    f"ONNX {side[:-1]} {node.name} is {node.type} {node.shape}; expected "
                    f"tensor(double) ['N', {width}]"
                )
    recorded = session.get_modelmeta().custom_metadata_map.get(SCHEMA_KEY)
    if recorded != schema.sha256():
        raise BundleError(
            f"ONNX graph was exported with schema {recorded}; this schema is {schema.sha256()}, "
            "keep graph and manifest of one export together"
        )
