"""The configuration: ``margincast.toml``, with the environment over it.

A variable ``MARGINCAST__SECTION__KEY`` replaces that key of the file; lists, tables and numbers
are written there as JSON, texts as they are. Relative paths, from either, start at the folder of
the file. The keys themselves stand in `pipelines.config.sections`.

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
from pipelines.config.job_sections import DriftConfig, NotifyConfig, ScheduleConfig
from pipelines.config.sections import (
    AccountsConfig,
    BarsConfig,
    LedgerConfig,
    MarketConfig,
    ReviewConfig,
    RulesConfig,
    ServingConfig,
    SimulateConfig,
    TrackingConfig,
    TrainingConfig,
)

DEFAULT_FILE = Path("margincast.toml")

_PREFIX = "MARGINCAST__"
_SQLITE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)(.+)")
_ADDRESSES: Mapping[str, Callable[[str], str]] = {
    "tracking": display_address,
    "ledger": display_address,
    "notify": display_host,
}
"""Sections with an address that can hold a secret, and what of it is shown."""

_PLAIN_NAMES = {
    "tuple_type": "a list (as JSON in the environment)",
    "model_type": "a table",
    "dict_type": "a table (as JSON in the environment)",
    "string_type": "a text",
    "path_type": "a path",
    "int_type": "a whole number",
}


class _FileAndEnvironment(PydanticBaseSettingsSource):
    """The tables of the file, with each key that the environment names in its place.

    One source and not two: pydantic-settings would merge two tables under one key, and a table
    of the file could then not be emptied from outside.
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
                    tables[section] = text  # a section is no key: refused as not a table
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
        except ValueError:
            return text  # the field's own check names the key and says what it should be


class Config(BaseSettings):
    """The whole configuration; `load_config` makes one from a file and the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=True)

    market: MarketConfig = MarketConfig()
    simulate: SimulateConfig = SimulateConfig()
    accounts: AccountsConfig = AccountsConfig()
    rules: RulesConfig = RulesConfig()
    training: TrainingConfig = TrainingConfig()
    review: ReviewConfig = ReviewConfig()
    tracking: TrackingConfig = TrackingConfig()
    serving: ServingConfig = ServingConfig()
    ledger: LedgerConfig = LedgerConfig()
    drift: DriftConfig = DriftConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    notify: NotifyConfig = NotifyConfig()

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
        """Keyword arguments (the file's tables) with the environment over them; nothing else."""
        return (_FileAndEnvironment(settings_cls, init_settings),)

    def sha256(self) -> str:
        """SHA-256 of the sections that determine a training run, as hexadecimal text.

        These are market, simulate, accounts, rules and training. Paths enter relative to the
        configuration file, so a project that moves as a whole keeps its digest. The content of
        the files is not read: data and rule set have digests of their own.
        """
        relative = _map_paths(self, lambda path: Path(os.path.relpath(path, self._folder)))
        sections = {"market", "simulate", "accounts", "rules", "training"}
        content = relative.model_dump(mode="json", include=sections)
        del content["market"]["mark_max_age"]  # of quotes, which no training reads
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_config(path: Path | None = None) -> Config:
    """Read the configuration, check it whole, and make its paths absolute.

    Parameters
    ----------
    path:
        The TOML file; None means ``margincast.toml`` in the current folder, or the defaults
        where there is none.

    Raises
    ------
    ConfigError
        The file cannot be read, a key is unknown, a value impossible or a folder missing: one
        line a problem, with the key's dotted name, what was given and what was expected.
    """
    file = DEFAULT_FILE if path is None else path
    tables = {} if path is None and not file.exists() else _read(file)
    # Before the call below, where a name like _env_file would be an instruction to pydantic.
    _refuse(_unknown_key((name,), tables[name]) for name in tables.keys() - Config.model_fields)
    try:
        config = Config(**tables)
    except ValidationError as error:
        raise ConfigError("\n".join(map(_problem, error.errors(include_url=False)))) from None
    folder = file.absolute().parent
    config = _map_paths(config, folder.joinpath)
    config._folder = folder
    _refuse(_missing(config))
    return config


def _refuse(problems: Iterable[str]) -> None:
    lines = sorted(problems)
    if lines:
        raise ConfigError("\n".join(lines))


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"configuration file {str(file)!r} cannot be read ({error.strerror}); "
            "give an existing TOML file"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"configuration file {str(file)!r} is not TOML ({error}); correct it there"
        ) from None


def _map_paths(config: Config, place: Callable[[Path], Path]) -> Config:
    """A copy of the configuration with every path put through `place`."""

    def placed(path: Path | None) -> Path | None:
        return place(path) if path else None

    def address(url: str) -> str:
        file = _SQLITE_FILE.fullmatch(url)
        return f"{file[1]}{place(Path(file[2]))}" if file else url

    changes: dict[str, dict[str, object]] = {
        "market": {
            "bars": tuple(
                bars.model_copy(update={"path": place(bars.path)}) for bars in config.market.bars
            ),
            "funding": placed(config.market.funding),
            "open_interest": placed(config.market.open_interest),
            "implied_vol": {
                asset: place(path) for asset, path in config.market.implied_vol.items()
            },
            "option_surface": {
                asset: place(path) for asset, path in config.market.option_surface.items()
            },
        },
        "simulate": {"parameters": str(placed(config.simulate.path) or config.simulate.parameters)},
        "accounts": {"path": placed(config.accounts.path)},
        "rules": {"ruleset": str(placed(config.rules.path) or config.rules.ruleset)},
        "training": {"ruleset": str(placed(config.training.path) or config.training.ruleset)},
        "tracking": {"uri": address(config.tracking.uri)},
        "serving": {"bundles": place(config.serving.bundles)},
        "ledger": {"url": address(config.ledger.url)},
    }
    sections = {
        name: getattr(config, name).model_copy(update=update) for name, update in changes.items()
    }
    return config.model_copy(update=sections)


def _missing(config: Config) -> Iterator[str]:
    """One line for each input folder or file that does not exist."""
    market, accounts, rules = config.market, config.accounts, config.rules
    parameters = config.simulate.path
    for index, bars in enumerate(market.bars):
        if not bars.path.is_dir():
            yield _wrong(f"market.bars[{index}]", bars.path, "an existing folder of bars")
    if market.funding and not market.funding.is_dir():
        yield _wrong("market.funding", market.funding, "an existing folder of funding rates")
    if market.open_interest and not market.open_interest.is_dir():
        yield _wrong("market.open_interest", market.open_interest, "an existing folder")
    for key in ("implied_vol", "option_surface"):
        for asset, path in getattr(market, key).items():
            if not path.is_file():
                yield _wrong(f"market.{key}.{asset}", path, "an existing parquet file")
    if parameters and not parameters.is_file():
        yield _wrong(
            "simulate.parameters", parameters, "a stored market's name or an existing file"
        )
    if accounts.path and not accounts.path.is_dir():
        yield _wrong("accounts.source", accounts.path, '"sampled" or an existing folder')
    if rules.path and not rules.path.exists():
        yield _wrong(
            "rules.ruleset", rules.path, "a rule set's name, an existing file or a folder of them"
        )
    labels = config.training.path
    if labels and not labels.exists():
        yield _wrong(
            "training.ruleset", labels, "a rule set's name, an existing file or a folder of them"
        )


def _wrong(key: str, value: object, expected: str) -> str:
    return _line(f"{key} is {_shown(key, value)}{_origin(key)}; it should be {expected}")


def _unknown_key(location: tuple[str | int, ...], value: object) -> str:
    section, *inner = location
    beside: type[BaseModel] = Config
    if inner:
        beside = type(Config.model_fields[str(section)].default)
    if len(inner) > 1:
        beside = BarsConfig  # the only table inside a section that has keys of its own
    key = _dotted(location)
    known = ", ".join(beside.model_fields)
    return _line(
        f"{key} is not a key{_origin(key)}, given {_shown(key, value)}; known here: {known}"
    )


def _problem(error: ErrorDetails) -> str:
    """One line for one complaint of pydantic."""
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
    """What was given for a key, on no account a secret."""
    section, _, name = key.partition(".")
    if not isinstance(value, str) or not value or section not in _ADDRESSES:
        return repr(str(value) if isinstance(value, Path) else value)
    if "://" in value or "@" in value or name in ("uri", "url", "webhook", ""):
        return repr(_ADDRESSES[section](value))
    return repr(value)


def _origin(key: str) -> str:
    variable = _PREFIX + key.partition("[")[0].upper().replace(".", "__")
    return f" (set by {variable})" if variable in os.environ else ""


def _line(text: str) -> str:
    """The text on one line, without the credentials of an address inside it."""
    return redact(text.replace("\n", " "))
