"""Why a request about decisions or the market cannot be carried out; every layer above raises them.

::

    MargincastError
    ├── RequestError               the request cannot be carried out as it stands
    │   └── NoAccountScoredError   none of its accounts could be decided on
    ├── NotFoundError              nothing is known under the name or time of the request
    ├── NoRulesError               no rules are in force now
    └── DataError
        └── NoMarketError          the live market has no bar yet
"""

from __future__ import annotations

from collections.abc import Sequence

from decisions.messages import AccountProblem
from market.core.errors import DataError, MargincastError


class RequestError(MargincastError):
    """A request cannot be understood or carried out as it stands."""


class NoAccountScoredError(RequestError):
    """None of the accounts of a request could be decided on.

    Parameters
    ----------
    problems:
        What is wrong with each.
    """

    def __init__(self, problems: Sequence[AccountProblem]) -> None:
        super().__init__("no account of the request could be answered; errors says why for each")
        self.problems = list(problems)


class NotFoundError(MargincastError):
    """Nothing is known under the name or time that a request gives."""


class NoRulesError(MargincastError):
    """No version of the rules is in force now; the same request may be carried out later."""


class NoMarketError(DataError):
    """The live market has no bar yet; the same request may be carried out later."""
