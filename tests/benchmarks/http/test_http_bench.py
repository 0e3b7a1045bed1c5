"""The bench of the endpoint: what it reads, what it refuses to believe, what it writes."""

from __future__ import annotations

import json
import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.http import __main__ as bench, ports, report, wrk
from benchmarks.http.closed_loop import CONNECTIONS, Turn, check_recorded, summarise
from benchmarks.http.memory import slope
from benchmarks.http.ports import free_port
from benchmarks.http.profile import summarise as summarise_stacks
from benchmarks.measure import RESULTS

ROOT = Path(__file__).resolve().parents[3]
LINE = (
    '{"requests": 3000, "seconds": 3.0, "not_200": 0, "broken": 0, "timeouts": 0, '
    '"p50_ms": 1.5, "p90_ms": 2.0, "p99_ms": 4.0, "max_ms": 9.0}'
)
PRINTED = f"""Running 3s test @ http://127.0.0.1:1
  1 threads and 8 connections
  3000 requests in 3.00s, 1.00MB read
Requests/sec:   1000.00

{LINE}
"""
FIGURES = {"rps": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms": 0.9}
LOOPS = {
    "margincast": {"1": FIGURES, "8": FIGURES | {"rps": 3000.0}},
    "mlflow_serve": {"1": FIGURES | {"rps": 2000.0}, "8": FIGURES | {"rps": 1500.0}},
    "bentoml": {"1": FIGURES | {"rps": 500.0}, "8": FIGURES | {"rps": 600.0}},
}


def test_the_result_of_wrk_is_read_from_what_the_script_prints() -> None:
    load = wrk.parse(PRINTED)
    assert load.rps == 1000.0
    assert (load.p50_ms, load.p99_ms, load.not_200) == (1.5, 4.0, 0)


@pytest.mark.parametrize("printed", ["", PRINTED.replace(LINE, ""), "unable to connect"])
def test_a_load_without_a_result_is_no_result(printed: str) -> None:
    with pytest.raises(RuntimeError, match="printed no result"):
        wrk.parse(printed)


def test_the_script_prints_every_figure_that_is_read() -> None:
    printed = set(re.findall(r'"(\w+)": %', wrk.SCRIPT.read_text("utf-8")))
    assert printed == set(wrk.Load.__dataclass_fields__)


@pytest.mark.parametrize("recorded", [100, 104, 108])
def test_calls_under_way_at_the_end_may_be_on_record(recorded: int) -> None:
    check_recorded("margincast", 100, recorded, 8)


@pytest.mark.parametrize("recorded", [0, 99, 109])
def test_answers_without_a_record_and_records_without_an_answer_end_the_bench(
    recorded: int,
) -> None:
    with pytest.raises(RuntimeError, match="expected one for each answer"):
        check_recorded("margincast", 100, recorded, 8)


def test_rounds_become_their_medians() -> None:
    load = wrk.parse(PRINTED)
    slow = wrk.Load(1500, 3.0, 0, 0, 0, 3.0, 4.0, 8.0, 9.0)
    figures = summarise([Turn(load, 3.0), Turn(slow, 3.0), Turn(load, 3.0)])
    assert figures["rps"] == 1000.0
    assert figures["p99_ms"] == 4.0
    assert figures["cpu_ms"] == pytest.approx(1.0)
    assert (figures["rps_least"], figures["rps_most"]) == (500.0, 1000.0)


def test_ratios_are_over_each_peer_on_the_same_connections() -> None:
    assert report.ratios(LOOPS) == {
        "margincast_over_mlflow_serve_1": 0.5,
        "margincast_over_mlflow_serve_8": 2.0,
        "margincast_over_bentoml_1": 2.0,
        "margincast_over_bentoml_8": 5.0,
    }


def test_the_table_has_the_contenders_side_by_side() -> None:
    head, _, one, eight = report.table(LOOPS).splitlines()
    assert head.split() == ["connections", "margincast", "mlflow_serve", "bentoml"]
    assert one.split()[:2] == ["1", "1000"]
    assert eight.split()[0] == "8"
    assert eight.split().count("2") == 1, "the ratio to mlflow_serve"
    assert eight.split()[-1] == "5"


def test_results_are_json_with_four_digits_and_no_nan(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "http.json"
    report.write_json({"a": {"b": 1.23456789, "c": float("nan")}, "n": 3, "s": "x"}, out)
    assert json.loads(out.read_text()) == {"a": {"b": 1.235, "c": None}, "n": 3, "s": "x"}


def test_memory_that_grows_shows_in_the_slope() -> None:
    flat = [(n, 100_000_000) for n in range(1_000, 21_000, 1_000)]
    grows = [(n, size + 50 * n) for n, size in flat]
    settles = [(n, size + 10_000_000 * (n > 2_000)) for n, size in flat]
    assert slope(flat) == pytest.approx(0.0, abs=1e-6)
    assert slope(grows) == pytest.approx(50.0)
    assert slope(settles) == pytest.approx(0.0, abs=1e-6), "what fills at first does not count"
    assert np.isnan(slope(flat[:1]))


def test_stacks_are_counted_once_a_sample() -> None:
    shares = summarise_stacks(["a (m.py:1);b (m.py:2);b (m.py:3) 3", "a (m.py:9) 1"])
    assert shares.samples == 4
    assert shares.own == {"b (m.py)": 3, "a (m.py)": 1}
    assert shares.total == {"a (m.py)": 4, "b (m.py)": 3}


def test_unknown_scenarios_are_named_and_nothing_runs() -> None:
    with pytest.raises(SystemExit, match="nonsense"):
        bench.main(["--only", "nonsense"])


def test_without_wrk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrk, "find_wrk", lambda: None)
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        bench.main(["--only", "closed_loop"])


def test_peers_are_pinned_with_hashes_apart_from_the_project() -> None:
    lock = (ROOT / "benchmarks/peers/requirements.lock").read_text("utf-8")
    pins = re.findall(
        r"^([a-z0-9][\w.-]*(?:\[\w+\])?)==\S+(?: ; .*)? \\\n {4}--hash=", lock, re.MULTILINE
    )
    assert {"bentoml", "onnxruntime", "py-spy"} <= set(pins)
    assert len(pins) == len(re.findall(r"^[^\s#].*==", lock, re.MULTILINE))
    assert "bentoml" not in (ROOT / "requirements.lock").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "bentoml" not in json.dumps(project)


def check_schema(content: dict[str, Any], contenders: set[str]) -> None:
    """What is read from outside: by contender and connections, answers a second and percentiles."""
    for name in contenders:
        assert set(content[name]) == {str(number) for number in CONNECTIONS}
        for figures in content[name].values():
            assert {"rps", "p50_ms", "p99_ms"} <= set(figures)
            assert figures["rps"] > 0.0
            assert figures["p50_ms"] <= figures["p99_ms"]
    assert content["machine"]["cores"] >= 2
    assert {"rounds", "seconds", "rate", "decisions"} <= set(content["settings"])


def test_kept_results_have_the_schema_that_others_read() -> None:
    path = RESULTS / "http.json"
    if not path.exists():
        pytest.skip("benchmarks/results/http.json is not kept yet")
    check_schema(json.loads(path.read_text("utf-8")), {"margincast", "mlflow_serve", "bentoml"})


@pytest.mark.slow
@pytest.mark.skipif(wrk.find_wrk() is None, reason="the load tool wrk is not installed")
def test_a_short_run_measures_the_real_endpoint_beside_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BentoML is left out: its packages are not part of a test's environment."""
    from benchmarks.http import scenarios

    monkeypatch.setattr(scenarios, "NAMES", ("margincast", "mlflow_serve"))
    monkeypatch.setattr(bench, "bentoml_version", lambda: "left out")
    out = tmp_path / "http.json"
    bench.main(
        [
            *("--only", "closed_loop,open_loop,accounts_1000,memory", "--out", str(out)),
            *("--days", "12", "--accounts", "60", "--rounds", "1", "--seconds", "1"),
            *("--warm-up", "1", "--rate", "5", "--open-loop-seconds", "2", "--calls", "1"),
            *("--decisions", "20"),
        ]
    )
    content = json.loads(out.read_text())
    check_schema(content, {"margincast", "mlflow_serve"})
    assert content["open_loop"]["rate"] == 5
    assert 0 < content["accounts_1000"]["accounts_per_call"] <= 60
    assert content["memory"]["decisions"] >= 20


def test_a_taken_port_is_not_given_out() -> None:
    port = free_port()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
    more = {free_port() for _ in range(50)}
    assert port not in more, "its server need not listen yet"
    assert len(more) == 50


def test_a_port_that_was_given_out_or_is_taken_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "_FIRST", free_port())
    monkeypatch.setattr(ports, "_COUNT", 1)
    with pytest.raises(RuntimeError, match="no port"):
        free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(ports, "_FIRST", taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="no port"):
            free_port()
