from .account_behaviour import (
    KINDS as KINDS,
    AccountTrajectories as AccountTrajectories,
    simulate_behaviour as simulate_behaviour,
)
from .market_parameters import (
    DEFAULT_MARKET as DEFAULT_MARKET,
    HOURS_PER_YEAR as HOURS_PER_YEAR,
    NAME as NAME,
    Coin as Coin,
    FundingParameters as FundingParameters,
    MarketParameters as MarketParameters,
    Provenance as Provenance,
)
from .market_writer import write_bars as write_bars, write_quotes as write_quotes
from .population import (
    Population as Population,
    SampledAccounts as SampledAccounts,
    sample_population as sample_population,
)
from .quotes import INDEX_HOURS as INDEX_HOURS
from .simulated_market import (
    DEFAULT_START as DEFAULT_START,
    SimulatedMarket as SimulatedMarket,
    simulate_bars as simulate_bars,
    simulate_market as simulate_market,
)

__all__ = [
    "DEFAULT_MARKET",
    "DEFAULT_START",
    "HOURS_PER_YEAR",
    "INDEX_HOURS",
    "KINDS",
    "NAME",
    "AccountTrajectories",
    "Coin",
    "FundingParameters",
    "MarketParameters",
    "Population",
    "Provenance",
    "SampledAccounts",
    "SimulatedMarket",
    "sample_population",
    "simulate_bars",
    "simulate_behaviour",
    "simulate_market",
    "write_bars",
    "write_quotes",
]
