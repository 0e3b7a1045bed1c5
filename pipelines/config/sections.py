"""The sections of ``margincast.toml``: every key with its type, default and checks.

One section is one frozen model and one key one field. What cannot be is refused here, key by key;
where values come from is the business of `pipelines.config.config`.

Reference: pydantic, "Validators".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from market.core.clock import DURATION_FORM, INTERVALS, TIME_RANGE, parse_duration, parse_time
from market.core.errors import DataError, InstrumentError
from market.core.instruments import parse_instrument
from market.simulator.market_parameters import DEFAULT_MARKET

HORIZONS = (1, 8, 24)


def _impossible(expected: str) -> PydanticCustomError:
    return PydanticCustomError("impossible", "{expected}", {"expected": expected})


def _filled(text: str) -> str:
    if not text.strip():
        raise _impossible("a text that is not empty")
    return text


def _nonempty_path(value: object) -> object:
    if value == "":
        raise _impossible("a path that is not empty")
    return value


def _time_as_text(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


def _check_time(text: str) -> str:
    if text:
        try:
            parse_time(text)
        except DataError:
            raise _impossible(
                f"empty or an ISO 8601 time like 2025-04-01T00:00:00Z, {TIME_RANGE}"
            ) from None
    return text


def _readable_address(address: str) -> str:
    """Refuse what would be read with a part of the password as the host, or shown in errors."""
    scheme, _, rest = address.partition("://")
    user, _, host = rest.partition("?")[0].rpartition("@")
    server = r"(\[[0-9A-Fa-f:.]+\]|[^:/\[\]]*)(:[0-9]{1,5})?(/.*)?"
    if "@" in user or re.search(r"\s", address) or not re.fullmatch(server, host):
        raise _impossible(
            f"an address like {scheme}://user:password@host:port/name without blanks; %-encode "
            "other characters than letters and digits in user and password"
        )
    return address


def _check_duration(text: str) -> str:
    if text:
        try:
            parse_duration(text)
        except DataError:
            raise _impossible(f"empty or {DURATION_FORM}") from None
    return text


def _nanoseconds(text: str) -> int | None:
    return parse_time(text) if text else None


Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Folds = Annotated[int, Field(strict=True, ge=0, le=20)]
Bytes = Annotated[int, Field(strict=True, ge=0, le=2**30)]
Text = Annotated[str, AfterValidator(_filled)]
Time = Annotated[str, BeforeValidator(_time_as_text), AfterValidator(_check_time)]
Duration = Annotated[str, AfterValidator(_check_duration)]
GivenPath = Annotated[Path, BeforeValidator(_nonempty_path)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class BarsConfig(Section):
    """A folder of ``<SYMBOL>.parquet`` bars and what its prices are; a bare path means spot."""

    path: GivenPath
    kind: Literal["spot", "perp", "mark"] = "spot"

    @model_validator(mode="before")
    @classmethod
    def _bare_path_is_spot(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value


class MarketConfig(Section):
    """Where the bars and what is known beside them come from; no bars: simulated.

    ``start`` and ``end`` bound decision times; ``start_ns`` and ``end_ns`` are the same in
    nanoseconds since 1970 UTC, None where empty. A quoted mark older than ``mark_max_age``, a
    duration like ``30m`` or ``2h``, is not used; empty: two intervals.
    """

    bars: tuple[BarsConfig, ...] = ()
    interval: str = "1h"
    symbols: tuple[str, ...] = ()
    start: Time = ""
    end: Time = ""
    mark_max_age: Duration = ""
    funding: OptionalPath = None
    open_interest: OptionalPath = None
    implied_vol: Mapping[Text, GivenPath] = {}
    option_surface: Mapping[Text, GivenPath] = {}

    @property
    def start_ns(self) -> int | None:
        """First decision time in nanoseconds."""
        return _nanoseconds(self.start)

    @property
    def end_ns(self) -> int | None:
        """Last decision time in nanoseconds."""
        return _nanoseconds(self.end)

    @property
    def mark_max_age_ns(self) -> int | None:
        """Greatest age of a quoted mark in nanoseconds; None: two intervals."""
        return parse_duration(self.mark_max_age) if self.mark_max_age else None

    @field_validator("interval")
    @classmethod
    def _check_interval(cls, interval: str) -> str:
        if interval not in INTERVALS:
            raise _impossible("one of " + ", ".join(INTERVALS))
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
                raise _impossible(f"a list of bar symbols like BTCUSDT, which {symbol!r} is not")
        if len(set(symbols)) < len(symbols):
            raise _impossible("a list that names each symbol once")
        return symbols

    @field_validator("end")
    @classmethod
    def _after_start(cls, end: str, info: ValidationInfo) -> str:
        start = info.data.get("start", "")
        if start and end and parse_time(end) <= parse_time(start):
            raise _impossible(f"later than market.start ({start})")
        return end


def _path_of(text: str) -> Path | None:
    """The path that a text is; None where it is a name."""
    return Path(text) if "/" in text or text.endswith(".toml") else None


class SimulateConfig(Section):
    """The simulated market that stands in where `MarketConfig.bars` is empty.

    ``parameters`` is a name in ``market/simulator/parameters``, or a path (ends in .toml or has a
    slash).
    """

    seed: Seed = 1
    days: Count = 180
    symbols: Count = 8
    parameters: Text = DEFAULT_MARKET

    @property
    def path(self) -> Path | None:
        """The parameter file; None where `parameters` is a name."""
        return _path_of(self.parameters)


class AccountsConfig(Section):
    """The accounts: ``sampled`` from a population, or ``files`` read from the folder `path`.

    A folder given as ``source`` itself means the same as ``files`` with that path. `path` is
    None exactly where accounts are sampled.
    """

    source: Literal["sampled", "files"] = "sampled"
    path: OptionalPath = None
    population: Text = "reference-v1"
    count: Count = 2000
    seed: Seed = 7

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
            raise _impossible('the folder of the account files, as accounts.source is "files"')
        if source == "sampled" and path is not None:
            raise _impossible('left out, as accounts.source is "sampled"')
        return path


class RulesConfig(Section):
    """The rule set: a name in ``margin/rules/presets``, or a path (ends in .toml or has a slash).

    The path may be that of a folder: each ``.toml`` file in it is one dated version, and the one
    in force at a decision's time applies.
    """

    ruleset: Text = "linear-tiers"

    @property
    def path(self) -> Path | None:
        """The rule set's file or folder; None where `ruleset` is a name."""
        return _path_of(self.ruleset)


class TrainingConfig(Section):
    """Horizons in hours, the three ends of the split, and the conventions of the labels.

    `ruleset` names the brackets whose maintenance margin makes a call; empty: those of ``[rules]``.
    ``fit_end_ns``, ``calibrate_end_ns`` and ``test_end_ns`` are the ends in nanoseconds since
    1970 UTC; all three are None where the span is split 60, 20 and 20 per cent.
    """

    horizons: tuple[Annotated[int, Field(strict=True)], ...] = HORIZONS
    fit_end: Time = ""
    calibrate_end: Time = ""
    test_end: Time = ""
    book: Literal["static", "as_traded"] = "static"
    extremes: Literal["close", "bound", "finest"] = "close"
    max_rows: Count = 4_000_000
    ruleset: str = ""

    @property
    def path(self) -> Path | None:
        """The file of the labels' rule set; None where `ruleset` is a name or empty."""
        return _path_of(self.ruleset)

    @property
    def fit_end_ns(self) -> int | None:
        """End of the rows for fitting in nanoseconds."""
        return _nanoseconds(self.fit_end)

    @property
    def calibrate_end_ns(self) -> int | None:
        """End of the rows for calibration in nanoseconds."""
        return _nanoseconds(self.calibrate_end)

    @property
    def test_end_ns(self) -> int | None:
        """End of the rows for testing in nanoseconds."""
        return _nanoseconds(self.test_end)

    @field_validator("horizons")
    @classmethod
    def _check_rising(cls, horizons: tuple[int, ...]) -> tuple[int, ...]:
        if not horizons or horizons != tuple(hour for hour in HORIZONS if hour in horizons):
            raise _impossible(f"some of {list(HORIZONS)} in rising order, each once")
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
            raise _impossible("given with fit_end and calibrate_end: all three, or none")
        fit, calibrate, test = map(parse_time, ends)
        if not fit < calibrate < test:
            raise _impossible(
                f"later than calibrate_end ({ends[1]}), and that later than fit_end ({ends[0]})"
            )
        return test_end


class ReviewConfig(Section):
    """What a retraining does for its review alone: no gate reads it, and no bundle changes by it.

    ``folds`` walk-forward folds before the test block; with ``stress_folds`` each stress window
    there held out in turn (real prices only); the ``ablation`` of feature families; the
    ``backtest`` of the add-on with its frontier.
    """

    folds: Folds = 2
    stress_folds: bool = False
    ablation: bool = True
    backtest: bool = True


class TrackingConfig(Section):
    """MLflow's store, the experiment and the registered model."""

    uri: str = Field(default="sqlite:///var/mlflow.db", repr=False)
    experiment: Text = "margincast"
    model: Text = "margincast"

    @field_validator("uri")
    @classmethod
    def _database_or_server(cls, uri: str) -> str:
        # A bare folder would be MLflow's file store, which version 3 refuses much later.
        if not re.match(r"(sqlite|postgresql|mysql|mssql|https?)(\+\w+)?://", uri):
            raise _impossible(
                "an address like sqlite:///var/mlflow.db, postgresql://… or https://…"
            )
        return uri if uri.startswith("sqlite") else _readable_address(uri)

    @field_validator("model")
    @classmethod
    def _name_of_a_registered_model(cls, model: str) -> str:
        # MLflow refuses the first two when all work is done; the quote would end its search.
        if set(model) & set("/:'"):
            raise _impossible("a name without '/', ':' and quotation marks")
        return model


class ServingConfig(Section):
    """The endpoint: where it listens, what it serves, which clock and what access it keeps.

    A step of the live market counts with more bars than ``step_quorum`` of the number of live
    symbols; on the wall clock also ``step_grace`` seconds after its first bar.
    ``max_body_bytes``, ``max_history_bytes`` and ``max_page`` limit a request's body, an account's
    `history` and a page of decisions; 0 stands for the default of `serving.settings`.
    """

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 8000
    bundles: GivenPath = Path("var/bundles")
    clock: Literal["wall", "market"] = "wall"
    auth: Literal["keys", "off"] = "keys"
    step_quorum: Annotated[float, Field(strict=True, ge=0.0, le=1.0)] = 0.5
    step_grace: Annotated[int, Field(strict=True, ge=0, le=86_400)] = 60
    max_body_bytes: Bytes = 0
    max_history_bytes: Bytes = 0
    max_page: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 0

    @field_validator("auth")
    @classmethod
    def _open_on_loopback_only(cls, auth: str, info: ValidationInfo) -> str:
        host = info.data.get("host", "localhost")
        if auth == "off" and not _is_loopback(host):
            raise _impossible(f"'keys' unless serving.host is loopback (it is {host!r})")
        return auth


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class LedgerConfig(Section):
    """The database of decisions."""

    url: str = Field(default="sqlite:///var/ledger.db", repr=False)

    @field_validator("url")
    @classmethod
    def _sqlite_or_postgres(cls, url: str) -> str:
        if not re.match(r"(sqlite|postgresql)(\+\w+)?://", url):
            raise _impossible("sqlite:///FILE or postgresql+psycopg://…")
        return url if url.startswith("sqlite") else _readable_address(url)
