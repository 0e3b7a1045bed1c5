"""The sections of ``margincast.toml``: every key with its type, default and checks.

A section is a frozen model, a key a field, and invalid values are refused key by key.
`pipelines.config.config` reads the values.

Reference: pydantic, "Validators".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from market.core.clock import INTERVALS, parse_duration, parse_time
from market.core.errors import InstrumentError
from market.core.instruments import parse_instrument
from market.simulator.market_parameters import DEFAULT_MARKET
from pipelines.config.access_section import AccessConfig
from pipelines.config.fields import (
    Bytes,
    Count,
    Duration,
    Folds,
    NonemptyPath,
    OptionalPath,
    Section,
    Seed,
    Text,
    Time,
    invalid,
    is_loopback,
    readable_address,
)
from pipelines.config.lightgbm_section import LightGBMConfig
from pipelines.config.search_section import SearchConfig
from pipelines.config.serving_limits import ServingLimits

HORIZONS = (1, 8, 24)
"""Horizons of the labels where none are configured, hours."""

MAX_HORIZON = 8760
"""Longest horizon, hours: a year."""


def _to_ns(text: str) -> int | None:
    return parse_time(text) if text else None


class BarsConfig(Section):
    """A folder of ``<SYMBOL>.parquet`` bars and the kind of its prices; a bare path is spot."""

    path: NonemptyPath
    """Folder of `<SYMBOL>.parquet` bars."""
    kind: Literal["spot", "perp", "mark"] = "spot"
    """What kind of price it holds: spot, perpetual or mark."""

    @model_validator(mode="before")
    @classmethod
    def _bare_path_is_spot(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value


class MarketConfig(Section):
    """Sources of bars and exogenous series; without bars the market is simulated.

    ``start_ns`` and ``end_ns`` are ``start`` and ``end`` in nanoseconds since 1970 UTC, None if
    empty.
    """

    bars: tuple[BarsConfig, ...] = ()
    """Folders of `<SYMBOL>.parquet`; empty: the market is simulated. An entry is a path (spot bars)
    or `{ path = "…", kind = "spot" | "perp" | "mark" }`; later folders fill gaps of earlier ones.
    """
    interval: str = "1h"
    """1m, 5m, 30m or 1h; finer bars are aggregated, coarser ones refused."""
    symbols: tuple[str, ...] = ()
    """Symbols to read; empty: all in the folders."""
    start: Time = ""
    """First decision time, ISO 8601 in UTC; earlier bars are warm-up. Empty, `margincast evaluate`
    starts at the end of the bundle's training data."""
    end: Time = ""
    """Last decision time; empty: the end of the data."""
    mark_max_age: Duration = ""
    """A quoted mark older than this (90s, 30m, 2h, 1d) is not used; empty: two bars."""
    funding: OptionalPath = None
    """Folder of `<SYMBOL>.parquet` with ts, funding_rate[, interval_hours]."""
    open_interest: OptionalPath = None
    """Folder of `<SYMBOL>.parquet` with ts, open_interest in base units."""
    implied_vol: Mapping[Text, NonemptyPath] = {}
    """File by coin, `{ BTC = "…/BTC.parquet" }`: hourly index of implied volatility in per cent,
    close or dvol_close."""
    option_surface: Mapping[Text, NonemptyPath] = {}
    """File by coin, `{ BTC = "…/BTC.parquet" }`: ts, skew_25d, atm_term_slope, smile_curvature,
    daily."""

    @property
    def start_ns(self) -> int | None:
        """First decision time in nanoseconds."""
        return _to_ns(self.start)

    @property
    def end_ns(self) -> int | None:
        """Last decision time in nanoseconds."""
        return _to_ns(self.end)

    @property
    def mark_max_age_ns(self) -> int | None:
        """Largest age of a quoted mark in nanoseconds; None: two intervals."""
        return parse_duration(self.mark_max_age) if self.mark_max_age else None

    @field_validator("interval")
    @classmethod
    def _check_interval(cls, interval: str) -> str:
        if interval not in INTERVALS:
            raise invalid("one of " + ", ".join(INTERVALS))
        return interval

    @field_validator("symbols")
    @classmethod
    def _bar_symbols_once_each(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in symbols:
            try:
                bar_symbol = parse_instrument(symbol).kind == "spot"
            except InstrumentError:
                bar_symbol = False
            if not bar_symbol:
                raise invalid(f"a list of bar symbols like BTCUSDT, which {symbol!r} is not")
        if len(set(symbols)) < len(symbols):
            raise invalid("a list that names each symbol once")
        return symbols

    @field_validator("end")
    @classmethod
    def _after_start(cls, end: str, info: ValidationInfo) -> str:
        start = info.data.get("start", "")
        if start and end and parse_time(end) <= parse_time(start):
            raise invalid(f"later than market.start ({start})")
        return end


def _path_of(text: str) -> Path | None:
    """A text as a path; None if it is a name."""
    return Path(text) if "/" in text or text.endswith(".toml") else None


class SimulateConfig(Section):
    """The simulated market, used if `[market] bars` is empty."""

    seed: Seed = 1
    """Seed of the simulated market."""
    days: Count = 180
    """Length of the simulated market. A much shorter one than that of the demonstration is too
    little to assess calibration."""
    symbols: Count = 8
    """Number of coins."""
    parameters: Text = DEFAULT_MARKET
    """A name in market/simulator/parameters, or a path (ends in .toml or has a slash)."""
    halts: Mapping[Text, Annotated[int, Field(strict=True, ge=1, le=1_000)]] = {}
    """Coins whose trading is suspended, and how many hours before the end of the days their last
    bar closes."""
    speed: Annotated[float, Field(ge=0.0, le=3_600.0, allow_inf_nan=False)] = 0.0
    """Seconds of the market in one second beside `margincast run`; 0: it stands still."""

    @property
    def path(self) -> Path | None:
        """The parameter file; None where `parameters` is a name."""
        return _path_of(self.parameters)


class AccountsConfig(Section):
    """The accounts: sampled from a population, or read from files."""

    source: Literal["sampled", "files"] = "sampled"
    """Sampled from the population, or files of a folder. A folder as source means files with that
    path."""
    path: OptionalPath = None
    """Folder of the files positions, collateral and events; given exactly if source is files."""
    population: Text = "reference-v1"
    """A population in market/simulator/populations; `behaving-v1` trades (book = "as_traded")."""
    count: Count = 2000
    """Accounts alive at any time."""
    seed: Seed = 7
    """Seed of the sample."""

    @model_validator(mode="before")
    @classmethod
    def _bare_folder_is_files(cls, table: object) -> object:
        if not isinstance(table, Mapping) or table.get("path"):
            return table
        source = table.get("source")
        if not isinstance(source, str) or source in {"", "sampled", "files"}:
            return table
        return {**table, "source": "files", "path": source}

    @field_validator("path")
    @classmethod
    def _path_with_files_only(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        source = info.data.get("source")
        if source == "files" and path is None:
            raise invalid('the folder of the account files, as accounts.source is "files"')
        if source == "sampled" and path is not None:
            raise invalid('left out, as accounts.source is "sampled"')
        return path


class RulesConfig(Section):
    """The rule set.

    A folder has one dated version in each ``.toml`` file; the one in force at the decision time
    applies.
    """

    ruleset: Text = "linear-tiers"
    """A name in margin/rules/presets, a file (ends in .toml or has a slash), or a folder of dated
    versions."""

    @property
    def path(self) -> Path | None:
        """The rule set's file or folder; None where `ruleset` is a name."""
        return _path_of(self.ruleset)


class TrainingConfig(Section):
    """Horizons in hours, the three ends of the split, and the conventions of the labels.

    `ruleset` has the levels that define an event, see `training.labels.events`; empty: the one of
    ``[rules]``. With `funding`, perpetuals pay the rates of ``[market] funding`` along the paths.
    ``fit_end_ns``, ``calibrate_end_ns`` and ``test_end_ns`` are the ends in nanoseconds since
    1970 UTC; all three are None if the span is split 60, 20 and 20 per cent.
    """

    horizons: tuple[Annotated[int, Field(strict=True)], ...] = HORIZONS
    """Horizons of the labels, hours, rising."""
    fit_end: Time = ""
    """End of the rows for fitting, ISO 8601 in UTC; all three ends empty: 60%, 20% and 20% of the
    span."""
    calibrate_end: Time = ""
    """End of the rows for calibration."""
    test_end: Time = ""
    """End of the rows for testing."""
    event: Literal["warning", "call", "liquidation", "bad_debt"] = "call"
    """The level that equity falls below: see [training data](../training-data.md#events)."""
    book: Literal["static", "as_traded"] = "static"
    """`static`: quantities stay as they are over the horizon; `as_traded`: they follow the
    account's own trades."""
    extremes: Literal["close", "bound", "finest"] = "close"
    """Where within a bar equity is compared with the level: at closes, at the bound given by highs
    and lows of every leg, or at closes of the finest bars."""
    funding: Annotated[bool, Field(strict=True)] = False
    """Perpetuals pay the rates of `[market] funding` along the paths of the labels."""
    max_rows: Count = 4_000_000
    """Most rows, chosen by a seeded hash of account and time."""
    ruleset: str = ""
    """Rule set whose levels make the labels; empty: that of `[rules]`."""
    lightgbm: LightGBMConfig = LightGBMConfig()
    search: SearchConfig = SearchConfig()
    """Hyperparameters of the model."""

    @property
    def path(self) -> Path | None:
        """The file of the labels' rule set; None where `ruleset` is a name or empty."""
        return _path_of(self.ruleset)

    @property
    def fit_end_ns(self) -> int | None:
        """End of the rows for fitting in nanoseconds."""
        return _to_ns(self.fit_end)

    @property
    def calibrate_end_ns(self) -> int | None:
        """End of the rows for calibration in nanoseconds."""
        return _to_ns(self.calibrate_end)

    @property
    def test_end_ns(self) -> int | None:
        """End of the rows for testing in nanoseconds."""
        return _to_ns(self.test_end)

    @field_validator("horizons")
    @classmethod
    def _check_rising(cls, horizons: tuple[int, ...]) -> tuple[int, ...]:
        rising = horizons == tuple(sorted(set(horizons)))
        if not horizons or not rising or horizons[0] < 1 or horizons[-1] > MAX_HORIZON:
            raise invalid(
                f"whole hours from 1 to {MAX_HORIZON} in rising order, each once, like "
                f"{list(HORIZONS)}"
            )
        return horizons

    @field_validator("test_end")
    @classmethod
    def _three_rising_ends_or_none(cls, test_end: str, info: ValidationInfo) -> str:
        if "fit_end" not in info.data or "calibrate_end" not in info.data:
            return test_end
        ends = (info.data["fit_end"], info.data["calibrate_end"], test_end)
        if not any(ends):
            return test_end
        if not all(ends):
            raise invalid("given with fit_end and calibrate_end: all three, or none")
        fit, calibrate, test = map(parse_time, ends)
        if not fit < calibrate < test:
            raise invalid(
                f"later than calibrate_end ({ends[1]}), and that later than fit_end ({ends[0]})"
            )
        return test_end


class ReviewConfig(Section):
    """Parts of a retraining for its review alone; no gate and no bundle depends on them.

    The walk-forward cuts the data into blocks of calendar months, trains anew before each and
    evaluates on it.
    """

    folds: Folds = 20
    """Most walk-forward blocks, the newest; 0: no walk-forward."""
    walk_forward_months: Literal[1, 2, 3, 4, 6, 12] = 6
    """Length of a block in calendar months; shorter ones on short data."""
    walk_forward_rows: Annotated[int, Field(strict=True, ge=1_000)] = 40_000
    """Most training rows, and most test rows, of each block."""
    stress_folds: bool = False
    """Hold out each stress window before the test block in turn; on real prices only."""
    ablation: bool = True
    """Refit without each feature family."""
    backtest: bool = True
    """Compare the add-on with the reference policies, with its frontier."""


class TrackingConfig(Section):
    """MLflow's store, the experiment and the registered model."""

    uri: str = Field(default="sqlite:///var/mlflow.db", repr=False)
    """Tracking store of MLflow: sqlite, postgresql, mysql, mssql or http(s)."""
    experiment: Text = "margincast"
    """Name of the experiment."""
    model: Text = "margincast"
    """Name of the registered model."""

    @field_validator("uri")
    @classmethod
    def _database_or_server(cls, uri: str) -> str:
        # A bare folder would be MLflow's file store, which version 3 refuses, but only later.
        if not re.match(r"(sqlite|postgresql|mysql|mssql|https?)(\+\w+)?://", uri):
            raise invalid("an address like sqlite:///var/mlflow.db, postgresql://… or https://…")
        return uri if uri.startswith("sqlite") else readable_address(uri)

    @field_validator("model")
    @classmethod
    def _name_of_a_registered_model(cls, model: str) -> str:
        # MLflow refuses the first two after the training; a quotation mark breaks its search.
        if set(model) & set("/:'"):
            raise invalid("a name without '/', ':' and quotation marks")
        return model


class ServingConfig(AccessConfig, ServingLimits):
    """The endpoint: its address, bundles, clock, access and limits."""

    host: Text = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 8000
    """Port to listen on."""
    bundles: NonemptyPath = Path("var/bundles")
    """Folder of the bundles and the pointer file `champion`."""
    clock: Literal["wall", "market"] = "wall"
    """`wall`: the time of the machine; `market`: the newest close, for a market that ends in the
    past."""
    auth: Literal["keys", "off"] = "keys"
    """`keys`: requests need an API key; `off`: none, refused on any host that is not loopback."""
    workers: Annotated[int, Field(strict=True, ge=1, le=256)] = 1
    """Processes behind the port; each has a chain of decisions of its own."""
    replica: Annotated[str, Field(pattern=r"^([a-z][a-z0-9]{0,31})?$")] = ""
    """Name of this installation where several write to one ledger; part of the names of its chains.
    """
    step_quorum: Annotated[float, Field(strict=True, ge=0.0, le=1.0)] = 0.5
    """A step of the live market counts with bars of more than this share of the live symbols."""
    step_grace: Annotated[int, Field(strict=True, ge=0, le=86_400)] = 60
    """On the wall clock a step also counts this many seconds after its first bar."""
    max_body_bytes: Bytes = 0
    """Longest request body; 0: 16 MiB. A longer one is answered 413."""
    max_history_bytes: Bytes = 0
    """Longest `history` of an account as JSON; 0: 64 KiB."""
    max_page: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 0
    """Most entries of one page; 0: 500."""

    @field_validator("auth")
    @classmethod
    def _open_on_loopback_only(cls, auth: str, info: ValidationInfo) -> str:
        host = info.data.get("host", "localhost")
        if auth == "off" and not is_loopback(host):
            raise invalid(f"'keys' unless serving.host is loopback (it is {host!r})")
        if auth == "off":
            for name, given in (
                ("metrics_auth", info.data.get("metrics_auth")),
                ("jwt", getattr(info.data.get("jwt"), "key_file", None)),
            ):
                if given:
                    raise invalid(f"'keys', as serving.{name} is given")
        return auth
