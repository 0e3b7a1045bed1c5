"""The configuration: ``margincast.toml``, overridden by the environment.

A variable ``MARGINCAST__SECTION__KEY`` replaces that key of the file; its lists, tables and
numbers are JSON, its texts plain. All relative paths start at the folder of the file. The keys are
defined in `pipelines.config.sections`.

References: TOML 1.0; pydantic-settings, "Customise settings sources".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from market.core.errors import ConfigError
from market.core.redaction import display_address, display_host, redact
from pipelines.config.access_section import JwtConfig
from pipelines.config.enforcement_section import EnforcementConfig, SmtpConfig, WebhookConfig
from pipelines.config.job_sections import (
    DriftConfig,
    NotifyConfig,
    PolicyConfig,
    ReportsConfig,
    ScheduleConfig,
)
from pipelines.config.ledger_section import LedgerConfig
from pipelines.config.lightgbm_section import LightGBMConfig
from pipelines.config.monitoring_section import MonitoringConfig
from pipelines.config.search_section import SearchConfig, SpaceConfig, SpacesConfig
from pipelines.config.sections import (
    AccountsConfig,
    BarsConfig,
    MarketConfig,
    ReviewConfig,
    RulesConfig,
    ServingConfig,
    SimulateConfig,
    TrackingConfig,
    TrainingConfig,
)
from pipelines.config.telemetry_sections import LoggingConfig, TracingConfig

DEFAULT_FILE = Path("margincast.toml")

_MAX_BYTES = 2**20
_MAX_DEPTH = 16
_MAX_SHOWN = 200
"""Longer values are cut where a message shows them."""

_PREFIX = "MARGINCAST__"
_SQLITE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)(.+)")
_ADDRESSES: Mapping[str, Callable[[str], str]] = {
    "tracking": display_address,
    "ledger": display_address,
    "notify": display_host,
    "enforcement": display_host,
}
"""Sections with an address that can contain a secret, and the function that redacts it."""

_INNER_TABLES: Mapping[str, type[BaseModel]] = {
    "bars": BarsConfig,
    "lightgbm": LightGBMConfig,
    "search": SearchConfig,
    "spaces": SpacesConfig,
    "jwt": JwtConfig,
    "webhooks": WebhookConfig,
    "smtp": SmtpConfig,
}
"""Tables and lists of tables inside sections, by their key."""

_PLAIN_NAMES = {
    "tuple_type": "a list (as JSON in the environment)",
    "model_type": "a table",
    "dict_type": "a table (as JSON in the environment)",
    "string_type": "a text",
    "path_type": "a path",
    "int_type": "a whole number",
}


class _FileAndEnvironment(PydanticBaseSettingsSource):
    """The tables of the file with the keys of the environment in their place.

    With two sources pydantic-settings would merge tables under one key, and the environment could
    not empty a table of the file.
    """

    def __init__(self, settings: type[BaseSettings], file: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        self._file = file

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        tables = {
            name: dict(table) if isinstance(table, Mapping) else table
            for name, table in self._file().items()
        }
        for variable, text in os.environ.items():
            if variable.startswith(_PREFIX):
                section, _, key = variable.removeprefix(_PREFIX).lower().partition("__")
                if not key:
                    tables[section] = text  # refused later: not a table
                elif isinstance(table := tables.setdefault(section, {}), dict):
                    table[key] = self._decoded(section, key, text)
        return tables

    def _decoded(self, section: str, key: str, text: str) -> Any:
        field = self.settings_cls.model_fields.get(section)
        default = getattr(field.default, key, None) if field else None
        if default is None or isinstance(default, str | Path):
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text  # refused by the check of the field, which names the key


class Config(BaseSettings):
    """The whole configuration; `load_config` reads it from a file and the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=True)

    market: MarketConfig = MarketConfig()
    simulate: SimulateConfig = SimulateConfig()
    accounts: AccountsConfig = AccountsConfig()
    rules: RulesConfig = RulesConfig()
    training: TrainingConfig = TrainingConfig()
    review: ReviewConfig = ReviewConfig()
    tracking: TrackingConfig = TrackingConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    enforcement: EnforcementConfig = EnforcementConfig()
    ledger: LedgerConfig = LedgerConfig()
    drift: DriftConfig = DriftConfig()
    policy: PolicyConfig = PolicyConfig()
    reports: ReportsConfig = ReportsConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    notify: NotifyConfig = NotifyConfig()
    logging: LoggingConfig = LoggingConfig()
    tracing: TracingConfig = TracingConfig()

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keyword arguments (the tables of the file), overridden by the environment."""
        return (_FileAndEnvironment(settings_cls, init_settings),)

    def sha256(self) -> str:
        """SHA-256 of the sections that determine a training run, as hexadecimal text.

        These are market, simulate, accounts, rules and training. Paths are relative to the
        configuration file, so the digest does not depend on the folder of a project. Data and
        rule set have their own digests; their files are not read.
        """
        relative = _map_paths(self, lambda path: Path(os.path.relpath(path, self._folder)))
        sections = {"market", "simulate", "accounts", "rules", "training"}
        content = relative.model_dump(mode="json", include=sections)
        del content["market"]["mark_max_age"]  # of quotes, which no training reads
        if self.training.lightgbm == LightGBMConfig():  # as before it could be configured
            del content["training"]["lightgbm"]
        if not self.training.search.enabled:
            del content["training"]["search"]
        del content["simulate"]["speed"]  # of what comes after the training data
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_config(path: Path | None = None) -> Config:
    """Read the configuration, check it whole, and make its paths absolute.

    Parameters
    ----------
    path:
        The TOML file; None means ``margincast.toml`` in the current folder, or the defaults if
        there is none.

    Raises
    ------
    ConfigError
        The file cannot be read, a key is unknown, a value invalid or a folder missing: one line a
        problem, with the dotted key, the given value and what is expected.
    """
    file = DEFAULT_FILE if path is None else path
    tables = {} if path is None and not file.exists() else _read(file)
    # Before the call below, which would take a name like _env_file as an option of pydantic.
    _refuse(_unknown_key((name,), tables[name]) for name in tables.keys() - Config.model_fields)
    try:
        config = Config(**tables)
    except ValidationError as error:
        raise ConfigError("\n".join(map(_problem, error.errors(include_url=False)))) from None
    folder = file.absolute().parent
    config = _map_paths(config, folder.joinpath)
    config._folder = folder
    _refuse(_missing(config))
    _refuse(_inconsistent(config))
    return config


def _refuse(problems: Iterable[str]) -> None:
    lines = sorted(problems)
    if lines:
        raise ConfigError("\n".join(lines))


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(
                f"configuration file {str(file)!r} has over {_MAX_BYTES} bytes; give a TOML file"
            )
        tables = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(
            f"configuration file {str(file)!r} cannot be read ({error.strerror}); "
            "give an existing TOML file"
        ) from None
    except RecursionError:
        raise ConfigError(
            f"configuration file {str(file)!r} is nested too deeply; correct it there"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"configuration file {str(file)!r} is not TOML ({error}); correct it there"
        ) from None
    _refuse(_impossible(tables, ()))
    return tables


def _impossible(value: object, location: tuple[str | int, ...]) -> Iterator[str]:
    """One line for each text with a null character and each table that is nested too deeply."""
    if isinstance(value, str) and "\0" in value:
        yield _line(f"{_dotted(location)} holds a null character; leave it out")
    elif isinstance(value, Mapping | list):
        if len(location) >= _MAX_DEPTH:
            yield _line(f"{_dotted(location)} is nested too deeply; no key needs that")
            return
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _impossible(inner, (*location, key))


def _map_paths(config: Config, convert: Callable[[Path], Path]) -> Config:
    """A copy of the configuration with every path converted."""

    def optional(path: Path | None) -> Path | None:
        return convert(path) if path else None

    def name_or_path(section: SimulateConfig | RulesConfig | TrainingConfig, name: str) -> str:
        return str(optional(section.path) or name)

    def each(paths: Mapping[str, Path]) -> dict[str, Path]:
        return {asset: convert(path) for asset, path in paths.items()}

    def address(url: str) -> str:
        file = _SQLITE_FILE.fullmatch(url)
        return f"{file[1]}{convert(Path(file[2]))}" if file else url

    market = config.market
    changes: dict[str, dict[str, object]] = {
        "market": {
            "bars": tuple(
                bars.model_copy(update={"path": convert(bars.path)}) for bars in market.bars
            ),
            "funding": optional(market.funding),
            "open_interest": optional(market.open_interest),
            "implied_vol": each(market.implied_vol),
            "option_surface": each(market.option_surface),
        },
        "simulate": {"parameters": name_or_path(config.simulate, config.simulate.parameters)},
        "accounts": {"path": optional(config.accounts.path)},
        "reports": {"folder": convert(config.reports.folder)},
        "rules": {"ruleset": name_or_path(config.rules, config.rules.ruleset)},
        "training": {"ruleset": name_or_path(config.training, config.training.ruleset)},
        "tracking": {"uri": address(config.tracking.uri)},
        "serving": {
            "bundles": convert(config.serving.bundles),
            "tls_cert": optional(config.serving.tls_cert),
            "tls_key": optional(config.serving.tls_key),
            "jwt": config.serving.jwt.model_copy(
                update={
                    "jwks": optional(config.serving.jwt.jwks),
                    "public_key": optional(config.serving.jwt.public_key),
                }
            ),
        },
        "monitoring": {"accounts": optional(config.monitoring.accounts)},
        "ledger": {
            "url": address(config.ledger.url),
            "heads_dir": optional(config.ledger.heads_dir),
        },
    }
    sections = {
        name: getattr(config, name).model_copy(update=update) for name, update in changes.items()
    }
    return config.model_copy(update=sections)


def _missing(config: Config) -> Iterator[str]:
    """One line for each input folder or file that does not exist."""
    market, ruleset = config.market, "a rule set's name, an existing file or a folder of them"
    inputs: list[tuple[str, Path | None, Callable[[Path], bool], str]] = [
        *(
            (f"market.bars[{index}]", bars.path, Path.is_dir, "an existing folder of bars")
            for index, bars in enumerate(market.bars)
        ),
        ("market.funding", market.funding, Path.is_dir, "an existing folder of funding rates"),
        ("market.open_interest", market.open_interest, Path.is_dir, "an existing folder"),
        *(
            (f"market.{key}.{asset}", path, Path.is_file, "an existing parquet file")
            for key in ("implied_vol", "option_surface")
            for asset, path in getattr(market, key).items()
        ),
        (
            *("simulate.parameters", config.simulate.path, Path.is_file),
            "a stored market's name or an existing file",
        ),
        ("accounts.source", config.accounts.path, Path.is_dir, '"sampled" or an existing folder'),
        ("monitoring.accounts", config.monitoring.accounts, Path.is_dir, "an existing folder"),
        ("rules.ruleset", config.rules.path, Path.exists, ruleset),
        ("training.ruleset", config.training.path, Path.exists, ruleset),
    ]
    for key, path, exists, expected in inputs:
        if path and not exists(path):
            yield _wrong(key, path, expected)


def _inconsistent(config: Config) -> Iterator[str]:
    """One line for each key that does not go with one of another section."""
    if config.enforcement.enabled and not config.monitoring.enabled:
        yield _wrong("enforcement.enabled", True, "false, or [monitoring] enabled be true as well")


def _wrong(key: str, value: object, expected: str) -> str:
    return _line(f"{key} is {_shown(key, value)}{_origin(key)}; it should be {expected}")


def _unknown_key(location: tuple[str | int, ...], value: object) -> str:
    section, *inner = location
    table: type[BaseModel] = Config
    if inner:
        table = type(Config.model_fields[str(section)].default)
    if len(inner) > 1:  # the tables with keys inside a section
        names = [name for name in inner[:-1] if isinstance(name, str)]
        table = _INNER_TABLES.get(names[-1], SpaceConfig)
    key = _dotted(location)
    known = ", ".join(table.model_fields)
    return _line(
        f"{key} is not a key{_origin(key)}, given {_shown(key, value)}; known here: {known}"
    )


def _problem(error: ErrorDetails) -> str:
    """An error of pydantic as one line."""
    kind, location = error["type"], error["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(location, error["input"])
    if kind == "missing":
        return _line(f"{_dotted(location)} is missing; it should be given")
    expected = _PLAIN_NAMES.get(kind) or error["msg"].removeprefix("Input should be ")
    return _wrong(_dotted(location), error["input"], expected)


def _dotted(location: tuple[str | int, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _shown(key: str, value: object) -> str:
    """The value of a key, without secrets."""
    shown = _whole(key, value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"


def _whole(key: str, value: object) -> str:
    section, _, name = key.partition(".")
    if section in _ADDRESSES and isinstance(value, Mapping):
        parts = [f"{name}: {_whole(f'{key}.{name}', inner)}" for name, inner in value.items()]
        return f"{{{', '.join(parts)}}}"
    if section in _ADDRESSES and isinstance(value, list):
        return f"[{', '.join(_whole(key, one) for one in value)}]"
    if not isinstance(value, str) or not value or section not in _ADDRESSES:
        return repr(str(value) if isinstance(value, Path) else value)
    if "://" in value or "@" in value or name.rpartition(".")[2] in ("uri", "url", "webhook", ""):
        return repr(_ADDRESSES[section](value))
    return repr(value)


def _origin(key: str) -> str:
    variable = _PREFIX + key.partition("[")[0].upper().replace(".", "__")
    return f" (set by {variable})" if variable in os.environ else ""


def _line(text: str) -> str:
    """A text on one line, without the credentials of addresses."""
    return redact(" ".join(text.splitlines()))
