"""Portfolio margin: options revalued in scenarios, a book of portfolios, and how it grows.

The peers are a loop over QuantLib's Black formula, and the same kernel with the C library's erfc.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import QuantLib as ql  # noqa: N813
from numba import njit

from benchmarks.measure import Result, median_seconds, process_peak_megabytes
from benchmarks.workloads.option_book import OPTIONS, chunks_of, growing_book, sample_portfolios
from margin.book.portfolio_batch import Portfolios
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins
from margin.engines.scenario.grid import Grid
from margin.engines.scenario.revaluation import Option, Rows, fill_values
from margin.engines.scenario.rules import ScenarioRules
from margin.rules.ruleset import RuleSet, load_ruleset

Floats = npt.NDArray[np.float64]

RULES = "derive-pmrm2"
KERNEL_OPTIONS, PEER_OPTIONS, REPEATS = 20_000, 400, 9
PORTFOLIOS, CHUNK, WORKERS = 10_000, 2_500, 2
GROWTH = (10_000, 100_000, 1_000_000)
GROWTH_CHUNK = 5_000


def run() -> Result:
    """Revaluations a second, seconds of a book on two cores, growth to a million portfolios."""
    ruleset = load_ruleset(RULES)
    scenarios = len(ruleset.engine_rules(ScenarioRules).grid)
    medians, ratios = revaluations(scenarios)
    book = sample_portfolios(PORTFOLIOS)

    def margin(workers: int) -> Callable[[], object]:
        def job() -> object:
            chunks = chunks_of(book, CHUNK)
            return [one.initial_net for one in margins_of_chunks(chunks, ruleset, workers)]

        return job

    whole = compute_margins(book, ruleset)
    cut = list(margins_of_chunks(chunks_of(book, CHUNK), ruleset, WORKERS))
    equal = np.array_equal(np.concatenate([one.initial_net for one in cut]), whole.initial_net)
    if not equal:
        raise SystemExit("chunks on two cores and one chunk do not give the same bits")
    one, two = (median_seconds(margin(workers), REPEATS) for workers in (1, WORKERS))
    medians |= {"book_one_core_seconds": one, "book_two_cores_seconds": two}
    medians["book_one_core_revaluations_per_second"] = PORTFOLIOS * OPTIONS * scenarios / one
    for count in GROWTH:
        seconds, peak = grow(count)
        medians[f"growth_{count}_seconds"] = seconds
        medians[f"growth_{count}_microseconds_per_portfolio"] = 1e6 * seconds / count
        medians[f"growth_{count}_peak_megabytes"] = peak
    return Result(
        "option_margin",
        settings={
            "scenarios": scenarios,
            "kernel_options": KERNEL_OPTIONS,
            "quantlib_options": PEER_OPTIONS,
            "portfolios": PORTFOLIOS,
            "options_per_portfolio": OPTIONS,
            "chunk_portfolios": CHUNK,
            "growth_chunk_portfolios": GROWTH_CHUNK,
            "ruleset": RULES,
            "note": "Kernel: values of options in scenarios on one core, all peers in the same "
            "scenarios. Book: from arrays to margins, components, scenario results and the shares "
            "of the legs; the revaluations counted are those of the grid alone. Growth: a process "
            "for each size, two cores, chunks made on the way; its peak is that of the process.",
        },
        medians=medians,
        ratios={
            **ratios,
            "one_core_over_two_cores": one / two,
            "equal_bits_in_chunks_and_whole": float(equal),
            "peak_of_largest_over_smallest": medians[f"growth_{GROWTH[-1]}_peak_megabytes"]
            / medians[f"growth_{GROWTH[0]}_peak_megabytes"],
        },
    )


def margins_of_chunks(
    chunks: Iterable[Portfolios], ruleset: RuleSet, workers: int
) -> Iterator[Margins]:
    """Margins of each chunk, in order; at most one chunk more than there are threads is ahead."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Margins]] = deque()
        for chunk in chunks:
            ahead.append(pool.submit(compute_margins, chunk, ruleset))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def revaluations(scenarios: int) -> tuple[dict[str, float], dict[str, float]]:
    """Values a second of the kernel and its peers on one core, and how far they are apart."""
    grid = Grid.of(load_ruleset(RULES).engine_rules(ScenarioRules))
    job = _Job(sample_portfolios(KERNEL_OPTIONS // OPTIONS), grid, scenarios)
    values, plain = np.empty((2, KERNEL_OPTIONS, scenarios))
    own = _rate(job.by(_with_table, values), values.size)
    erfc = _rate(job.by(_with_erfc, plain), plain.size)
    theirs = job.by_quantlib(PEER_OPTIONS)
    quantlib = _rate(lambda: job.by_quantlib(PEER_OPTIONS), theirs.size)
    return (
        {
            "kernel_revaluations_per_second": own,
            "erfc_kernel_revaluations_per_second": erfc,
            "quantlib_loop_revaluations_per_second": quantlib,
        },
        {
            "kernel_over_erfc_kernel": own / erfc,
            "kernel_over_quantlib_loop": own / quantlib,
            "largest_difference_from_erfc_kernel_in_forwards": _apart(values, plain, job),
            "largest_difference_from_quantlib_in_forwards": _apart(
                values[:PEER_OPTIONS], theirs, job
            ),
        },
    )


class _Job:
    """Options of one expiry, forwards and vols moved by the scenarios; no skew."""

    def __init__(self, book: Portfolios, grid: Grid, scenarios: int) -> None:
        self.forward, self.tau = 60_000.0, 30 / 365
        self.strike, self.call = book.strike, book.call
        self.vols = book.vol[:, None] * np.array([1.4, 1.0, 0.7, 1.0, 1.0])
        self.at = self.forward * grid.spot[:scenarios]
        self.logs = grid.log_spot[:scenarios].copy()
        self.move = grid.move[:scenarios].copy()

    def by(self, kernel: Callable[..., None], out: Floats) -> Callable[[], None]:
        def job() -> None:
            kernel(
                self.forward,
                self.tau,
                self.strike,
                self.call,
                self.vols,
                self.at,
                self.logs,
                self.move,
                out,
            )

        return job

    def by_quantlib(self, options: int) -> Floats:
        root = math.sqrt(self.tau)
        forwards, moves = self.at.tolist(), self.move.tolist()
        rows = []
        for i in range(options):
            kind = ql.Option.Call if self.call[i] else ql.Option.Put
            strike, vols = float(self.strike[i]), self.vols[i].tolist()
            rows.append(
                [
                    ql.blackFormula(kind, strike, forward, vols[move] * root, 1.0)
                    for forward, move in zip(forwards, moves, strict=True)
                ]
            )
        return np.array(rows)


@njit(cache=True, error_model="numpy")
def _with_table(forward, tau, strike, call, vols, at, logs, move, out):  # type: ignore[no-untyped-def]
    scratch = np.empty(2 * len(at))
    rows = Rows(at, logs, move)
    for i in range(len(strike)):
        option = Option(strike[i], math.log(forward / strike[i]), tau, call[i])
        fill_values(option, vols[i], rows, scratch, out[i])


@njit(cache=True, error_model="numpy")
def _with_erfc(forward, tau, strike, call, vols, at, logs, move, out):  # type: ignore[no-untyped-def]
    """What one writes first: d1 and d2 of every value, and the normal CDF from erfc."""
    root = math.sqrt(tau)
    for i in range(len(strike)):
        side = 1.0 if call[i] else -1.0
        for row in range(len(at)):
            spread = vols[i, move[row]] * root
            d1 = math.log(at[row] / strike[i]) / spread + 0.5 * spread
            near = 0.5 * math.erfc(-side * d1 * math.sqrt(0.5))
            far = 0.5 * math.erfc(-side * (d1 - spread) * math.sqrt(0.5))
            out[i, row] = side * (at[row] * near - strike[i] * far)


def grow(count: int) -> tuple[float, float]:
    """Seconds and peak memory of so many portfolios, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_grow, count).result()


def _grow(count: int) -> tuple[float, float]:
    ruleset = load_ruleset(RULES)
    compute_margins(sample_portfolios(1), ruleset)  # compiles, or reads what is compiled
    start = time.perf_counter()
    called = 0
    for margins in margins_of_chunks(growing_book(count, GROWTH_CHUNK), ruleset, WORKERS):
        called += int(np.count_nonzero(margins.maintenance_net < 0.0))
    seconds = time.perf_counter() - start
    if not 0 < called < count:
        raise SystemExit(f"{called} of {count} portfolios are called; the sample is no sample")
    return seconds, process_peak_megabytes()


def _apart(values: Floats, others: Floats, job: _Job) -> float:
    return float((np.abs(values - others) / job.at).max())


def _rate(job: Callable[[], object], values: int) -> float:
    job()  # compiles, and imports what is imported at first use
    return values / median_seconds(job, REPEATS)
