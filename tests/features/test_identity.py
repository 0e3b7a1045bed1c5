"""Identity of columns: what changes a digest, what does not, and that declared inputs are true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from features import identity, registry
from features.account.frame import AccountRows, LegGreeks, compute_aggregates, compute_features
from features.definition import CrossFeature, CrossInputs, MarketFeature
from features.identity import (
    SOURCES,
    column_digests,
    columns_that_differ,
    digests_of,
    digests_of_registry,
    market_columns_of,
)
from features.market import inputs
from features.registry import ACCOUNT_FEATURES, CROSS_FEATURES, MARKET_FEATURES
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel
from market.core.errors import ModelError

Floats = npt.NDArray[np.float64]
MakePanel = Callable[..., BarPanel]


def changed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: object) -> set[str]:
    """Columns whose digest changes with a setting."""
    before = column_digests()
    monkeypatch.setattr(owner, name, value)
    after = column_digests()
    return {column for column in before if after.get(column) != before[column]}


def with_first(features: tuple[Any, ...], **changes: Any) -> tuple[Any, ...]:
    return (replace(features[0], **changes), *features[1:])


def test_every_column_has_a_digest_of_its_own() -> None:
    digests = column_digests()
    assert set(digests) == {*registry.MARKET_COLUMNS, *registry.ACCOUNT_COLUMNS}
    assert len(set(digests.values())) == len(digests)


@pytest.mark.parametrize(
    "changes", [{"formula": "other"}, {"settings": (4.0,)}, {"constants": (1.0,)}, {"revision": 2}]
)
def test_a_market_column_changes_with_all_that_defines_it_and_takes_along_what_reads_it(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = with_first(MARKET_FEATURES, **changes)
    assert changed(monkeypatch, registry, "MARKET_FEATURES", features) == {
        "ewma_volatility_3h",
        "distance_ewma_volatility_3h",
        "book_ewma_volatility_3h",
    }


def test_an_account_column_changes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    features = with_first(ACCOUNT_FEATURES, revision=2)
    assert changed(monkeypatch, registry, "ACCOUNT_FEATURES", features) == {"prior_logit_1h"}


def test_places_in_arrays_are_no_part_of_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tuple(replace(feature, params=(99,)) for feature in ACCOUNT_FEATURES)
    assert changed(monkeypatch, registry, "ACCOUNT_FEATURES", moved) == set()
    assert changed(monkeypatch, registry, "MARKET_FEATURES", MARKET_FEATURES[::-1]) == set()


def test_a_new_column_changes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    new = replace(MARKET_FEATURES[0], name="new_volatility", settings=(5.0,))
    more = (*MARKET_FEATURES, new)
    assert changed(monkeypatch, registry, "MARKET_FEATURES", more) == set()
    assert "new_volatility" in column_digests()


@pytest.mark.parametrize(
    ("owner", "name", "value", "some"),
    [
        (registry, "CORRELATION_HALF_LIFE_HOURS", 73.0, "market_beta"),
        (registry, "FAST_CORRELATION_HALF_LIFE_HOURS", 11.0, "mean_correlation_fast"),
        (registry, "CROSS_VOLATILITY", "ewma_volatility_12h", "market_exposure"),
        (registry, "ADV", "realised_volatility_1h", "adv_share"),
        (registry, "PRIOR_VOLATILITIES", registry.PRIOR_VOLATILITIES[1:], "prior_logit_8h"),
        (inputs, "HOLD_HOURS", (25.0, *inputs.HOLD_HOURS[1:]), "book_funding"),
        (identity, "MAX_GAP_HOURS", 25.0, "long_volatility"),
    ],
)
def test_shared_settings_change_what_depends_on_them_and_nothing_else(
    owner: Any, name: str, value: object, some: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = changed(monkeypatch, owner, name, value)
    assert some in columns
    assert "headroom_share" not in columns
    assert "vega_share" not in columns


def test_an_input_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    features = with_first(ACCOUNT_FEATURES, inputs=("nothing",))
    monkeypatch.setattr(registry, "ACCOUNT_FEATURES", features)
    with pytest.raises(ModelError, match="'nothing', which is no column"):
        column_digests()


def test_a_column_that_is_not_computed_is_refused() -> None:
    with pytest.raises(ModelError, match="no column ghost"):
        digests_of(["book_return", "ghost"])


def test_columns_that_differ_are_named() -> None:
    recorded = column_digests() | {"ghost": "1" * 64, "book_return": "2" * 64}
    assert columns_that_differ(recorded) == ["book_return", "ghost"]
    assert columns_that_differ({}) == []


def test_the_last_registry_under_one_hash_stands_for_columns_of_revision_one() -> None:
    known = digests_of_registry("091e6cde0a2279675767cb414acb83e303a717d0870067d9d236dd59fd64e21b")
    assert known is not None
    features = (*MARKET_FEATURES, *CROSS_FEATURES, *ACCOUNT_FEATURES)
    unchanged = {feature.name for feature in features if feature.revision == 1} & set(known)
    here = column_digests()
    moved = {name for name in unchanged if here[name] != known[name]}
    # A column may also change with one that it reads, or with a shared setting.
    assert not {name for name in moved if set(_inputs(name)) <= unchanged - moved}
    assert digests_of_registry("0" * 64) is None


def _inputs(name: str) -> tuple[str, ...]:
    features = (*MARKET_FEATURES, *CROSS_FEATURES, *ACCOUNT_FEATURES)
    (feature,) = [feature for feature in features if feature.name == name]
    return tuple(source for source in feature.inputs if source not in SOURCES)


@pytest.fixture(scope="module")
def walked(make_panel: MakePanel, advance: Callable[[BarPanel], MarketFeatures]) -> MarketFeatures:
    return advance(make_panel(400))


def accounts() -> AccountRows:
    """Spot and perpetual positions, options and collateral, long and short."""
    return AccountRows(
        row=np.array([390, 395, 399], dtype=np.int64),
        leg_start=np.array([0, 3, 5, 8], dtype=np.int64),
        leg_symbol=np.array([0, 1, 2, 0, 2, 1, 1, 0], dtype=np.int64),
        leg_notional=np.array([5e3, -2e3, 1e3, 4e3, 0.0, -7e3, 1e3, 2e3]),
        headroom=np.array([900.0, 80.0, 1_500.0]),
        maintenance_margin=np.array([160.0, 80.0, 200.0]),
        leg_collateral=np.array([0.0, 0.0, 0.0, 0.0, 300.0, 0.0, 0.0, 0.0]),
        leg_greeks=LegGreeks(
            option=np.array([False] * 5 + [True] * 2 + [False]),
            gamma=np.array([0.0] * 5 + [-900.0, 400.0, 0.0]),
            vega=np.array([0.0] * 5 + [-50.0, 20.0, 0.0]),
        ),
    )


def changed_columns(market: MarketFeatures, other: MarketFeatures) -> set[str]:
    rows = accounts()
    before, after = (compute_features(compute_aggregates(rows, m)) for m in (market, other))
    return {
        name
        for f, name in enumerate(registry.ACCOUNT_COLUMNS)
        if not np.array_equal(before[:, f], after[:, f], equal_nan=True)
    }


def test_account_columns_read_the_market_columns_that_they_declare(
    walked: MarketFeatures,
) -> None:
    readers: dict[str, set[str]] = {name: set() for name in registry.MARKET_COLUMNS}
    for name in registry.ACCOUNT_COLUMNS:
        for column in market_columns_of([name]):
            readers[column].add(name)
    for f, column in enumerate(registry.MARKET_COLUMNS):
        values = walked.values.copy()
        values[:, :, f] = 1.37 * values[:, :, f] + 1e-3
        assert changed_columns(walked, replace(walked, values=values)) == readers[column], column


def test_account_columns_read_the_correlations_that_they_declare(walked: MarketFeatures) -> None:
    for source, field in (
        ("correlation.slow", "correlation"),
        ("correlation.fast", "fast_correlation"),
    ):
        other = replace(walked, **{field: 0.9 * getattr(walked, field)})
        declared = {f.name for f in ACCOUNT_FEATURES if source in f.inputs}
        assert changed_columns(walked, other) == declared, source


@pytest.mark.parametrize("feature", MARKET_FEATURES, ids=lambda feature: feature.name)
def test_market_features_read_the_series_that_they_declare(
    feature: MarketFeature, make_panel: MakePanel
) -> None:
    panel = make_panel(300)
    assert panel.exogenous is not None
    read = set()
    for k, source in enumerate(source for source in SOURCES if source.startswith("context.")):
        exogenous = panel.exogenous.copy()
        exogenous[100:, :, k] *= 1.0 + 0.01 * np.arange(200)[:, None]
        before, after = (
            run(feature, replace(panel, exogenous=c)) for c in (panel.exogenous, exogenous)
        )
        if not np.array_equal(before, after, equal_nan=True):
            read.add(source)
    assert read == set(feature.inputs)
    assert feature.needs_exogenous == bool(read)


def run(feature: MarketFeature, panel: BarPanel) -> Floats:
    symbols = len(panel.symbols)
    columns = inputs.new_inputs(panel)
    inputs.build(panel, inputs.new_state(symbols), columns)
    state = np.zeros((symbols, feature.state_size(panel.interval)))
    out = np.empty((symbols, len(panel)))
    feature.kernel(columns, state, out, *feature.params(panel.interval))
    return out


@pytest.mark.parametrize("feature", CROSS_FEATURES, ids=lambda feature: feature.name)
def test_cross_features_read_the_inputs_that_they_declare(
    feature: CrossFeature, walked: MarketFeatures
) -> None:
    rng = np.random.default_rng(4)
    count = len(walked.symbols)
    index = rng.uniform(0.3, 0.9, (count, len(walked.closes)))
    index[1] = np.nan
    market = CrossInputs(
        walked.correlation,
        walked.fast_correlation,
        walked.column(registry.CROSS_VOLATILITY).copy(),
        index,
        *(rng.normal(0.0, 0.1, index.shape) for _ in range(3)),
    )
    fields = {
        "slow": "correlation.slow",
        "fast": "correlation.fast",
        "volatility": "cross_volatility",
        "implied_volatility": "context.implied_volatility",
        "skew": "context.skew",
        "term_slope": "context.term_slope",
        "curvature": "context.curvature",
    }
    read = set()
    for field, source in fields.items():
        values = getattr(market, field) * rng.uniform(0.8, 1.0, getattr(market, field).shape)
        times = slice(300, 320)
        values[times if len(values) == len(walked.closes) else (slice(None), times)] = np.nan
        other = market._replace(**{field: values})
        if not np.array_equal(cross(feature, market), cross(feature, other), equal_nan=True):
            read.add(source)
    # Some read it only where no correlation is known: in a market of one symbol.
    assert read | {"cross_volatility"} == set(feature.inputs)


def cross(feature: CrossFeature, market: CrossInputs) -> Floats:
    rows, count = market.volatility.shape
    out = np.empty((rows, count))
    feature.kernel(market, np.zeros((count, feature.state_width)), out, *feature.params)
    return out
