"""Write a simulated market and a sampled book in the data contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from market.accounts.account_files import write_accounts
from market.core.clock import format_time
from market.simulator.account_behaviour import AccountTrajectories
from market.simulator.market_writer import write_bars, write_quotes
from pipelines.config.config import Config
from pipelines.data.loaders import act_accounts, read_market, sample_accounts, simulated_market


def simulate(config: Config, out: Path) -> dict[str, Any]:
    """Bars in ``bars/``, what else the market shows in ``funding/``, ``implied_vol/`` and
    ``quotes/``, and the sampled accounts, from birth to closing, in ``accounts/``.

    With real bars configured the accounts are sampled over these, and no market is written.
    """
    market = read_market(config)
    history = market.history
    lives = sample_accounts(config, market)
    acted = act_accounts(config, market, lives) or AccountTrajectories.idle(lives)
    closes, symbols = history.bars.closes, history.bars.symbols
    if not market.real:
        simulated = simulated_market(config)
        write_bars(simulated.panel, out / "bars")
        write_quotes(simulated, out)
    write_accounts(out / "accounts", acted.snapshots(symbols, closes), acted.events(closes))
    return {
        "out": str(out),
        "symbols": list(symbols),
        "bars": 0 if market.real else len(history.bars) * len(symbols),
        "accounts": len(lives),
        "actions": len(acted.account),
        "span": [format_time(int(closes[0])), format_time(int(closes[-1]))],
    }
