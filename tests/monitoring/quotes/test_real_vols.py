"""The outlier filter of vols on quoted chains: it passes what markets do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from market.bars.outlier_filter import OutlierFilter
from market.core.clock import HOUR, SECOND
from market.quotes.quote_filter import TimedPrice
from market.quotes.quote_store import (
    UNCONFIRMED,
    QuoteField,
    QuoteStore,
    QuoteStoreBuilder,
    expiry_end,
)
from monitoring.quotes.vol_references import VolReferences


def snapshots(folder: Path, exchange: str) -> Iterator[list[list[QuoteField]]]:
    """Of each time one quote for each expiry, its forward and vols, and one for each option."""
    table = pq.read_table(folder / f"{exchange}.parquet")
    rows = table.select(["ts", "underlying", "expiry", "strike", "type", "mark_iv"]).to_pylist()
    prices = table["underlying_price"].to_pylist()
    by_time: dict[int, list[tuple[dict[str, Any], float]]] = defaultdict(list)
    for row, price in zip(rows, prices, strict=True):
        by_time[round(row["ts"].timestamp()) * SECOND].append((row, price))
    for ts in sorted(by_time):
        surfaces: dict[str, dict[float, float]] = defaultdict(dict)
        forwards: dict[str, float] = {}
        options: list[list[QuoteField]] = []
        for row, price in by_time[ts]:
            day = row["expiry"]
            expiry = f"{row['underlying']}-{day.day}{day:%b%y}".upper()
            end = expiry_end(expiry)
            vol = row["mark_iv"] / (100.0 if exchange == "deribit" else 1.0)
            if end is None or end <= ts or not vol > 0.0:
                continue
            strike = float(row["strike"])
            forwards[expiry] = price
            surfaces[expiry][strike] = vol
            name = f"{expiry}-{row['strike']}-{row['type'][0].upper()}"
            options.append([QuoteField(name, "vol", ts, (vol,))])
        yield [
            [
                QuoteField(expiry, "forward", ts, (forwards[expiry],)),
                QuoteField(expiry, "vols", ts, tuple(n for k in sorted(by) for n in (k, by[k]))),
            ]
            for expiry, by in surfaces.items()
        ] + options


@pytest.mark.realdata
@pytest.mark.parametrize("exchange", ["deribit", "okx"])
@pytest.mark.parametrize(("every", "reverse"), [(1, False), (1, True), (7, False)])
def test_chains_of_consecutive_days_pass(
    data_dir: Path, exchange: str, every: int, reverse: bool
) -> None:
    """None is rejected, and at most one in a thousand waits, first surfaces among them."""
    builder, found = QuoteStoreBuilder(QuoteStore()), Counter[str]()

    def unknown(_: str) -> TimedPrice | None:
        return None

    references = VolReferences(builder, OutlierFilter(), 2 * HOUR, unknown, unknown)
    for quotes in islice(snapshots(data_dir / "options_chain_daily", exchange), 0, None, every):
        for figures in reversed(quotes) if reverse else quotes:
            for figure in figures:
                if figure.figure == "forward":
                    builder.add(figure)
                    continue
                verdict = references.verdict(figure)
                found[verdict.status] += 1
                if verdict.status == "suspect":
                    figure = replace(figure, confirmed=UNCONFIRMED, since=verdict.since)
                if verdict.status != "rejected":
                    builder.add(figure)
                    references.confirm_by([figure])
    assert found["good"] > 40_000 / every
    assert found["rejected"] == 0, found
    assert found["suspect"] <= 1e-3 * found.total(), found


@pytest.mark.realdata
def test_hourly_vol_index_of_four_years_is_never_suspect(data_dir: Path) -> None:
    """As the surface of an expiry, through every crash from 2021 to 2025."""
    table = pq.read_table(data_dir / "dvol_1h_deribit" / "BTC.parquet")
    builder = QuoteStoreBuilder(QuoteStore())

    def spot(_: str) -> TimedPrice | None:
        return TimedPrice(0, 50_000.0)

    references = VolReferences(builder, OutlierFilter(), 2 * HOUR, spot, lambda _: None)
    found = Counter[str]()
    for ts, close in zip(table["ts"].to_pylist(), table["dvol_close"].to_pylist(), strict=True):
        figure = QuoteField(
            "BTC-31DEC27", "vols", round(ts.timestamp()) * SECOND, (50_000.0, close / 100.0)
        )
        found[references.verdict(figure).status] += 1
        builder.add(figure)
    assert found == {"good": len(table)}
