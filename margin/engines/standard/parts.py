"""The parts of one portfolio's margins under the standard rules, and what decided each expiry."""

from __future__ import annotations

from collections.abc import Iterator

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.engines.margins import Part
from margin.engines.standard.breakdown import Breakdown, break_down
from margin.rules.ruleset import RuleSet


def standard_parts(portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
    """The parts of one portfolio: they add up to its net margins.

    An expiry has ``isolated sum`` or ``max loss at`` the settlement price and ``unpaired calls``
    with their number; where initial and maintenance margin are decided differently it has both.
    """
    found = break_down(portfolios, ruleset)
    cash = float(portfolios.cash[account])
    return (
        Part("cash", "", cash, cash),
        *_linear(portfolios, found, account),
        *_expiries(portfolios, found, account),
        *_collateral(portfolios, found, account),
        *_depeg(portfolios, found, account),
        *_confidence(portfolios, found, account),
    )


def _linear(portfolios: Portfolios, found: Breakdown, account: int) -> Iterator[Part]:
    linear = found.linear
    for leg in _legs(portfolios, account):
        if portfolios.kind[leg] == OPTION:
            continue
        name, pnl = portfolios.name[leg], float(linear.pnl[leg])
        if pnl != 0.0:
            yield Part("unrealised profit and loss", name, pnl, pnl)
        initial, maintenance = float(linear.initial[leg]), float(linear.maintenance[leg])
        yield Part("perp margin", name, 0.0 - initial, 0.0 - maintenance)


def _expiries(portfolios: Portfolios, found: Breakdown, account: int) -> Iterator[Part]:
    options = found.options
    for g in range(options.start[account], options.start[account + 1]):
        legs = slice(options.begin[g], options.end[g])
        subject = expiry_name(portfolios.name[options.begin[g]])
        by_loss = (bool(options.initial_by_loss[g]), bool(options.maintenance_by_loss[g]))
        sums = (float(options.leg_initial[legs].sum()), float(options.leg_maintenance[legs].sum()))
        if not all(by_loss):
            isolated = [0.0 if loss else amount for loss, amount in zip(by_loss, sums, strict=True)]
            yield Part("isolated sum", subject, *isolated)
        if any(by_loss):
            payoff = float(options.worst_payoff[g])
            lost = [payoff if loss else 0.0 for loss in by_loss]
            yield Part(f"max loss at {options.worst_price[g]:.12g}", subject, *lost)
            if options.unpaired_calls[g] < 0.0:
                costs = (options.unpaired_initial[g], options.unpaired_maintenance[g])
                paid = [
                    float(cost) if loss else 0.0 for loss, cost in zip(by_loss, costs, strict=True)
                ]
                yield Part(f"unpaired calls {options.unpaired_calls[g]:.12g}", subject, *paid)


def _collateral(portfolios: Portfolios, found: Breakdown, account: int) -> Iterator[Part]:
    balances, held = portfolios.collateral, found.collateral
    for b in range(balances.start[account], balances.start[account + 1]):
        name = "base collateral" if held.base[b] else "collateral after haircut"
        yield Part(name, balances.asset[b], float(held.initial[b]), float(held.maintenance[b]))


def _depeg(portfolios: Portfolios, found: Breakdown, account: int) -> Iterator[Part]:
    charges: dict[int, float] = {}
    for leg in _legs(portfolios, account):
        row = int(portfolios.underlying[leg])
        charges[row] = charges.get(row, 0.0) + float(found.extra.depeg[leg])
    price = portfolios.stable_price[account]
    for row, charge in charges.items():
        if charge != 0.0:
            name = portfolios.underlyings.name[row]
            yield Part(f"depeg, stable price {price:.12g}", name, 0.0 - charge, 0.0)


def _confidence(portfolios: Portfolios, found: Breakdown, account: int) -> Iterator[Part]:
    for leg in _legs(portfolios, account):
        charge = float(found.extra.confidence[leg])
        if charge != 0.0:
            feed, trust = _least_trusted(portfolios, leg)
            kind = "option" if portfolios.kind[leg] == OPTION else "perp"
            name = f"low {kind} confidence: {feed} {trust:.12g}"
            yield Part(name, portfolios.name[leg], 0.0 - charge, 0.0)
    balances = portfolios.collateral
    for b in range(balances.start[account], balances.start[account + 1]):
        charge = float(found.collateral.confidence[b])
        if charge != 0.0:
            trust = portfolios.underlyings.spot_confidence[balances.underlying[b]]
            name = f"low base confidence: spot {trust:.12g}"
            yield Part(name, balances.asset[b], 0.0 - charge, 0.0)


def _least_trusted(portfolios: Portfolios, leg: int) -> tuple[str, float]:
    """The feed that a leg's confidence comes from; of equal ones the first."""
    row, expiry = portfolios.underlying[leg], portfolios.expiry[leg]
    feeds = {"spot": float(portfolios.underlyings.spot_confidence[row])}
    if portfolios.kind[leg] == PERP:
        feeds["perp"] = float(portfolios.underlyings.perp_confidence[row])
    elif portfolios.kind[leg] == OPTION:
        feeds["forward"] = float(portfolios.expiries.forward_confidence[expiry])
        feeds["vol"] = float(portfolios.expiries.vol_confidence[expiry])
    feed = min(feeds, key=feeds.__getitem__)
    return feed, feeds[feed]


def expiry_name(option: str) -> str:
    """The name of an option without strike and type: ``BTC-27MAR26`` of
    ``BTC-27MAR26-60000-C``."""
    return option.rsplit("-", 2)[0]


def _legs(portfolios: Portfolios, account: int) -> range:
    return range(portfolios.start[account], portfolios.start[account + 1])
