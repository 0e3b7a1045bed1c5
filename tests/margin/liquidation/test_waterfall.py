"""The default waterfall: money only changes hands, whatever the book, under every preset."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.requirement import compute_requirement
from margin.liquidation.book_liquidation import (
    book_step,
    close_at_mark,
    sell_at_auction,
    take_over,
)
from margin.liquidation.insurance_fund import InsuranceFund
from margin.liquidation.loss_sharing import pro_rata, share_among_accounts
from margin.liquidation.shortfall import ClosedPosition, closed_positions
from margin.liquidation.waterfall import (
    FUND,
    MARKET,
    UNCOVERED,
    Coverage,
    Survivors,
    Transfer,
    account_party,
    balances,
    cover_shortfall,
    coverage_transfers,
    deleverage_transfers,
    sale_transfers,
    step_transfers,
    take_over_transfers,
)
from margin.rules.liquidation import (
    DeleverageRules,
    FundRules,
    LiquidationRules,
    LossSharingRules,
    PartialRules,
)
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position

MARKS = {"BTCUSDT-PERP": 100_000.0, "ETHUSDT-PERP": 2_000.0}
BTC, ETH = MARKS

PRESETS = [name for name in list_rulesets() if load_ruleset(name).liquidation is not msgspec.UNSET]

ACCOUNTS = st.lists(
    st.tuples(
        st.floats(-0.02, 0.06),
        st.lists(
            st.tuples(
                st.sampled_from([BTC, ETH]),
                st.floats(10_000.0, 5e6),
                st.sampled_from([1.0, -1.0]),
                st.floats(0.8, 1.25),
            ),
            min_size=1,
            max_size=2,
        ),
    ),
    min_size=2,
    max_size=6,
)


def accounts_of(rows: list[tuple[float, list[tuple[str, float, float, float]]]]) -> list[Account]:
    """Equity as a share of gross notional; legs as (instrument, notional, side, entry / mark)."""
    accounts = []
    for k, (funded, legs) in enumerate(rows):
        positions = tuple(
            Position(name, side * size / MARKS[name], entry * MARKS[name])
            for name, size, side, entry in legs
        )
        gain = sum(
            leg.quantity * (MARKS[leg.instrument] - (leg.entry_price or 0.0)) for leg in positions
        )
        gross = sum(size for _, size, _, _ in legs)
        accounts.append(Account(f"a{k}", funded * gross - gain, positions))
    return accounts


def gain_of(account: Account, shares: list[float]) -> float:
    """What closing shares at the mark is worth, written out."""
    return math.fsum(
        share * leg.quantity * (MARKS[leg.instrument] - (leg.entry_price or 0.0))
        for share, leg in zip(shares, account.positions, strict=True)
    )


class World:
    """A book, a fund, and the balances of all parties, held against every transfer."""

    def __init__(self, accounts: list[Account], view: MarketView, rules: RuleSet) -> None:
        self.view, self.rules = view, rules
        self.accounts = {account.account_id: account for account in accounts}
        self.fund = None
        table = rules.liquidation_or_default.fund
        if not isinstance(table, msgspec.UnsetType):
            self.fund = InsuranceFund.of_rules(table)
        self.parties: dict[str, float] = {}
        self.taken: dict[str, float] = {}
        self.scale = 1e-9 * sum(
            abs(leg.quantity) * MARKS[leg.instrument]
            for account in accounts
            for leg in account.positions
        )
        self.total = self.wealth()

    def wealth(self) -> float:
        """Equity of the accounts and the fund, and what all others have received, their positions
        at the mark included: nothing is made and nothing is lost."""
        book = Book.of(list(self.accounts.values()))
        equity = (
            compute_requirement(book, self.view, self.rules).equity if len(book) else np.zeros(0)
        )
        fund = 0.0 if self.fund is None else self.fund.balance
        others = (
            amount
            for party, amount in self.parties.items()
            if party != FUND and not party.startswith("account:")
        )
        return math.fsum([*equity.tolist(), fund, *others, *self.taken.values()])

    def check(
        self,
        transfers: tuple[Transfer, ...],
        before: dict[str, Account],
        fund_before: InsuranceFund | None,
    ) -> None:
        """The sum of the flows is 0, and every account and the fund have moved by theirs."""
        assert all(transfer.amount >= 0.0 for transfer in transfers)
        moved = balances(transfers)
        assert abs(math.fsum(moved.values())) <= self.scale
        for account_id, account in before.items():
            now = self.accounts.get(account_id)
            cash = 0.0 if now is None else now.cash
            assert cash - account.cash == pytest.approx(
                moved.get(account_party(account_id), 0.0), abs=self.scale
            )
        if self.fund is not None and fund_before is not None:
            assert self.fund.balance - fund_before.balance == pytest.approx(
                moved.get(FUND, 0.0), abs=self.scale
            )
            assert self.fund.balance >= 0.0
        for party, amount in moved.items():
            self.parties[party] = self.parties.get(party, 0.0) + amount

    def closed(self, account: Account, shares: list[float], party: str) -> None:
        """A party took positions at the mark: it holds what they are worth to the account."""
        self.taken[party] = self.taken.get(party, 0.0) + gain_of(account, shares)

    def liquidate(self, account_id: str) -> None:
        rules = self.rules.liquidation_or_default
        last: tuple[ClosedPosition, ...] = ()
        elapsed = 0.0
        for number in range(40):
            account = self.accounts[account_id]
            requirement = compute_requirement(Book.of([account]), self.view, self.rules)
            if requirement.headroom[0] >= 0.0 or not account.positions:
                break
            equity = float(requirement.equity[0])
            before, fund_before = dict(self.accounts), self.fund
            auction = rules.auction
            if isinstance(auction, msgspec.UnsetType):
                after, step = book_step(
                    account,
                    self.view,
                    self.rules,
                    elapsed_seconds=elapsed,
                    since_last_seconds=np.inf if number == 0 else 10.0,
                )
                if step.backstop and equity > 0.0:
                    after = take_over(account, step)
                    transfers = take_over_transfers(account, equity, step, self.fund is not None)
                    self.closed(account, list(step.shares), "backstop")
                else:
                    transfers = step_transfers(account, after, step, self.fund is not None)
                    self.closed(account, list(step.shares), MARKET)
            else:
                after, sale = sell_at_auction(
                    account,
                    self.view,
                    self.rules,
                    auction,
                    elapsed_seconds=elapsed,
                    first=number == 0,
                )
                step = sale.step
                transfers = sale_transfers(account, after, sale, self.fund is not None)
                self.closed(account, list(step.shares), "buyer")
            last = closed_positions(Book.of([account]), requirement, 0, step.shares)
            self.accounts[account_id] = after
            if self.fund is not None:
                self.fund = self.fund.collect(step.fee)
            self.check(transfers, before, fund_before)
            assert self.wealth() == pytest.approx(self.total, abs=self.scale)
            elapsed += 4_000.0
        account = self.accounts[account_id]
        equity = float(compute_requirement(Book.of([account]), self.view, self.rules).equity[0])
        if account.positions or equity >= -self.scale:
            return
        self.cover(account, -equity, last)

    def cover(self, account: Account, shortfall: float, closed: tuple[ClosedPosition, ...]) -> None:
        others = {
            name: other for name, other in self.accounts.items() if name != account.account_id
        }
        book = Book.of(list(others.values()))
        requirement = compute_requirement(book, self.view, self.rules)
        survivors = Survivors(book, requirement, requirement.headroom >= 0.0)
        before, fund_before = dict(self.accounts), self.fund
        coverage = cover_shortfall(
            account.account_id,
            shortfall,
            closed,
            survivors,
            self.fund,
            self.rules.liquidation_or_default,
        )
        self.bounded(coverage, survivors)
        self.fund = coverage.fund
        transfers = list(coverage_transfers(coverage, book))
        for i, name in enumerate(book.account_ids):
            member = self.accounts[name]
            parts = [part for part in coverage.contributions if part.account == i]
            shares = {part.instrument: part.share for part in parts}
            loss = math.fsum(part.loss for part in parts)
            shared = math.fsum(share.loss for share in coverage.shares if share.account == i)
            shares_of_legs = [shares.get(leg.instrument, 0.0) for leg in member.positions]
            after = close_at_mark(member, self.view, self.rules, np.array(shares_of_legs), loss)
            transfers += deleverage_transfers(member, after, loss)
            self.closed(member, shares_of_legs, MARKET)
            self.accounts[name] = Account(
                name, after.cash - shared, after.positions, after.collateral
            )
        made_good = account.cash + shortfall
        self.accounts[account.account_id] = Account(account.account_id, made_good)
        assert made_good == pytest.approx(0.0, abs=self.scale)
        self.check(tuple(transfers), before, fund_before)
        assert self.wealth() == pytest.approx(self.total, abs=self.scale)

    def bounded(self, coverage: Coverage, survivors: Survivors) -> None:
        """Nobody gives more than its equity, a winner no more than its profit."""
        rules = self.rules.liquidation_or_default
        assert coverage.fund_paid + coverage.deleveraged + coverage.shared + (
            coverage.uncovered
        ) == pytest.approx(coverage.shortfall, rel=1e-9)
        assert coverage.uncovered >= 0.0
        if isinstance(rules.loss_sharing, msgspec.UnsetType):
            assert coverage.shares == ()
        if isinstance(rules.deleverage, msgspec.UnsetType):
            assert coverage.contributions == ()
        for i, name in enumerate(survivors.book.account_ids):
            loss = math.fsum(
                [part.loss for part in coverage.contributions if part.account == i]
                + [share.loss for share in coverage.shares if share.account == i]
            )
            assert loss <= max(0.0, survivors.requirement.equity[i]) * (1.0 + 1e-9) + self.scale
            if loss > 0.0:
                assert survivors.eligible[i]
            member = self.accounts[name]
            for part in (part for part in coverage.contributions if part.account == i):
                shares = [float(leg.instrument == part.instrument) for leg in member.positions]
                assert part.loss <= gain_of(member, shares) * part.share * (1.0 + 1e-9) + self.scale


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=12, deadline=None)
@given(ACCOUNTS)
def test_money_only_changes_hands(
    market: MarketView, name: str, rows: list[tuple[float, list[tuple[str, float, float, float]]]]
) -> None:
    run(rows, market, load_ruleset(name))


@settings(max_examples=60, deadline=None)
@given(
    ACCOUNTS,
    st.sampled_from(["none", "depth"]),
    st.sampled_from([None, "profit", "equity", "open_interest"]),
    st.sampled_from([None, "profit_leverage", "profit_margin_ratio", "account"]),
    st.sampled_from([None, 0.0, 5_000.0]),
    st.sampled_from(["buffer", "whole"]),
)
def test_money_only_changes_hands_under_any_tables(
    market: MarketView,
    rows: list[tuple[float, list[tuple[str, float, float, float]]]],
    impact: str,
    basis: str | None,
    ranking: str | None,
    balance: float | None,
    method: str,
) -> None:
    """Tables in every combination, impact and fees included."""
    unset = msgspec.UNSET
    rules = msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        liquidation=LiquidationRules(
            PartialRules(method=method, fee_rate=0.001),  # type: ignore[arg-type]
            0.3 if method == "buffer" else 0.0,
            fund=unset if balance is None else FundRules(balance=balance, max_draw=4_000.0),
            deleverage=unset if ranking is None else DeleverageRules(ranking),  # type: ignore[arg-type]
            price_impact=impact,  # type: ignore[arg-type]
            loss_sharing=unset if basis is None else LossSharingRules(basis),  # type: ignore[arg-type]
        ),
    )
    run(rows, market, rules)


def run(
    rows: list[tuple[float, list[tuple[str, float, float, float]]]],
    market: MarketView,
    rules: RuleSet,
) -> None:
    accounts = accounts_of(rows)
    if compute_requirement(Book.of(accounts), market, rules).problems:
        # This engine margins one underlying an account.
        single = [(funded, [leg for leg in legs if leg[0] == legs[0][0]]) for funded, legs in rows]
        accounts = accounts_of(single)
    world = World(accounts, market, rules)
    assert math.isfinite(world.total)
    for account_id in sorted(world.accounts):
        world.liquidate(account_id)
    assert world.parties.get(UNCOVERED, 0.0) <= world.scale


def test_the_published_example_of_loss_sharing() -> None:
    """Crypto.com Help Center: a loss of 10,000 over profits of 171,000."""
    profits = np.array([50_000.0, 45_000.0, 30_000.0, 30_000.0, 15_000.0, 1_000.0])
    shares = pro_rata(10_000.0, profits, profits)
    expected = [2_923.98, 2_631.58, 1_754.39, 1_754.39, 877.19, 58.48]
    assert shares == pytest.approx(expected, abs=0.005)
    assert pro_rata(171_001.0, profits, profits).tolist() == profits.tolist()


def test_each_basis_by_hand(view: MarketView, linear_tiers: RuleSet) -> None:
    """Profits 0, 20,000 and 5,000; equities 30,000, 60,000 and 10,000; a closed long of BTC."""
    accounts = [
        Account("flat", 30_000.0, (Position(BTC, 3.0, 100_000.0),)),
        Account("won", 40_000.0, (Position(BTC, -1.0, 120_000.0),)),
        Account("lines", 10_000.0, (Position(ETH, 10.0, 1_500.0), Position(ETH, 5.0, 3_000.0))),
    ]
    book = Book.of(accounts)
    requirement = compute_requirement(book, view, linear_tiers)
    closed = [ClosedPosition(BTC, 1.0, 100_000.0)]

    def shares(
        basis: str, loss: float, eligible: tuple[bool, ...] = (True, True, True)
    ) -> list[float]:
        found = share_among_accounts(loss, closed, book, requirement, np.array(eligible), basis)
        losses = dict.fromkeys(range(3), 0.0) | {share.account: share.loss for share in found}
        return list(losses.values())

    assert shares("profit", 2_500.0) == pytest.approx([0.0, 2_000.0, 500.0])
    assert shares("equity", 1_000.0) == pytest.approx([300.0, 600.0, 100.0])
    assert shares("equity", 1e9) == pytest.approx([30_000.0, 60_000.0, 10_000.0])
    assert shares("open_interest", 4_000.0) == pytest.approx([3_000.0, 1_000.0, 0.0])
    assert shares("open_interest", 4_000.0, (False, True, True)) == pytest.approx(
        [0.0, 4_000.0, 0.0]
    )
