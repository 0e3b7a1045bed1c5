from . import what_if as what_if
from .account_validation import (
    ValidatedAccounts as ValidatedAccounts,
    validate_accounts as validate_accounts,
)
from .batch import (
    EncodedResponse as EncodedResponse,
    ScoreBatch as ScoreBatch,
    ScoreCall as ScoreCall,
)
from .book_scoring import (
    DecisionBasis as DecisionBasis,
    PreviousAddOn as PreviousAddOn,
    account_rows as account_rows,
    meets_opening_requirement as meets_opening_requirement,
    score_book as score_book,
)
from .decision import (
    NO_BUNDLE as NO_BUNDLE,
    Outcome as Outcome,
    decide as decide,
)
from .decision_group import (
    CallBasis as CallBasis,
    DecisionMaker as DecisionMaker,
    PendingCall as PendingCall,
)
from .errors import (
    NoAccountScoredError as NoAccountScoredError,
    NoMarketError as NoMarketError,
    NoRulesError as NoRulesError,
    NotFoundError as NotFoundError,
    NotReplayableError as NotReplayableError,
    RequestError as RequestError,
)
from .levels_in_force import LevelsInForce as LevelsInForce
from .messages import (
    MAX_ACCOUNTS as MAX_ACCOUNTS,
    AccountChange as AccountChange,
    AccountProblem as AccountProblem,
    Decision as Decision,
    PositionChange as PositionChange,
    ScoreRequest as ScoreRequest,
    ScoreResponse as ScoreResponse,
)
from .reasons import (
    missing_inputs_reason as missing_inputs_reason,
    ruleset_expired_reason as ruleset_expired_reason,
)

__all__ = [
    "MAX_ACCOUNTS",
    "NO_BUNDLE",
    "AccountChange",
    "AccountProblem",
    "CallBasis",
    "Decision",
    "DecisionBasis",
    "DecisionMaker",
    "EncodedResponse",
    "LevelsInForce",
    "NoAccountScoredError",
    "NoMarketError",
    "NoRulesError",
    "NotFoundError",
    "NotReplayableError",
    "Outcome",
    "PendingCall",
    "PositionChange",
    "PreviousAddOn",
    "RequestError",
    "ScoreBatch",
    "ScoreCall",
    "ScoreRequest",
    "ScoreResponse",
    "ValidatedAccounts",
    "account_rows",
    "decide",
    "meets_opening_requirement",
    "missing_inputs_reason",
    "ruleset_expired_reason",
    "score_book",
    "validate_accounts",
    "what_if",
]
