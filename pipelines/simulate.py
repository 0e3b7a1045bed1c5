"""Write a simulated market and a sampled book in the data contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from market.account_files import CLOSED, Event, write_accounts
from market.clock import format_time
from market.simulate import write_bars
from pipelines.config import Config
from pipelines.inputs import read_market, sample_accounts, simulated_panel


def simulate(config: Config, out: Path) -> dict[str, Any]:
    """Bars in ``bars/`` and the sampled accounts, from birth to closing, in ``accounts/``.

    With real bars configured the accounts are sampled over these, and no bars are written.
    """
    market = read_market(config)
    history = market.history
    lives = sample_accounts(config, market)
    closes, symbols = history.bars.closes, history.bars.symbols
    if not market.real:
        write_bars(simulated_panel(config), out / "bars")
    ended = [
        Event(int(closes[lives.end_row[i]]), lives.account_id(i), CLOSED)
        for i in range(len(lives))
        if lives.end_row[i] < len(closes)
    ]
    write_accounts(
        out / "accounts",
        ((int(closes[row]), book) for row, book in lives.births(symbols)),
        ended,
    )
    return {
        "out": str(out),
        "symbols": list(symbols),
        "bars": 0 if market.real else len(history.bars) * len(symbols),
        "accounts": len(lives),
        "span": [format_time(int(closes[0])), format_time(int(closes[-1]))],
    }
