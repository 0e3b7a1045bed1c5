from .asset_weights import asset_weight as asset_weight, liability_weight as liability_weight
from .floors import (
    EMIR_MEASURES as EMIR_MEASURES,
    CorrelationRules as CorrelationRules,
    CoverageRules as CoverageRules,
    FloorRules as FloorRules,
    LiquidityRules as LiquidityRules,
    StressedBufferRules as StressedBufferRules,
    check_emir as check_emir,
    remaining_share as remaining_share,
    table_of as table_of,
)
from .history import RuleHistory as RuleHistory, load_history as load_history
from .life_cycle import LifeCycleRules as LifeCycleRules
from .liquidation import (
    AuctionRules as AuctionRules,
    FundRules as FundRules,
    LiquidationRules as LiquidationRules,
    PartialRules as PartialRules,
)
from .ruleset import (
    AddOnRules as AddOnRules,
    CollateralRules as CollateralRules,
    RuleSet as RuleSet,
    list_rulesets as list_rulesets,
    load_ruleset as load_ruleset,
    ruleset_from_content as ruleset_from_content,
)
from .values import NonNegative as NonNegative, Share as Share

__all__ = [
    "EMIR_MEASURES",
    "AddOnRules",
    "AuctionRules",
    "CollateralRules",
    "CorrelationRules",
    "CoverageRules",
    "FloorRules",
    "FundRules",
    "LifeCycleRules",
    "LiquidationRules",
    "LiquidityRules",
    "NonNegative",
    "PartialRules",
    "RuleHistory",
    "RuleSet",
    "Share",
    "StressedBufferRules",
    "asset_weight",
    "check_emir",
    "liability_weight",
    "list_rulesets",
    "load_history",
    "load_ruleset",
    "remaining_share",
    "ruleset_from_content",
    "table_of",
]
