"""``python -m benchmarks.verification [--decisions N]``: make a ledger of N decisions, verify it.

The decisions are real ones, of a sampled book with a model, written in large batches by the
ledger's own append; one in ten calls has an idempotency key and so an answer.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, write
from benchmarks.workloads.sample_book import sample, write_model
from decisions.decision import decide
from decisions.messages import Decision
from decisions.records import entries
from ledger.audit.heads import read_heads
from ledger.audit.heads_series import write_next_heads
from ledger.contents import CanonicalContent
from ledger.decisions import Draft, Meanwhile
from ledger.idempotency import IdempotentAnswer
from ledger.records import EncodedEntry, Entry, new_id
from ledger.store import Ledger
from ledger.verify import verify
from margin.rules.ruleset import load_ruleset
from market.sources.http import account_message
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster

ACCOUNTS, BATCH, RULES = 2_000, 4_000, "linear-tiers"


def run(decisions: int, folder: Path) -> Result:
    """Seconds of writing and of verifying a ledger of so many decisions in a folder."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    templates, contents = real_decisions(folder / "model")
    start = time.perf_counter()
    with Ledger(url, chain="serving") as ledger:
        for first in range(0, decisions, BATCH):
            count = min(BATCH, decisions - first)
            ledger.append_decisions(draft(templates, contents, first, count), _never)
    written = time.perf_counter() - start
    heads = folder / "heads.json"
    write_next_heads(url, heads, None)
    start = time.perf_counter()
    found = verify(url, read_heads(heads))
    verified = time.perf_counter() - start
    if not found.intact:
        raise SystemExit(f"the ledger is not intact: {found.problems}")
    records = sum(state.records for state in found.chains.values())
    bytes_ = (folder / "ledger.db").stat().st_size
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Result(
        "verification",
        settings={"decisions": decisions, "records": records, "accounts": ACCOUNTS},
        medians={
            "write_seconds": written,
            "verify_seconds": verified,
            "verify_records_per_second": records / verified,
            "verify_worker_peak_megabytes": children / 1e3,
            "database_bytes_per_decision": bytes_ / decisions,
        },
    )


def real_decisions(folder: Path) -> tuple[list[Entry], list[tuple[str, Any]]]:
    """Decisions on a sampled book by a model of its own, and what they depend on."""
    ruleset = load_ruleset(RULES)
    data = sample(ACCOUNTS)
    name, _ = write_model(folder, data, ruleset)
    model = Forecaster(load_bundle(folder / name))
    accounts = data.book.accounts()
    results = decide(accounts, data.snapshot, ruleset, model, {})
    made = [result for result in results if isinstance(result, Decision)]
    messages = {account.account_id: account_message(account) for account in accounts}
    requesters = dict.fromkeys(messages, "benchmark")
    recorded, contents, _ = entries(made, messages, {}, data.snapshot, ruleset, requesters)
    return recorded, contents


def draft(
    templates: list[Entry], contents: list[tuple[str, CanonicalContent]], first: int, count: int
) -> Draft:
    """The next decisions, each with an id and an amount of its own."""
    batch = [_again(templates[n % len(templates)], n) for n in range(first, first + count)]
    answers = [
        IdempotentAnswer("0123456789ab", f"call-{n}", "ab" * 32, 200, b'{"call":%d}' % n)
        for n in range(first, first + count, 10)
    ]
    # A round decides on each account once.
    rounds = [list(part) for part in _parts(batch, len(templates))]
    return Draft(rounds, contents, answers)


def _again(entry: Entry, number: int) -> EncodedEntry:
    name = new_id()
    decision = {
        **entry.payload["decision"],
        "decision_id": name,
        "equity": entry.payload["decision"]["equity"] + number / 128,
    }
    payload = {**entry.payload, "decision": decision}
    again = Entry("decision", payload, id=name, account_id=entry.account_id, as_of=entry.as_of)
    return EncodedEntry.of(again, text_keys=True)


def _parts(batch: list[EncodedEntry], size: int) -> Iterator[list[EncodedEntry]]:
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def _never(_: Meanwhile) -> Draft:
    raise AssertionError("another process writes to this ledger")


def main() -> None:
    """Run the bench and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(options.decisions, Path(folder))
    path = write(result)
    for name, value in result.medians.items():
        print(f"  {name:<32} {value:>12,.1f}")
    print(path)


if __name__ == "__main__":
    main()
