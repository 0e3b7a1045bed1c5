"""A ledger of three days of a monitored book, with calls, made once for all reports."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, format_time
from pipelines.ledger_reports.request import Span
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import deltas, snapshot, watched
from tests.pipelines.ledger_reports.helpers import RecordedDays, append_enforcement

FIRST_ROW, ROWS = 200, 60
CHANGE_ROW = 230
"""From this row on other rules are in force."""


@pytest.fixture(scope="session")
def days(
    tmp_path_factory: pytest.TempPathFactory,
    market: SmallMarket,
    ruleset: RuleSet,
    made_bundles: tuple[Path, str],
) -> Iterator[RecordedDays]:
    folder = tmp_path_factory.mktemp("reports")
    source, _ = made_bundles
    bundles = Bundles(folder / "bundles")
    shutil.copytree(source, bundles.root)
    url = f"sqlite:///{folder}/ledger.db"
    with Ledger(url) as ledger:
        w = watched(market, ruleset, bundles, ledger, FIRST_ROW)
        rng = np.random.default_rng(3)
        w.update(
            *(
                snapshot(
                    f"client-{i:02d}",
                    1,
                    float(rng.uniform(2_000.0, 9_000.0)),
                    BTC=float(rng.normal(0.0, 0.2)),
                    ETH=float(rng.normal(0.0, 2.0)),
                )
                for i in range(10)
            ),
            snapshot("client-é/漢", 1, 900.0, BTC=0.3),
        )
        w.settle()
        start = w.market.live.state.newest_close
        assert start is not None
        for row in range(FIRST_ROW, FIRST_ROW + ROWS):
            if row == FIRST_ROW + 5:
                deposit = {"kind": "deposit", "asset": "USD", "amount": 250.0}
                when = format_time(start + 5 * HOUR)
                w.update(deltas("client-03", 2, deposit) | {"ts": when})
            if row == CHANGE_ROW:
                w.monitor.close()
                add_on = msgspec.structs.replace(ruleset.add_on, cap_im_multiple=0.5)
                floors = msgspec.structs.replace(
                    ruleset.floors,
                    liquidity=msgspec.structs.replace(ruleset.floors.liquidity, half_spread=0.02),
                )
                changed = msgspec.structs.replace(ruleset, add_on=add_on, floors=floors)
                w = watched(market, changed, bundles, ledger, FIRST_ROW)
                w.settle()
            w.bars(row)
            w.settle()
        w.monitor.close()
        end = w.market.live.state.newest_close
        assert end is not None
        append_enforcement(ledger, start, ruleset.sha256)
        yield RecordedDays(url, ledger, Span(start, end), start + 24 * HOUR)
