"""Recording decisions: each in a transaction of its own, and a whole book in one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Result, median_seconds, seconds_of_each
from ledger.records import Entry
from ledger.store import Ledger
from ledger.verify import verify
from market.core.clock import HOUR
from market.simulator.simulated_market import DEFAULT_START

DECISIONS, REPEATS = 1_000, 5


def run() -> Result:
    """Appends to SQLite, committed with fsync, and reading the chain again."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        with Ledger(url) as ledger:
            market = ledger.put("market", {"closes": list(range(50))})
            entries = [decision(i, market) for i in range(DECISIONS)]
            ledger.append(entries[:1])
            pending = iter(entries)
            single = seconds_of_each(lambda: ledger.append([next(pending)]), DECISIONS)
            batch = median_seconds(lambda: ledger.append(entries), REPEATS)
        records = 1 + DECISIONS * (1 + REPEATS)
        verified = median_seconds(lambda: verify(url), 3)
    return Result(
        "ledger",
        settings={"decisions": DECISIONS, "database": "sqlite", "verified_records": records},
        medians={
            "one_by_one_seconds": float(np.sum(single)),
            "one_append_milliseconds": 1e3 * float(np.median(single)),
            "one_batch_seconds": batch,
            "batch_decisions_per_second": DECISIONS / batch,
            "verify_records_per_second": records / verified,
        },
        ratios={"one_by_one_over_batch": float(np.sum(single)) / batch},
    )


def decision(number: int, market_sha256: str) -> Entry:
    """A decision about as large as a real one of a book with four positions."""
    positions = [{"instrument": f"COIN{i}USDT-PERP", "quantity": 1.5 + i} for i in range(4)]
    return Entry(
        kind="decision",
        account_id=f"account-{number:05d}",
        as_of=DEFAULT_START + HOUR,
        payload={
            "contents": {"market_sha256": market_sha256},
            "account": {
                "account_id": f"account-{number:05d}",
                "cash": 10_000.25,
                "positions": positions,
            },
            "decision": {
                "equity": 10_000.25 + number,
                "initial_margin": 2_000.5,
                "maintenance_margin": 1_000.25,
                "probability": {"1": 0.0017, "8": 0.0136, "24": 0.035},
                "add_on": 125.5,
                "floor": 100.0,
                "model_add_on": 125.5,
                "cap": 2_000.5,
                "binding": "model",
                "reasons": ["volatility of the book", "share of average daily volume"],
            },
        },
    )
