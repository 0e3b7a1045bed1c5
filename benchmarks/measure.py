"""Time, memory and the result of every bench."""

from __future__ import annotations

import json
import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("lightgbm", "numba", "numpy", "onnxruntime", "pandas", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a bench.

    Attributes
    ----------
    name:
        Of the bench and of its file.
    settings:
        What was measured: sizes and notes.
    medians:
        Measured figures; the unit stands at the end of each name.
    ratios:
        Figures without a unit, from this run alone.
    """

    name: str
    settings: Mapping[str, int | float | str]
    medians: Mapping[str, float]
    ratios: Mapping[str, float] = field(default_factory=dict)


def median_seconds(job: Callable[[], object], repeats: int) -> float:
    """Median wall time of `repeats` calls of `job`, in seconds."""
    return float(np.median(seconds_of_each(job, repeats)))


def seconds_of_each(job: Callable[[], object], repeats: int) -> list[float]:
    """Wall time of each of `repeats` calls of `job`, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak_megabytes(job: Callable[[], object]) -> float:
    """Peak memory of `job` above the level before it, in 10^6 bytes.

    What Python and numpy allocate; buffers of other native libraries are not seen. Tracing slows
    the job down, so time and memory are measured in calls of their own.

    References
    ----------
    Python documentation, `tracemalloc`.
    """
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def process_peak_megabytes() -> float:
    """Most memory that this process has held, in 10^6 bytes.

    From the kernel's own account: that of getrusage begins with the parent's peak.
    """
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system does not report the peak memory of a process (VmHWM)")


def machine() -> dict[str, str | int]:
    """Processor, cores, system and the versions of the libraries that matter."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def write(result: Result, folder: Path = RESULTS) -> Path:
    """Write a result with the machine it comes from; floats keep four significant digits."""
    content = {
        "name": result.name,
        "machine": machine(),
        "settings": dict(result.settings),
        "medians": {name: _rounded(value) for name, value in result.medians.items()},
        "ratios": {name: _rounded(value) for name, value in result.ratios.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
