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
from functools import partial
from typing import NamedTuple

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

    def initial_margins(workers: int) -> list[Floats]:
        chunks = margins_of_chunks(chunks_of(book, CHUNK), ruleset, workers)
        return [margins.initial_net for margins in chunks]

    whole = compute_margins(book, ruleset)
    equal = np.array_equal(np.concatenate(initial_margins(WORKERS)), whole.initial_net)
    if not equal:
        raise SystemExit("chunks on two cores and one chunk do not give the same bits")
    one_core, two_cores = (
        median_seconds(partial(initial_margins, workers), REPEATS) for workers in (1, WORKERS)
    )
    medians |= {"book_one_core_seconds": one_core, "book_two_cores_seconds": two_cores}
    medians["book_one_core_revaluations_per_second"] = PORTFOLIOS * OPTIONS * scenarios / one_core
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
            "one_core_over_two_cores": one_core / two_cores,
            "equal_bits_in_chunks_and_whole": float(equal),
            "peak_of_largest_over_smallest": medians[f"growth_{GROWTH[-1]}_peak_megabytes"]
            / medians[f"growth_{GROWTH[0]}_peak_megabytes"],
        },
    )


def margins_of_chunks(
    chunks: Iterable[Portfolios], ruleset: RuleSet, workers: int
) -> Iterator[Margins]:
    """Margins of each chunk, in order; at most one chunk more than there are threads is pending."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[Margins]] = deque()
        for chunk in chunks:
            pending.append(pool.submit(compute_margins, chunk, ruleset))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def revaluations(scenarios: int) -> tuple[dict[str, float], dict[str, float]]:
    """Values a second of the kernel and its peers on one core, and how far they are apart."""
    grid = Grid.of(load_ruleset(RULES).engine_rules(ScenarioRules))
    options = _Options.of(sample_portfolios(KERNEL_OPTIONS // OPTIONS), grid, scenarios)
    values, plain = np.empty((2, KERNEL_OPTIONS, scenarios))
    kernel = _rate(lambda: _with_table(options, values), values.size)
    erfc = _rate(lambda: _with_erfc(options, plain), plain.size)
    peer = _with_quantlib(options, PEER_OPTIONS)
    quantlib = _rate(lambda: _with_quantlib(options, PEER_OPTIONS), peer.size)
    return (
        {
            "kernel_revaluations_per_second": kernel,
            "erfc_kernel_revaluations_per_second": erfc,
            "quantlib_loop_revaluations_per_second": quantlib,
        },
        {
            "kernel_over_erfc_kernel": kernel / erfc,
            "kernel_over_quantlib_loop": kernel / quantlib,
            "largest_difference_from_erfc_kernel_in_forwards": _difference(values, plain, options),
            "largest_difference_from_quantlib_in_forwards": _difference(
                values[:PEER_OPTIONS], peer, options
            ),
        },
    )


class _Options(NamedTuple):
    """Options of one expiry without skew, and the scenarios they are revalued in.

    `strike` and `call` have the shape (N,), `vol` the shape (N, moves) and `rows` one entry a
    scenario.
    """

    forward: float
    tau: float
    strike: Floats
    call: npt.NDArray[np.bool_]
    vol: Floats
    rows: Rows

    @classmethod
    def of(cls, book: Portfolios, grid: Grid, scenarios: int) -> _Options:
        forward = 60_000.0
        rows = Rows(
            forward * grid.spot[:scenarios],
            grid.log_spot[:scenarios].copy(),
            grid.move[:scenarios].copy(),
        )
        vol = book.vol[:, None] * np.array([1.4, 1.0, 0.7, 1.0, 1.0])
        return cls(forward, 30 / 365, book.strike, book.call, vol, rows)


@njit(cache=True, error_model="numpy")
def _with_table(options, out):  # type: ignore[no-untyped-def]
    scratch = np.empty(2 * len(options.rows.forward))
    for i in range(len(options.strike)):
        strike = options.strike[i]
        option = Option(strike, math.log(options.forward / strike), options.tau, options.call[i])
        fill_values(option, options.vol[i], options.rows, scratch, out[i])


@njit(cache=True, error_model="numpy")
def _with_erfc(options, out):  # type: ignore[no-untyped-def]
    """The textbook form: d1 and d2 of every value, and the normal CDF from erfc."""
    root, forward, move = math.sqrt(options.tau), options.rows.forward, options.rows.vol_move
    for i in range(len(options.strike)):
        strike, side = options.strike[i], 1.0 if options.call[i] else -1.0
        for row in range(len(forward)):
            spread = options.vol[i, move[row]] * root
            d1 = math.log(forward[row] / strike) / spread + 0.5 * spread
            near = 0.5 * math.erfc(-side * d1 * math.sqrt(0.5))
            far = 0.5 * math.erfc(-side * (d1 - spread) * math.sqrt(0.5))
            out[i, row] = side * (forward[row] * near - strike * far)


def _with_quantlib(options: _Options, count: int) -> Floats:
    """Values of the first `count` options, a call of QuantLib each; shape (count, scenarios)."""
    root = math.sqrt(options.tau)
    forwards, moves = options.rows.forward.tolist(), options.rows.vol_move.tolist()
    values = []
    for i in range(count):
        kind = ql.Option.Call if options.call[i] else ql.Option.Put
        strike, vols = float(options.strike[i]), options.vol[i].tolist()
        values.append(
            [
                ql.blackFormula(kind, strike, forward, vols[move] * root, 1.0)
                for forward, move in zip(forwards, moves, strict=True)
            ]
        )
    return np.array(values)


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


def _difference(values: Floats, others: Floats, options: _Options) -> float:
    return float((np.abs(values - others) / options.rows.forward).max())


def _rate(job: Callable[[], object], values: int) -> float:
    job()  # compiles, and imports what is imported at first use
    return values / median_seconds(job, REPEATS)
