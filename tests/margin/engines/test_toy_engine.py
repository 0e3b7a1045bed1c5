"""An engine is one class and one registration: a toy engine works everywhere, nothing else touched.

The rules of the toy: one rate of the notional of every perpetual and spot position.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec import Struct

from margin.add_on.bounds import add_on_cap, bound_add_on
from margin.add_on.explain import explain_engine
from margin.book.case_portfolio import Holding, Portfolio, Underlying
from margin.book.portfolio_batch import OPTION, PERP, Portfolios, row_sums
from margin.book.requirement import compute_requirement
from margin.cases.margin_cases import run_case
from margin.cases.what_if_cases import explain_case
from margin.engines.base import Engine
from margin.engines.margins import Margins, Part
from margin.engines.registry import engine_of, register
from margin.floors.registry import active_floors, largest_floor
from margin.liquidation.partial import liquidation_step
from margin.liquidation.prices import liquidation_crossing
from margin.rules.history import load_history
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset, ruleset_from_content
from margin.rules.values import Share
from margin.valuation.collateral import collateral_values
from margin.valuation.view import MarketView
from margin.what_if.outcome import marginal_requirements, outcomes
from margin.what_if.remedies import find_remedies
from margin.what_if.sizing import largest_size
from margin.what_if.trades import Change
from market.accounts.book import Account, Balance, Book, Position
from market.core.errors import RuleSetError

DIGESTS = {name: load_ruleset(name).sha256 for name in list_rulesets()}

TOML = """
name = "toy"
version = "1"
engine = "toy_rate"
source = "made up"

[toy]
initial_rate = 0.2
maintenance_rate = 0.1
"""


class ToyRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[toy]``: shares of the notional."""

    initial_rate: Share
    maintenance_rate: Share

    def __post_init__(self) -> None:
        if self.maintenance_rate > self.initial_rate:
            raise ValueError(f"maintenance_rate {self.maintenance_rate} is above initial_rate")


class ToyEngine(Engine):
    """One rate of the notional of every position."""

    name = "toy_rate"
    table = "toy"
    rules = ToyRules
    margins_options = False

    def margins(self, portfolios: Portfolios, ruleset: RuleSet) -> Margins:
        rules = ruleset.engine_rules(ToyRules)
        assert not (portfolios.kind == OPTION).any()
        underlyings, row = portfolios.underlyings, portfolios.underlying
        perp = portfolios.kind == PERP
        price = np.where(perp, underlyings.perp_price[row], underlyings.spot[row])
        notional = np.abs(portfolios.quantity * price)
        collateral, pnl = (
            collateral_values(portfolios),
            row_sums(portfolios.start, portfolios.unrealised),
        )
        initial, maintenance = (
            row_sums(portfolios.start, rate * notional)
            for rate in (rules.initial_rate, rules.maintenance_rate)
        )
        shared = {"cash": portfolios.cash, "pnl": pnl, "collateral": collateral.counted}
        return Margins(
            mark_to_market=portfolios.cash + pnl + collateral.value,
            equity=portfolios.cash + pnl + collateral.counted,
            initial_margin=initial + collateral.initial_extra,
            maintenance_margin=maintenance,
            collateral_haircut=collateral.maintenance_haircut,
            initial=shared | {"margin": -initial, "extra": -collateral.initial_extra},
            maintenance=shared | {"margin": -maintenance},
            leg_initial=rules.initial_rate * notional,
            leg_maintenance=rules.maintenance_rate * notional,
        )

    def parts(self, portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
        margins = self.margins(portfolios.between(account, account + 1), ruleset)
        return (
            Part("equity", "", float(margins.equity[0]), float(margins.equity[0])),
            Part(
                "margin",
                "",
                -float(margins.initial_margin[0]),
                -float(margins.maintenance_margin[0]),
            ),
        )


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[RuleSet]:
    """The rule set of a file that names the toy engine, while the engine is registered."""
    unregister = register(ToyEngine())
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    yield load_ruleset(path)
    unregister()


ACCOUNTS = [
    Account("long", 10_000.0, (Position("BTCUSDT-PERP", 0.3, 99_000.0), Position("ETHUSDT", 2.0))),
    Account("short", 1_500.0, (Position("ETHUSDT-PERP", -3.0),), (Balance("BTC", 0.01),)),
]


def portfolio(cash: float = 3_000.0) -> Portfolio:
    return Portfolio(
        cash=cash,
        stable_price=1.0,
        collateral=(),
        underlyings={"ETH": Underlying(spot=2_000.0, perp_price=2_000.0)},
        positions=(Holding(kind="perp", underlying="ETH", quantity=5.0, entry_price=2_000.0),),
    )


def test_a_file_is_loaded_and_listed_and_its_content_gives_it_back(
    toy: RuleSet, tmp_path: Path
) -> None:
    assert toy.table == "toy"
    assert toy.engine_rules(ToyRules).initial_rate == 0.2
    assert load_history(tmp_path).versions == (toy,)
    again = ruleset_from_content(json.loads(json.dumps(toy.content())))
    assert again.sha256 == toy.sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("surprise = 1", r"toy\.toml.*`surprise` - at `\$\.toy`"),
        ("[standard]", r"\$\.standard"),
        (
            "[tier]\nbrackets = [{maintenance_rate = 0.1, initial_rate = 0.1}]",
            r"\[toy\].*no other",
        ),
    ],
)
def test_wrong_keys_are_refused_with_their_path(
    toy: RuleSet, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(TOML + text)
    with pytest.raises(RuleSetError, match=message):
        load_ruleset(path)


def test_values_are_refused_by_the_table_itself(toy: RuleSet) -> None:
    content = toy.content()
    content["toy"]["maintenance_rate"] = 0.3
    with pytest.raises(RuleSetError, match=r"maintenance_rate 0\.3 is above.*\$\.toy"):
        ruleset_from_content(content)


def test_a_book_is_margined_and_explained(
    toy: RuleSet, make_view: Callable[..., MarketView]
) -> None:
    book, view = Book.of(ACCOUNTS), make_view()
    requirement = compute_requirement(book, view, toy)
    assert not requirement.problems
    notional = np.array([0.3 * 100_000.0 + 2.0 * 2_000.0, 3.0 * 2_000.0])
    assert requirement.maintenance_margin == pytest.approx(0.1 * notional, rel=1e-15)
    assert requirement.initial_margin == pytest.approx(0.2 * notional, rel=1e-15)
    for i in range(len(ACCOUNTS)):
        explained = explain_engine(i, requirement, toy, 0.0)
        assert explained.worst_scenarios == ()
        assert explained.unallocated == pytest.approx(0.0, abs=1e-9)
        parts = math.fsum(part.maintenance for part in explained.parts)
        assert parts == pytest.approx(requirement.headroom[i], rel=1e-12)
    option = Account("option", 0.0, (Position("BTC-27DEC30-60000-C", 1.0),))
    refused = compute_requirement(Book.of([option]), view, toy)
    assert list(refused.problems) == [0]


def test_the_add_on_stays_within_its_bounds(
    toy: RuleSet, make_view: Callable[..., MarketView]
) -> None:
    view = make_view()
    requirement = compute_requirement(Book.of(ACCOUNTS), view, toy)
    floor = largest_floor(active_floors(requirement, view, toy.floors), requirement)
    cap = add_on_cap(requirement.initial_margin, toy.add_on)
    assert (floor > 0.0).all()
    asked, nothing = np.array([0.0, 1e9]), np.full(2, np.nan)
    found = bound_add_on(
        asked, floor, cap, nothing, nothing, requirement.initial_margin, False, toy.add_on
    )
    assert found.level.tolist() == [floor[0], max(floor[1], cap[1])]


def test_what_ifs_are_answered(toy: RuleSet) -> None:
    bought = Change(trades=(Holding(kind="perp", underlying="ETH", quantity=1.0),))
    before, after = outcomes(portfolio(), [Change(), bought], toy)
    assert before.maintenance_requirement == pytest.approx(1_000.0)
    assert after.maintenance_requirement == pytest.approx(1_200.0)
    (marginal,) = marginal_requirements(portfolio(), toy)
    assert marginal.initial == pytest.approx(2_000.0)
    size = largest_size(portfolio(), bought.trades[0], toy)
    assert size == pytest.approx(2.5, rel=1e-6)
    remedies = find_remedies(portfolio(cash=400.0), toy)
    assert remedies.deposit == pytest.approx(600.0)
    assert remedies.single[0].share == pytest.approx(600.0 / 995.0, rel=1e-6)  # 0.05% cost


def test_the_liquidation_price_is_searched_for(toy: RuleSet) -> None:
    crossing = liquidation_crossing(portfolio(), "ETH", toy)
    # 3000 + 5 * 2000 * (m - 1) = 0.1 * 5 * 2000 * m
    assert crossing.down == pytest.approx(7_000.0 / 9_000.0, rel=1e-9)
    assert crossing.up is None
    step = liquidation_step(portfolio(cash=400.0), toy)
    assert step.restored


def test_cases_take_its_parameters(toy: RuleSet) -> None:
    figures = {"initial_rate": 0.5, "maintenance_rate": 0.25}
    case = {
        "id": 1,
        "portfolio": {
            "cash": 10.0,
            "stable_price": 1.0,
            "collateral": [],
            "underlyings": {"ETH": {"spot": 100.0}},
            "positions": [{"kind": "spot", "underlying": "ETH", "quantity": -2.0}],
        },
        "ruleset": {"engine": "toy_rate", "name": "new", "parameters": figures},
    }
    answer = run_case(json.dumps(case).encode())
    assert (answer["initial_net_margin"], answer["maintenance_net_margin"]) == (-90.0, -40.0)
    explained = explain_case(json.dumps(case).encode())
    assert "worst_scenarios" not in explained
    assert math.fsum(part["maintenance"] for part in explained["parts"]) == -40.0


def test_no_other_rule_set_changes_while_it_is_registered(toy: RuleSet) -> None:
    assert {name: load_ruleset(name).sha256 for name in list_rulesets()} == DIGESTS


def test_an_unregistered_engine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    unregister = register(ToyEngine())
    loaded = load_ruleset(path)
    with pytest.raises(RuleSetError, match=r"\[toy\], a name that is taken"):
        register(ToyEngine())
    unregister()
    with pytest.raises(RuleSetError, match="no engine reads"):
        engine_of(loaded)
    with pytest.raises(RuleSetError, match="'toy_rate' is not available"):
        load_ruleset(path)


def test_a_table_may_not_hide_a_key_of_every_rule_set() -> None:
    class CollateralEngine(ToyEngine):
        table = "collateral"

    with pytest.raises(RuleSetError, match="taken"):
        register(CollateralEngine())
