"""Events of a replayed life cycle in the form that is recorded: plain values, figures unrounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from margin.book.requirement import Requirement
from margin.life_cycle.states import NEVER, MarginStatus, Reason, State, Transitions
from margin.liquidation.book_liquidation import Sale
from margin.liquidation.partial import Step
from margin.liquidation.shortfall import Contribution
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from market.core.clock import format_time

Event = dict[str, Any]


def transition_events(
    transitions: Transitions,
    book: Book,
    status: MarginStatus,
    requirement: Requirement,
    ruleset: RuleSet,
) -> Iterator[Event]:
    """Changes of state, each with the figures it rests on."""
    for i, before, after, reason, deadline in zip(
        transitions.account.tolist(),
        transitions.before.tolist(),
        transitions.after.tolist(),
        transitions.reason.tolist(),
        transitions.deadline.tolist(),
        strict=True,
    ):
        equity, margin = float(status.equity[i]), float(status.maintenance[i])
        add_on = float(status.add_on[i])
        yield _event("transition", book.account_ids[i], transitions.as_of, ruleset) | {
            "from": State(before).label,
            "to": State(after).label,
            "reason": Reason(reason).code,
            "deadline": None if deadline == NEVER else format_time(deadline),
            "figures": {
                "equity": equity,
                "maintenance_margin": margin,
                "add_on": add_on,
                "call_level": margin + add_on,
                "headroom": equity - margin,
                "gross_notional": float(requirement.gross_notional[i]),
            },
        }


def step_event(account: Account, step: Step, as_of: int, ruleset: RuleSet) -> Event:
    """A step of closing an account."""
    return _event("liquidation", account.account_id, as_of, ruleset) | {
        "closed": [
            {"instrument": position.instrument, "share": share}
            for position, share in zip(account.positions, step.shares, strict=True)
            if share > 0.0
        ],
        "notional": step.notional,
        "fee": step.fee,
        "headroom_before": step.net_before,
        "headroom_after": step.net_after,
        "restored": step.restored,
        "backstop": step.backstop,
    }


def sale_event(account: Account, sale: Sale, as_of: int, ruleset: RuleSet) -> Event:
    """A sale at auction: a step, and the offer that a buyer took."""
    return step_event(account, sale.step, as_of, ruleset) | {
        "auction": {
            "seconds": sale.offer.seconds,
            "solvent": sale.offer.solvent,
            "price_factor": sale.offer.price_factor,
            "price": sale.offer.price,
            "share": sale.offer.share,
            "discount": sale.discount,
        }
    }


def shortfall_event(
    account_id: str, amounts: dict[str, float], as_of: int, ruleset: RuleSet
) -> Event:
    """What a closed account owed, and who bore it."""
    return _event("shortfall", account_id, as_of, ruleset) | amounts


def deleverage_event(
    contribution: Contribution, book: Book, bankrupt: str, as_of: int, ruleset: RuleSet
) -> Event:
    """A winner's position that was closed against a bankrupt account."""
    account_id = book.account_ids[contribution.account]
    return _event("deleverage", account_id, as_of, ruleset) | {
        "bankrupt_account": bankrupt,
        "instrument": contribution.instrument,
        "quantity": contribution.quantity,
        "price": contribution.price,
        "loss": contribution.loss,
        "rank": contribution.rank,
    }


def _event(kind: str, account_id: str, as_of: int, ruleset: RuleSet) -> Event:
    return {
        "event": kind,
        "account_id": account_id,
        "as_of": format_time(as_of),
        "time": as_of,
        "ruleset_sha256": ruleset.sha256,
    }
