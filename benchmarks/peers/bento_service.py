"""A BentoML service that answers the probabilities of one ONNX model, and nothing more.

The model's file is named by ``PEER_MODEL``. One thread of ONNX Runtime, one worker, no access log.
"""

import os
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from bentoml.validators import DType


@bentoml.service(
    name="forecast", workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}}
)
class Forecast:
    """One session of ONNX Runtime."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(
        self, features: Annotated[np.ndarray, DType("float64")]
    ) -> Annotated[np.ndarray, DType("float64")]:
        """Probabilities, shape (N, H), of rows of features, shape (N, F)."""
        probability: np.ndarray = self._session.run(["probability"], {"features": features})[0]
        return probability
