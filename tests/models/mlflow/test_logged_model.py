"""The registered model as MLflow loads and serves it: the bundle's numbers, bit for bit."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from benchmarks.http.ports import free_port
from margincast import mlflow_model
from market.core.errors import BundleError, ModelError
from models.bundle.bundle import Bundle, load_bundle, write_bundle
from models.mlflow.registry import set_aliases
from models.mlflow.store import Tracking, mlflow_client
from models.mlflow.tracking import TrainingRun, log_training

SCRIPTS = Path(sys.executable).parent
SECONDS = 300.0
"""A server that takes longer to answer hangs; machines are shared."""


@pytest.fixture(scope="module")
def bundle(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("bundles")
    return load_bundle(root / write_bundle(root, small.files()))


@pytest.fixture(scope="module")
def tracking(small: Any, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    store = Tracking(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", "e", "margincast")
    run = TrainingRun(
        bundle=bundle,
        data_sha256="1" * 64,
        ruleset_sha256="2" * 64,
        params={},
        evaluation={"rows": 1, "data": {}, "horizons": {}},
        gates={},
        verdict="promoted",
        reasons=[],
        plots={},
        model_card="",
        example=small.X[:3],
        started=0,
        user="desk",
        source="margincast retrain",
        commit=None,
    )
    log_training(store, run)
    set_aliases(store, champion=bundle.sha256, challenger=None, previous=None)
    return store


PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mlflow.md").read_text("utf-8")
UI, SERVE, DOWNLOAD = (
    shlex.split(words)
    for words in re.findall(r"^(?:\S+=\S+ +)?(mlflow .*)", PAGE.replace("\\\n", ""), re.MULTILINE)
)
"""Commands of the page, in its order."""


def test_program_of_the_page_loads_the_model(tracking: Tracking) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert '"sqlite:///var/mlflow.db"' in program
    program = program.replace("sqlite:///var/mlflow.db", tracking.uri)
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nprint(list(probability.columns), len(probability))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['p_1', 'p_8', 'p_24'] 3"


@pytest.fixture(scope="module")
def frame(small: Any, bundle: Bundle) -> pd.DataFrame:
    """Rows with NaN, their columns in another order than the model's."""
    rows = pd.DataFrame(small.X[:50], columns=list(bundle.schema.features))
    assert rows.isna().to_numpy().any()
    return rows[rows.columns[::-1]]


@pytest.fixture(scope="module")
def expected(small: Any, bundle: Bundle) -> Any:
    return bundle.scorer.probability(small.X[:50])


def loaded(tracking: Tracking) -> Any:
    import mlflow

    mlflow.set_tracking_uri(tracking.uri)
    return mlflow.pyfunc.load_model("models:/margincast@champion")


def test_loaded_model_equals_the_scorer_bit_for_bit(
    tracking: Tracking, frame: pd.DataFrame, expected: Any
) -> None:
    with mlflow_client(tracking):
        forecast = loaded(tracking).predict(frame)
    assert list(forecast.columns) == ["p_1", "p_8", "p_24"]
    assert forecast.dtypes.unique().tolist() == [np.dtype(np.float64)]
    np.testing.assert_array_equal(forecast.to_numpy(), expected)


def test_signature_names_every_column_and_the_example_is_given(
    tracking: Tracking, bundle: Bundle, small: Any
) -> None:
    with mlflow_client(tracking):
        model = loaded(tracking)
        example = model.input_example
    signature = model.metadata.signature
    assert signature.inputs.input_names() == list(bundle.schema.features)
    assert signature.outputs.input_names() == ["p_1", "p_8", "p_24"]
    assert {str(kind) for kind in signature.inputs.input_types()} == {"DataType.double"}
    np.testing.assert_array_equal(example.to_numpy(dtype=np.float64), small.X[:3])


def test_model_of_mlflow_holds_the_bundle_and_no_pickle_or_code(
    tracking: Tracking, bundle: Bundle, tmp_path: Path
) -> None:
    with mlflow_client(tracking):
        import mlflow

        mlflow.set_tracking_uri(tracking.uri)
        folder = Path(
            mlflow.artifacts.download_artifacts(
                "models:/margincast@champion", dst_path=str(tmp_path)
            )
        )
    assert load_bundle(folder / "data" / bundle.sha256).sha256 == bundle.sha256
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds <= {".onnx", ".npz", ".json", ".txt", ".yaml", ""}
    assert not (folder / "code").exists()
    pins = (folder / "requirements.txt").read_text().splitlines()
    assert {"margincast", "numpy", "onnxruntime"} <= {pin.partition("==")[0] for pin in pins}
    assert all("==" in pin and "://" not in pin for pin in pins)


def test_altered_model_is_refused_before_it_is_loaded(bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / bundle.sha256
    shutil.copytree(bundle.path, copy)
    graph = copy / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="checksum"):
        mlflow_model._load_pyfunc(str(copy))


def test_malformed_frames_are_refused_with_the_columns_named(
    bundle: Bundle, frame: pd.DataFrame, tracking: Tracking
) -> None:
    model = mlflow_model._load_pyfunc(str(bundle.path))
    with pytest.raises(ModelError, match=r"lacks the column\(s\) momentum; "):
        model.predict(frame.drop(columns="momentum"))
    with pytest.raises(ModelError, match=r"jumps \(float32\)"):
        model.predict(frame.astype({"jumps": np.float32}))
    with pytest.raises(ModelError, match="was given ndarray"):
        model.predict(frame.to_numpy())  # type: ignore[arg-type]
    with mlflow_client(tracking):
        from mlflow.exceptions import MlflowException

        served = loaded(tracking)
        with pytest.raises(MlflowException, match=r"missing inputs \['momentum'\]"):
            served.predict(frame.drop(columns="momentum"))
        with pytest.raises(MlflowException, match="Incompatible input types for column jumps"):
            served.predict(frame.assign(jumps="high"))


def variables(tracking: Tracking) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@contextmanager
def server(command: Sequence[str], tracking: Tracking, folder: Path, ready: str) -> Iterator[str]:
    """Address of a command of the page at a free port, started in a folder of its own."""
    port = free_port()
    words = [word.replace("sqlite:///var/mlflow.db", tracking.uri) for word in command]
    if "--port" in words:
        del words[words.index("--port") :]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(SCRIPTS / words[0]), *words[1:], "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=variables(tracking),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}{ready}", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def served(tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(SERVE, tracking, tmp_path_factory.mktemp("serve"), "/ping") as address:
        yield f"{address}/invocations"


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail(f"no answer within {SECONDS} s: {log.read_text()}")


@pytest.mark.slow
def test_mlflow_models_serve_answers_a_data_frame_with_the_same_numbers(
    served: str, frame: pd.DataFrame, expected: Any
) -> None:
    values = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    split = {"columns": list(frame.columns), "data": values}
    answer = httpx.post(served, json={"dataframe_split": split}, timeout=60.0)
    assert answer.status_code == 200, answer.text
    rows = pd.DataFrame(answer.json()["predictions"])
    assert list(rows.columns) == ["p_1", "p_8", "p_24"]
    np.testing.assert_array_equal(rows.to_numpy(), expected)


@pytest.mark.slow
def test_request_that_the_version_brings_is_answered(
    served: str, tracking: Tracking, bundle: Bundle, small: Any, tmp_path: Path
) -> None:
    assert "-d @request/serving_input_example.json" in PAGE
    subprocess.run(
        [str(SCRIPTS / DOWNLOAD[0]), *DOWNLOAD[1:]],
        cwd=tmp_path,
        env=variables(tracking),
        check=True,
        capture_output=True,
    )
    body = (tmp_path / "request" / "serving_input_example.json").read_bytes()
    answer = httpx.post(
        served, content=body, headers={"Content-Type": "application/json"}, timeout=60.0
    )
    assert answer.status_code == 200, answer.text
    rows = pd.DataFrame(answer.json()["predictions"])
    np.testing.assert_array_equal(rows.to_numpy(), bundle.scorer.probability(small.X[:3]))


@pytest.mark.slow
def test_mlflow_ui_shows_the_registered_model(tracking: Tracking, tmp_path: Path) -> None:
    with server(UI, tracking, tmp_path, "/health") as address:
        found = httpx.get(
            f"{address}/api/2.0/mlflow/registered-models/get",
            params={"name": "margincast"},
            timeout=60.0,
        ).json()
    assert found["registered_model"]["aliases"] == [{"alias": "champion", "version": "1"}]
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.slow
def test_mlflow_models_serve_names_a_missing_column(served: str, frame: pd.DataFrame) -> None:
    split = {"columns": ["momentum"], "data": [[0.5]]}
    answer = httpx.post(served, json={"dataframe_split": split}, timeout=60.0)
    assert answer.status_code == 400
    assert "volatility" in answer.text
