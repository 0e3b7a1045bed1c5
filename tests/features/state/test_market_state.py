"""The market state: what it accepts, and that a saved one goes on as if never stopped."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from features.identity import column_digests
from features.state.market_state import MarketFeatures, MarketState
from market.bars.panel import BarPanel
from market.core.clock import INTERVALS
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
RowsOf = Callable[[BarPanel, int, int], BarPanel]
SameBits = Callable[[Floats, Floats], bool]
MakePanel = Callable[..., BarPanel]


FIELDS = ("values", "correlation", "age", "history")


def _same_state(a: MarketState, b: MarketState, same_bits: SameBits) -> bool:
    return (
        (a.symbols, a.interval, a.last_open) == (b.symbols, b.interval, b.last_open)
        and a.arrays.keys() == b.arrays.keys()
        and all(same_bits(a.arrays[name], b.arrays[name]) for name in a.arrays)
        and all(
            same_bits(one, other)
            for one, other in zip(a.daily.arrays().values(), b.daily.arrays().values(), strict=True)
        )
    )


@pytest.mark.parametrize("cut", [0, 1, 100, 202, 270, 310, 430, 620])
def test_saved_state_continues_as_if_uninterrupted(
    cut: int,
    hazard_panel: BarPanel,
    advance: Advance,
    rows_of: RowsOf,
    same_bits: SameBits,
    tmp_path: Path,
) -> None:
    state = MarketState(hazard_panel.symbols, hazard_panel.interval)
    state.advance(rows_of(hazard_panel, 0, cut))
    path = tmp_path / "state.npz"
    state.save(path)
    loaded = MarketState.load(path)
    assert _same_state(loaded, state, same_bits)
    rest = loaded.advance(rows_of(hazard_panel, cut, len(hazard_panel)))
    whole = advance(hazard_panel)
    for field in FIELDS:
        assert same_bits(getattr(rest, field), getattr(whole, field)[cut:]), field


def test_saving_replaces_the_old_file_whole(make_panel: MakePanel, tmp_path: Path) -> None:
    panel = make_panel(10)
    path = tmp_path / "folder" / "state.npz"
    state = MarketState(panel.symbols, panel.interval)
    state.save(path)
    state.advance(panel)
    state.save(path)
    assert MarketState.load(path).last_open == panel.opens[-1]
    assert [entry.name for entry in path.parent.iterdir()] == ["state.npz"]


def test_copy_is_independent(make_panel: MakePanel, rows_of: RowsOf, same_bits: SameBits) -> None:
    panel = make_panel(60)
    state = MarketState(panel.symbols, panel.interval)
    state.advance(rows_of(panel, 0, 30))
    twin, before = state.copy(), state.copy()
    first = twin.advance(rows_of(panel, 30, 60))
    assert _same_state(state, before, same_bits)
    second = state.advance(rows_of(panel, 30, 60))
    assert same_bits(first.values, second.values)


def test_empty_panel_changes_nothing(
    make_panel: MakePanel, rows_of: RowsOf, same_bits: SameBits
) -> None:
    panel = make_panel(30)
    state = MarketState(panel.symbols, panel.interval)
    state.advance(panel)
    before = state.copy()
    features = state.advance(rows_of(panel, 0, 0))
    assert features.values.shape[0] == 0
    assert _same_state(state, before, same_bits)


def test_panel_that_does_not_fit_is_refused_and_changes_nothing(
    make_panel: MakePanel, rows_of: RowsOf, same_bits: SameBits
) -> None:
    panel = make_panel(60)
    state = MarketState(panel.symbols, panel.interval)
    state.advance(rows_of(panel, 0, 30))
    before = state.copy()
    for wrong, message in (
        (rows_of(panel, 31, 60), "must follow on each other"),
        (rows_of(panel, 29, 60), "must follow on each other"),
        (make_panel(60, symbols=("A", "B", "D")), "does not fit"),
        (make_panel(60, interval="30m"), "does not fit"),
    ):
        with pytest.raises(DataError, match=message):
            state.advance(wrong)
    assert all(same_bits(state.arrays[name], before.arrays[name]) for name in state.arrays)
    assert state.last_open == before.last_open


@pytest.mark.parametrize("symbols", [("B", "A"), ("A", "A")])
def test_symbols_out_of_order_are_refused(symbols: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="sorted and distinct"):
        MarketState(symbols, INTERVALS["1h"])


@pytest.fixture(scope="module")
def saved(make_panel: MakePanel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    panel = make_panel(200)
    state = MarketState(panel.symbols, panel.interval)
    state.advance(panel)
    path = tmp_path_factory.mktemp("saved") / "state.npz"
    state.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("sound", "damaged"), [(b"{'descr'", b"('descr'"), (b"{'descr'", b"{b'desc'")]
)
def test_damaged_header_of_an_array_is_refused(
    saved: bytes, sound: bytes, damaged: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(saved.replace(sound, damaged, 1))
    with pytest.raises(DataError, match="cannot be read"):
        MarketState.load(path)


@given(
    place=st.floats(0.0, 1.0, exclude_max=True),
    in_directory=st.booleans(),
    flip=st.integers(1, 255),
)
@settings(max_examples=300)
def test_damaged_file_is_refused_or_harmless(
    place: float,
    in_directory: bool,
    flip: int,
    saved: bytes,
    tmp_path_factory: pytest.TempPathFactory,
    same_bits: SameBits,
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(saved)
    sound = MarketState.load(path)
    # Half of the damage goes to the directory of the zip, where its flags and methods are.
    first = saved.index(b"PK\x01\x02") if in_directory else 0
    damaged = bytearray(saved)
    damaged[first + int(place * (len(saved) - first))] ^= flip
    path.write_bytes(damaged)
    try:
        state = MarketState.load(path)
    except DataError:
        return
    # Some bytes, such as the dates of the zip, say nothing about the state.
    assert _same_state(state, sound, same_bits)


@pytest.mark.parametrize("size", [0, 1, 100, 10_000, -1])
def test_truncated_file_is_refused(size: int, saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(saved[:size])
    with pytest.raises(DataError, match=r"state\.npz cannot be read"):
        MarketState.load(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz cannot be read"):
        MarketState.load(tmp_path / "none.npz")


def _rewritten(
    saved: bytes, path: Path, **changes: npt.NDArray[np.generic] | None
) -> dict[str, npt.NDArray[np.generic]]:
    """The saved state with some arrays replaced, or left out where None."""
    path.write_bytes(saved)
    with np.load(path) as file:
        content = {name: array for name, array in file.items() if name not in changes}
    content |= {name: array for name, array in changes.items() if array is not None}
    np.savez(path, allow_pickle=False, **content)
    return content


def test_state_without_a_column_or_with_another_revision_of_it_is_refused_by_name(
    saved: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(saved)
    with np.load(path) as file:
        names, original = file["columns"], file["column_sha256"]
    digests = original.copy()
    digests[names == "basis_24h"] = "0" * 64
    _rewritten(saved, path, column_sha256=digests)
    with pytest.raises(DataError, match="another revision of, basis_24h; run retrain"):
        MarketState.load(path)
    kept = names != "skew_25d"
    _rewritten(saved, path, columns=names[kept], column_sha256=original[kept])
    with pytest.raises(DataError, match=r"without, or .* skew_25d; run retrain"):
        MarketState.load(path)


def test_state_with_a_column_that_is_no_longer_computed_still_loads(
    saved: bytes, tmp_path: Path, same_bits: SameBits
) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(saved)
    sound = MarketState.load(path)
    with np.load(path) as file:
        names, digests = file["columns"], file["column_sha256"]
    _rewritten(
        saved,
        path,
        columns=np.append(names, "older_feature"),
        column_sha256=np.append(digests, "1" * 64),
        older_feature=np.zeros((3, 7)),
    )
    assert _same_state(MarketState.load(path), sound, same_bits)


@pytest.mark.parametrize("known", [True, False])
def test_state_that_names_its_registry_alone_loads_where_the_registry_is_known(
    known: bool,
    saved: bytes,
    tmp_path: Path,
    same_bits: SameBits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(saved)
    sound = MarketState.load(path)
    registry = np.array(["1" * 64])
    _rewritten(saved, path, columns=None, column_sha256=None, registry_sha256=registry)
    digests = {"1" * 64: column_digests()} if known else {}
    monkeypatch.setattr("features.state.market_state.digests_of_registry", digests.get)
    if known:
        assert _same_state(MarketState.load(path), sound, same_bits)
    else:
        with pytest.raises(DataError, match="run retrain"):
            MarketState.load(path)


class _Trap:
    """Leaves a mark if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_pickled_content_is_refused_and_never_run(saved: bytes, tmp_path: Path) -> None:
    path, mark = tmp_path / "state.npz", tmp_path / "run"
    path.write_bytes(saved)
    with np.load(path) as file:
        content = dict(file)
    trap = np.array([_Trap(mark)], dtype=object)
    np.savez(path, allow_pickle=True, **{**content, "inputs": trap})
    with pytest.raises(DataError, match="cannot be read"):
        MarketState.load(path)
    path.write_bytes(pickle.dumps(_Trap(mark)))
    with pytest.raises(DataError, match="cannot be read"):
        MarketState.load(path)
    assert not mark.exists()


def test_bare_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="cannot be read"):
        MarketState.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputs", None),
        ("inputs", np.zeros((1, 3))),
        ("inputs", np.zeros((3, 3), dtype=np.float32)),
        ("ewma_volatility_12h", np.zeros((3, 4))),
        ("last_open", None),
        ("last_open", np.zeros(0, dtype=np.int64)),
        ("last_open", np.array(["x"])),
        ("symbols", None),
        ("symbols", np.array(["B", "A", "C"])),
        ("symbols", np.array("A")),
        ("interval", np.array(["2h"])),
        ("interval", np.zeros(0)),
        ("columns", None),
        ("column_sha256", None),
        ("column_sha256", np.zeros((2, 2))),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    name: str, value: npt.NDArray[np.generic] | None, saved: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "state.npz"
    _rewritten(saved, path, **{name: value})
    with pytest.raises(DataError):
        MarketState.load(path)
