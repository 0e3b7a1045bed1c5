"""Errors of requests about decisions or the market, raised by every layer above.

::

    MargincastError
    ├── RequestError               the request cannot be carried out as it stands
    │   ├── NoAccountScoredError   none of its accounts could be decided on
    │   └── NoRulesThenError       no rules are in force at the time that it gives
    ├── NotFoundError              nothing is known under the name or time of the request
    ├── NoRulesError               no rules are in force now
    ├── CallFailedError            an unexpected error ended a call
    ├── LedgerError
    │   └── NotReplayableError     a recorded decision cannot be made again here
    └── DataError
        └── NoMarketError          the live market has no bar yet
"""

from __future__ import annotations

from collections.abc import Sequence

from decisions.messages import AccountProblem
from market.core.errors import DataError, LedgerError, MargincastError


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


class NoRulesThenError(RequestError):
    """No version of the rules is in force at the time of a request; one may be added."""


class NotFoundError(MargincastError):
    """There is nothing under the name or time of a request."""


class NotReplayableError(LedgerError):
    """A recorded decision cannot be replayed here, because some of its inputs are not available."""


class NoRulesError(MargincastError):
    """No version of the rules is in force now; the same request may be carried out later."""


class CallFailedError(MargincastError):
    """An unexpected error, its cause, ended one call of a batch."""


class NoMarketError(DataError):
    """The live market has no bar yet; the same request may be carried out later."""
