"""The configuration: defaults, precedence, paths, and what is refused under which name."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from market.core.clock import HOUR, INTERVALS, SECOND, parse_time
from market.core.errors import ConfigError
from market.simulator.simulated_market import simulate_bars
from pipelines.config.config import Config, load_config
from pipelines.config.lightgbm_section import LightGBMConfig
from pipelines.config.search_section import SearchConfig
from pipelines.data.loaders import Market, read_label_rules
from pipelines.jobs.serve import serving_settings

ROOT = Path(__file__).resolve().parents[3]

DEFAULTS: dict[str, dict[str, Any]] = {
    "market": {
        "bars": (),
        "interval": "1h",
        "symbols": (),
        "start": "",
        "end": "",
        "mark_max_age": "",
        "funding": None,
        "open_interest": None,
        "implied_vol": {},
        "option_surface": {},
    },
    "simulate": {
        "seed": 1,
        "days": 180,
        "symbols": 8,
        "parameters": "binance-2022-2025",
        "halts": {},
        "speed": 0.0,
    },
    "accounts": {
        "source": "sampled",
        "path": None,
        "population": "reference-v1",
        "count": 2000,
        "seed": 7,
    },
    "rules": {"ruleset": "linear-tiers"},
    "training": {
        "horizons": (1, 8, 24),
        "fit_end": "",
        "calibrate_end": "",
        "test_end": "",
        "event": "call",
        "book": "static",
        "extremes": "close",
        "funding": False,
        "max_rows": 4_000_000,
        "ruleset": "",
        "lightgbm": LightGBMConfig().model_dump(),
        "search": SearchConfig().model_dump(),
    },
    "review": {
        "folds": 20,
        "walk_forward_months": 6,
        "walk_forward_rows": 40_000,
        "stress_folds": False,
        "ablation": True,
        "backtest": True,
    },
    "tracking": {
        "uri": "sqlite:///var/mlflow.db",
        "experiment": "margincast",
        "model": "margincast",
    },
    "serving": {
        "host": "127.0.0.1",
        "port": 8000,
        "bundles": Path("var/bundles"),
        "clock": "wall",
        "auth": "keys",
        "workers": 1,
        "replica": "",
        "step_quorum": 0.5,
        "step_grace": 60,
        "max_body_bytes": 0,
        "max_history_bytes": 0,
        "max_page": 0,
        "max_connections": 0,
        "max_pending_bytes": 0,
        "head_seconds": 10.0,
        "body_seconds": 30.0,
        "idle_seconds": 75.0,
        "write_seconds": 60.0,
        "call_seconds": 30.0,
        "what_if_calls": 1,
        "what_if_accounts": 0,
        "drain_seconds": 0.0,
        "stop_seconds": 60.0,
        "hosts": (),
        "origins": (),
        "tls_cert": None,
        "tls_key": None,
        "proxies": (),
        "rate_per_minute": 0,
        "metrics_auth": False,
        "jwt": {
            "jwks": None,
            "public_key": None,
            "issuer": "",
            "audience": "",
            "scope_claim": "scope",
            "leeway": 30,
        },
    },
    "monitoring": {
        "enabled": False,
        "accounts": None,
        "mark_threshold": 0.0,
        "distance_threshold": 0.01,
        "timer_seconds": 60.0,
    },
    "enforcement": {
        "enabled": False,
        "allow_hosts": (),
        "webhooks": (),
        "command": (),
        "command_events": (),
        "smtp": {
            "host": "",
            "port": 587,
            "encryption": "starttls",
            "user": "",
            "password_env": "",
            "sender": "",
            "recipients": (),
            "events": (),
        },
        "attempts": 20,
        "timeout_seconds": 10.0,
        "retry_seconds": 1.0,
        "retry_cap_seconds": 300.0,
        "concurrency": 4,
        "keep_days": 30.0,
    },
    "ledger": {
        "url": "sqlite:///var/ledger.db",
        "heads_dir": None,
        "heads_cron": "",
        "heads_command": (),
        "heads_attempts": 3,
        "heads_timeout": 60,
        "heads_public_keys": (),
        "answers_days": 30,
    },
    "policy": {
        "collateral_cost": 0.05,
        "call_cost": 0.0001,
        "uncovered_value": 1.0,
        "account_hours": 60_000,
    },
    "drift": {
        "recent_days": 56,
        "distribution": 0.1,
        "missing": 0.05,
        "ratio": 1.25,
        "slope": 0.1,
        "loss": 0.1,
        "level": 0.05,
        "permutations": 4999,
    },
    "reports": {
        "cron": "",
        "folder": Path("var/reports"),
        "kinds": (
            *("daily-margin", "calls", "coverage", "procyclicality", "concentration"),
            *("overrides", "change-events"),
        ),
        "formats": ("html",),
        "days": 250,
    },
    "schedule": {
        "cron": "0 3 * * *",
        "drift_cron": "",
        "timezone": "UTC",
        "jitter": 0,
        "misfire_grace": 21_600,
        "coalesce": True,
    },
    "notify": {
        "command": (),
        "webhook": "",
        "on": ("promoted", "kept", "refused", "failed", "drift"),
        "timeout": 10,
        "attempts": 3,
    },
    "logging": {"format": "text", "level": "info"},
    "tracing": {"enabled": False, "sample": 1.0},
}

Load = Callable[[str], Config]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MARGINCAST__")]:
        monkeypatch.delenv(name)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a configuration given as text, from a file in the test's folder."""

    def load_text(text: str) -> Config:
        file = tmp_path / "margincast.toml"
        file.write_text(text, encoding="utf-8")
        return load_config(file)

    return load_text


def problems(load: Load, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return str(caught.value).splitlines()


def test_defaults_are_those_of_the_documented_file() -> None:
    assert Config().model_dump() == DEFAULTS


def test_no_file_means_the_file_of_the_current_folder_else_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None).simulate.seed == 1
    (tmp_path / "margincast.toml").write_text("[simulate]\nseed = 5\n")
    assert load_config(None).simulate.seed == 5


def test_embedded_default_names_every_key_and_its_documented_deviations() -> None:
    text = (ROOT / "margincast.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    unnamed = {
        (section, key)
        for section, keys in DEFAULTS.items()
        for key in keys.keys() - tables[section]
    }
    config = load_config(ROOT / "margincast.toml")
    departs = {
        (section, key)
        for section in ("simulate", "accounts", "rules", "training", "serving", "market")
        for key, default in DEFAULTS[section].items()
        if key != "bundles" and getattr(config, section).model_dump()[key] != default
    }
    assert unnamed == {("accounts", "path")}
    assert departs == {
        ("simulate", "days"),
        ("simulate", "halts"),
        ("simulate", "speed"),
        ("training", "max_rows"),
        ("serving", "clock"),
        ("serving", "auth"),
    }


def test_environment_wins_over_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINCAST__SERVING__PORT", "9001")
    monkeypatch.setenv("MARGINCAST__MARKET__SYMBOLS", '["BTCUSDT", "ETHUSDT"]')
    monkeypatch.setenv("MARGINCAST__MARKET__START", "2025-01-01")
    monkeypatch.setenv("MARGINCAST__TRACKING__EXPERIMENT", "123")
    config = load("[serving]\nport = 9000\nclock = 'market'\n[market]\nsymbols = ['SOLUSDT']\n")
    assert config.serving.port == 9001
    assert config.serving.clock == "market"
    assert config.market.symbols == ("BTCUSDT", "ETHUSDT")
    assert config.market.start_ns == parse_time("2025-01-01")
    assert config.tracking.experiment == "123"


def test_environment_replaces_a_table_and_does_not_merge_into_it(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ETH.parquet").touch()
    text = "[market]\nimplied_vol = { BTC = 'absent.parquet' }\n"
    monkeypatch.setenv("MARGINCAST__MARKET__IMPLIED_VOL", '{"ETH": "ETH.parquet"}')
    assert load(text).market.implied_vol == {"ETH": tmp_path / "ETH.parquet"}
    monkeypatch.setenv("MARGINCAST__MARKET__IMPLIED_VOL", "{}")
    assert load(text).market.implied_vol == {}


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MARGINCAST__SERVING__PROT", "1", "serving.prot is not a key"),
        ("MARGINCAST__SERVICE__PORT", "1", "service is not a key"),
        ("MARGINCAST__PORT", "1", "port is not a key"),
        ("MARGINCAST__SERVING", '{"port": 1}', "serving is '{\"port\": 1}'"),
        ("MARGINCAST__MARKET__IMPLIED_VOL__BTC", "x", "market.implied_vol__btc is not a key"),
        ("MARGINCAST__MARKET__BARS", "bars", "market.bars is 'bars'"),
        ("MARGINCAST__SERVING__PORT", "80a", "serving.port is '80a'"),
    ],
)
def test_misspelt_or_impossible_variable_is_refused_and_named(
    load: Load, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    (line,) = problems(load, "")
    assert line.startswith(expected)
    assert variable in line or variable == "MARGINCAST__SERVICE__PORT"


@pytest.mark.parametrize(
    ("section", "entry", "key", "expected"),
    [
        ("market", "interval = '2h'", "market.interval is '2h'", "1m, 5m, 30m, 1h"),
        ("market", "symbols = ['BTCUSDT', 'BTCUSDT']", "market.symbols", "each symbol once"),
        ("market", "symbols = ['BTCUSDT-PERP']", "market.symbols", "bar symbols"),
        ("market", "start = 'soon'", "market.start is 'soon'", "ISO 8601"),
        ("market", "start = '2025-02-01'\nend = '2025-02-01'", "market.end", "later than"),
        ("market", "bars = [{ path = 'b', kind = 'future' }]", "market.bars[0].kind", "'spot'"),
        ("market", "bars = [{ kind = 'spot' }]", "market.bars[0].path is missing", "given"),
        ("market", "bars = [{ path = 'b', sort = 1 }]", "market.bars[0].sort", "path, kind"),
        ("market", "bars = 'b'", "market.bars is 'b'", "a list"),
        ("market", "bars = ['']", "market.bars[0].path is ''", "not empty"),
        ("market", "implied_vol = 'x'", "market.implied_vol is 'x'", "a table"),
        ("simulate", "seed = -1", "simulate.seed is -1", "greater than or equal to 0"),
        ("simulate", "days = 0", "simulate.days is 0", "greater than or equal to 1"),
        ("simulate", "symbols = true", "simulate.symbols is True", "whole number"),
        ("simulate", "speed = -1", "simulate.speed is -1", "greater than or equal to 0"),
        ("simulate", "speed = 1e4", "simulate.speed is 10000", "less than or equal to 3600"),
        ("simulate", "halts = { X = 0 }", "simulate.halts.X is 0", "greater than or equal to 1"),
        ("accounts", "count = 2.5", "accounts.count is 2.5", "whole number"),
        ("accounts", "count = '20'", "accounts.count is '20'", "whole number"),
        ("accounts", "source = 'files'", "accounts.path is None", "folder of the account files"),
        ("accounts", "path = 'x'", "accounts.path is 'x'", "left out"),
        ("rules", "ruleset = ''", "rules.ruleset is ''", "not empty"),
        ("training", "horizons = [0, 4]", "training.horizons is [0, 4]", "[1, 8, 24]"),
        ("training", "horizons = [1, 8761]", "training.horizons is [1, 8761]", "8760"),
        ("training", "horizons = [8, 1]", "training.horizons", "rising"),
        ("training", "horizons = [1, 1]", "training.horizons", "once"),
        ("training", "horizons = []", "training.horizons is []", "whole hours"),
        ("training", "book = 'live'", "training.book is 'live'", "'static' or 'as_traded'"),
        ("training", "extremes = 'wick'", "training.extremes", "'close', 'bound' or 'finest'"),
        ("training", "max_rows = 0", "training.max_rows is 0", "greater than or equal to 1"),
        ("training", "fit_end = '2025-01-01'", "training.test_end is ''", "all three, or none"),
        ("training", "test_end = '2025-01-01'", "training.test_end", "all three, or none"),
        ("tracking", "uri = 'mlruns'", "tracking.uri is 'mlruns'", "sqlite:///"),
        ("tracking", "model = 'a/b'", "tracking.model is 'a/b'", "without '/'"),
        ("tracking", "model = 'a:b'", "tracking.model is 'a:b'", "without '/'"),
        ("tracking", 'model = "a\'b"', "tracking.model", "quotation marks"),
        ("serving", "port = 65536", "serving.port is 65536", "65535"),
        ("serving", "port = 0", "serving.port is 0", "1"),
        ("serving", "clock = 'sun'", "serving.clock is 'sun'", "'wall' or 'market'"),
        ("serving", "auth = 'none'", "serving.auth is 'none'", "'keys' or 'off'"),
        ("serving", "step_quorum = 1.1", "serving.step_quorum is 1.1", "1"),
        ("serving", "step_grace = -1", "serving.step_grace is -1", "0"),
        ("serving", "workers = 0", "serving.workers is 0", "1"),
        ("serving", "workers = 1.5", "serving.workers is 1.5", "whole number"),
        ("serving", "replica = '1'", "serving.replica is '1'", "a-z"),
        ("serving", "replica = 'a-1'", "serving.replica is 'a-1'", "a-z"),
        ("serving", "portt = 1", "serving.portt is not a key", "host, port, bundles"),
        ("ledger", "url = 'var/ledger.db'", "ledger.url is 'var/ledger.db'", "sqlite:///FILE"),
        ("drift", "level = 1", "drift.level is 1", "less than 1"),
        ("drift", "ratio = 1", "drift.ratio is 1", "greater than 1"),
        ("drift", "ratio = inf", "drift.ratio is inf", "finite"),
        ("drift", "slope = inf", "drift.slope is inf", "finite"),
        ("drift", "loss = inf", "drift.loss is inf", "finite"),
        ("drift", "slope = 0", "drift.slope is 0", "greater than 0"),
        ("drift", "recent_days = 0", "drift.recent_days is 0", "greater than or equal to 1"),
        ("policy", "call_cost = -1", "policy.call_cost is -1", "greater than or equal to 0"),
        ("policy", "collateral_cost = inf", "policy.collateral_cost is inf", "finite"),
        ("drift", "permutations = 10", "drift.permutations is 10", "99"),
        ("schedule", "cron = '0 3 * *'", "schedule.cron is '0 3 * *'", "4 fields"),
        ("reports", "cron = '@daily'", "reports.cron is '@daily'", "cron line"),
        ("reports", "kinds = ['stress']", "reports.kinds[0] is 'stress'", "daily-margin"),
        ("schedule", "drift_cron = '@daily'", "schedule.drift_cron is '@daily'", "cron line"),
        ("schedule", "timezone = 'Mars'", "schedule.timezone is 'Mars'", "Europe/Zurich"),
        ("schedule", "timezone = '../x'", "schedule.timezone is '../x'", "time zone"),
        ("schedule", "misfire_grace = 0", "schedule.misfire_grace is 0", "1"),
        ("notify", "command = 'mail'", "notify.command is 'mail'", "a list"),
        ("notify", "command = ['']", "notify.command is ['']", "program"),
        ("notify", 'command = ["a", "b\\u0000"]', "notify.command", "null character"),
        ("notify", "webhook = 'https://example.com/a b'", "notify.webhook", "without blanks"),
        ("notify", "webhook = 'https://example.com/\xe9'", "notify.webhook", "ASCII"),
        ("notify", f"webhook = 'https://{'a' * 70}.com/'", "notify.webhook", "https://"),
        ("notify", "webhook = 'http://example.com/x'", "notify.webhook", "https://"),
        ("notify", "webhook = 'ftp://127.0.0.1/x'", "notify.webhook", "https://"),
        ("notify", "webhook = 'https://'", "notify.webhook", "https://"),
        ("notify", "webhook = 'https://u:p@example.com'", "notify.webhook", "user name"),
        ("notify", "webhook = 'https://example.com:port'", "notify.webhook", "https://"),
        ("notify", "on = ['kept', 'lost']", "notify.on[1] is 'lost'", "'promoted'"),
        ("notify", "timeout = 0", "notify.timeout is 0", "1"),
    ],
)
def test_impossible_value_is_refused_with_key_value_and_expectation(
    load: Load, section: str, entry: str, key: str, expected: str
) -> None:
    (line,) = problems(load, f"[{section}]\n{entry}\n")
    assert line.startswith(key)
    assert expected in line


def test_unknown_section_is_refused_even_an_option_of_pydantic(load: Load) -> None:
    lines = problems(load, "_cli_parse_args = true\n[servers]\nport = 1\n")
    assert [line.split(" is ")[0] for line in lines] == ["_cli_parse_args", "servers"]


def test_every_problem_has_its_line(load: Load) -> None:
    lines = problems(load, "[simulate]\nseed = 'a'\ndays = 0\n[serving]\nport = 1.5\n")
    assert [line.split(" is ")[0] for line in lines] == [
        "simulate.seed",
        "simulate.days",
        "serving.port",
    ]


@pytest.mark.parametrize(
    "ends",
    [
        ("2025-03-01", "2025-02-01", "2025-04-01"),
        ("2025-01-01", "2025-02-01", "2025-02-01"),
        ("2025-01-01", "2025-01-01T01:00:00+01:00", "2025-03-01"),
    ],
)
def test_split_ends_that_do_not_rise_are_refused(load: Load, ends: tuple[str, str, str]) -> None:
    fit, calibrate, test = ends
    text = f"[training]\nfit_end='{fit}'\ncalibrate_end='{calibrate}'\ntest_end='{test}'\n"
    (line,) = problems(load, text)
    assert line.startswith("training.test_end")


def test_times_are_nanoseconds_and_none_where_empty(load: Load) -> None:
    config = load(
        "[market]\nstart = 2025-01-01T00:00:00Z\nend = 2025-01-02\n"
        "[training]\nfit_end='2025-01-01T01:00:00+01:00'\n"
        "calibrate_end='2025-01-01T01:00'\ntest_end='2025-01-01T02:00'\n"
    )
    midnight = parse_time("2025-01-01")
    assert (config.market.start_ns, config.market.end_ns) == (midnight, midnight + 24 * HOUR)
    assert config.training.fit_end_ns == midnight
    assert config.training.calibrate_end_ns == midnight + HOUR
    assert config.training.test_end_ns == midnight + 2 * HOUR
    empty = Config()
    assert empty.market.start_ns is None
    assert empty.market.end_ns is None
    assert empty.training.fit_end_ns is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "127.0.0.1.org"])  # noqa: S104
def test_open_access_is_refused_off_loopback(load: Load, host: str) -> None:
    (line,) = problems(load, f"[serving]\nhost = '{host}'\nauth = 'off'\n")
    assert line.startswith("serving.auth is 'off'")
    assert host in line
    assert load(f"[serving]\nhost = '{host}'\n").serving.auth == "keys"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_open_access_is_granted_on_loopback(load: Load, host: str) -> None:
    assert load(f"[serving]\nhost = '{host}'\nauth = 'off'\n").serving.auth == "off"


def test_relative_paths_start_at_the_file_and_not_at_the_current_folder(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("spot", "perp", "funding", "book", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dvol.parquet").touch()
    (tmp_path / "own.toml").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(
        "[market]\nbars = ['spot', { path = 'perp', kind = 'perp' }]\nfunding = 'funding'\n"
        "implied_vol = { BTC = 'dvol.parquet' }\n[accounts]\nsource = 'book'\n"
        "[rules]\nruleset = 'own.toml'\n[serving]\nbundles = 'b'\n"
        "[simulate]\nparameters = 'own.toml'\n"
    )
    assert config.simulate.path == tmp_path / "own.toml"
    assert [(bars.path, bars.kind) for bars in config.market.bars] == [
        (tmp_path / "spot", "spot"),
        (tmp_path / "perp", "perp"),
    ]
    assert config.market.funding == tmp_path / "funding"
    assert config.market.implied_vol == {"BTC": tmp_path / "dvol.parquet"}
    assert (config.accounts.source, config.accounts.path) == ("files", tmp_path / "book")
    assert config.rules.path == tmp_path / "own.toml"
    assert config.serving.bundles == tmp_path / "b"
    assert config.tracking.uri == f"sqlite:///{tmp_path}/var/mlflow.db"
    assert config.ledger.url == f"sqlite:///{tmp_path}/var/ledger.db"


def test_addresses_that_are_not_relative_files_are_left_alone(load: Load) -> None:
    for url in ("sqlite:////srv/ledger.db", "sqlite:///:memory:", "postgresql+psycopg://db/risk"):
        assert load(f"[ledger]\nurl = '{url}'\n").ledger.url == url
    assert load("[rules]\nruleset = 'emir-ccp'\n").rules.ruleset == "emir-ccp"


def test_account_folder_means_the_same_both_ways(load: Load, tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    bare = load("[accounts]\nsource = 'book'\n")
    named = load("[accounts]\nsource = 'files'\npath = 'book'\n")
    assert bare.accounts == named.accounts
    assert named.accounts.path == tmp_path / "book"


def test_missing_folders_are_all_named(load: Load, tmp_path: Path) -> None:
    lines = problems(
        load,
        "[market]\nbars = ['b']\nfunding = 'f'\nopen_interest = 'o'\n"
        "implied_vol = { BTC = 'v' }\n"
        "[accounts]\nsource = 'sampeld'\n[rules]\nruleset = 'r.toml'\n"
        "[simulate]\nparameters = './m.toml'\n",
    )
    expected = {
        "market.bars[0]": "b",
        "market.funding": "f",
        "market.open_interest": "o",
        "market.implied_vol.BTC": "v",
        "accounts.source": "sampeld",
        "rules.ruleset": "r.toml",
        "simulate.parameters": "m.toml",
    }
    assert sorted(lines) == sorted(line for line in lines if "existing" in line)
    given = dict(line.split(" is ")[:2] for line in lines)
    assert {key: text.split(";")[0] for key, text in given.items()} == {
        key: repr(str(tmp_path / name)) for key, name in expected.items()
    }


def test_password_of_an_address_is_not_repeated(load: Load) -> None:
    (line,) = problems(load, "[ledger]\nurl = 'mysql://risk:hunter2@db/ledger'\n")
    assert "hunter2" not in line
    assert "mysql://risk:***@db" in line


SECRET = "hunter2"  # noqa: S105  the point of the tests is that it is not shown
UNUSABLE_ADDRESSES = {
    "tracking.uri": (
        f"postgres//risk:{SECRET}@db/mlflow",
        f"postgresql://risk:a@{SECRET}@db/mlflow",
        f"postgresql://risk:a {SECRET}@db/mlflow",
        f"postgresql://risk:a?{SECRET}@db/mlflow",
        f"https://risk:{SECRET}@host:port/",
        f"ftp://{SECRET}@host/",
        f"ftp://host/?token={SECRET}",
    ),
    "ledger.url": (
        f"mysql://risk:{SECRET}@db/ledger",
        f"postgresql://risk:a/{SECRET}@db:x/ledger",
        f"mysql://db/ledger?password={SECRET}",
    ),
    "notify.webhook": (
        f"http://hooks.example.com/services/{SECRET}",
        f"https://risk:{SECRET}@hooks.example.com/",
        f"https://risk@hooks.example.com/{SECRET}",
        f"https//hooks.example.com/{SECRET}",
        f"https://hooks.example.com/ {SECRET}",
        f"https://[hooks.example.com/{SECRET}",
        SECRET,
    ),
}


@pytest.mark.parametrize(
    ("key", "address"), [(key, a) for key, group in UNUSABLE_ADDRESSES.items() for a in group]
)
def test_secret_of_an_unusable_address_is_repeated_from_neither_file_nor_environment(
    load: Load, monkeypatch: pytest.MonkeyPatch, key: str, address: str
) -> None:
    section, name = key.split(".")
    (line,) = problems(load, f"[{section}]\n{name} = '{address}'\n")
    assert line.startswith(f"{key} is ")
    assert SECRET not in line
    monkeypatch.setenv(f"MARGINCAST__{section.upper()}__{name.upper()}", address)
    (line,) = problems(load, "")
    assert SECRET not in line
    monkeypatch.setenv(f"MARGINCAST__{section.upper()}", address)
    assert SECRET not in "".join(problems(load, ""))


def test_secret_under_a_misspelt_key_is_not_repeated(load: Load) -> None:
    for text in (
        f"[tracking]\nurl = 'postgresql://risk:{SECRET}@db/mlflow'\n",
        f"[ledger]\nuri = 'postgresql://db/ledger?password={SECRET}'\n",
        f"[notify]\nweb_hook = 'https://hooks.example.com/services/{SECRET}'\n",
    ):
        (line,) = problems(load, text)
        assert "is not a key" in line
        assert SECRET not in line


def test_repr_of_a_configuration_shows_no_address(load: Load) -> None:
    config = load(
        f"[tracking]\nuri = 'https://risk:{SECRET}@mlflow/'\n"
        f"[ledger]\nurl = 'postgresql+psycopg://risk:{SECRET}@db:5432/ledger'\n"
        f"[notify]\nwebhook = 'https://hooks.example.com/{SECRET}'\n"
    )
    assert SECRET in config.tracking.uri
    assert SECRET not in repr(config)


def test_limits_and_the_age_of_marks_reach_the_endpoint(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = serving_settings(load(""))
    assert (settings.max_body_bytes, settings.max_history_bytes) == (16 * 2**20, 64 * 2**10)
    assert (settings.max_page, settings.mark_max_age) == (500, None)
    text = (
        "[market]\nmark_max_age = '90s'\n"
        "[serving]\nmax_body_bytes = 1000\nmax_history_bytes = 100\nmax_page = 7\n"
    )
    settings = serving_settings(load(text))
    assert (settings.max_body_bytes, settings.max_history_bytes) == (1000, 100)
    assert (settings.max_page, settings.mark_max_age) == (7, 90 * SECOND)
    monkeypatch.setenv("MARGINCAST__SERVING__MAX_PAGE", "9")
    monkeypatch.setenv("MARGINCAST__MARKET__MARK_MAX_AGE", "2h")
    settings = serving_settings(load(text))
    assert (settings.max_page, settings.mark_max_age) == (9, 2 * HOUR)


@pytest.mark.parametrize(
    ("section", "key", "given"),
    [
        *(("market", "mark_max_age", f"'{d}'") for d in ("0h", "-1h", "1.5h", "2", "h", "2w", " ")),
        ("market", "mark_max_age", "'367d'"),
        ("market", "mark_max_age", "2"),
        *(
            ("serving", name, given)
            for name in ("max_body_bytes", "max_history_bytes", "max_page")
            for given in ("-1", "1.5", "true", "'many'", "10000000000")
        ),
    ],
)
def test_impossible_limit_is_refused_with_its_key(
    load: Load, section: str, key: str, given: str
) -> None:
    (line,) = problems(load, f"[{section}]\n{key} = {given}\n")
    assert line.startswith(f"{section}.{key} is ")


@pytest.mark.parametrize("time", ["'0001-01-01'", "0001-01-01", "'9999-12-31T00:00:00Z'"])
@pytest.mark.parametrize("key", ["market.start", "market.end", "training.fit_end"])
def test_time_out_of_range_is_refused_with_key_and_range(load: Load, key: str, time: str) -> None:
    section, name = key.split(".")
    lines = problems(load, f"[{section}]\n{name} = {time}\n")
    (line,) = [line for line in lines if line.startswith(f"{key} is ")]
    assert "from 1970-01-01T00:00:00Z to the end of 2261" in line


@pytest.mark.parametrize("content", [b"[market\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_file_that_is_not_toml_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml.*not TOML"):
        load_config(file)


def test_named_file_that_is_absent_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(path)


def test_configuration_is_immutable() -> None:
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.serving.port = 1
    with pytest.raises(ValueError, match="frozen"):
        config.serving = config.serving


def test_digest_follows_what_determines_training_and_nothing_else(load: Load) -> None:
    digest = load("").sha256()
    assert len(digest) == 64
    assert digest == load("[market]\nmark_max_age = '2h'\n").sha256(), "of quotes alone"
    assert digest == load("[serving]\nport = 81\n[ledger]\nurl = 'sqlite:///x.db'\n").sha256()
    for change in (
        "[market]\ninterval = '5m'\n",
        "[simulate]\nseed = 2\n",
        "[accounts]\ncount = 3\n",
        "[rules]\nruleset = 'emir-ccp'\n",
        "[training]\nmax_rows = 5\n",
    ):
        assert load(change).sha256() != digest


def test_digest_survives_a_move_of_the_project(tmp_path: Path) -> None:
    digests = set()
    for home in ("one", "two"):
        (tmp_path / home / "bars").mkdir(parents=True)
        file = tmp_path / home / "margincast.toml"
        file.write_text("[market]\nbars = ['bars']\n")
        digests.add(load_config(file).sha256())
    assert len(digests) == 1


@given(st.integers(-10, 70_000) | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_port_is_a_whole_number_in_range_or_refused_by_name(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARGINCAST__SERVING__PORT", json.dumps(value))
        if type(value) is int and 1 <= value <= 65_535:
            assert load_config(ROOT / "margincast.toml").serving.port == value
        else:
            with pytest.raises(ConfigError, match=r"^serving\.port is "):
                load_config(ROOT / "margincast.toml")


def test_labels_use_the_rules_in_force_or_those_of_training(load: Load) -> None:
    market = cast(
        Market,
        SimpleNamespace(history=SimpleNamespace(bars=simulate_bars(1, 1, 1, INTERVALS["1h"]))),
    )
    assert read_label_rules(load(""), market).name == "linear-tiers"
    own = "[rules]\nruleset = 'emir-ccp'\n[training]\nruleset = 'emir-tiers'\n"
    assert read_label_rules(load(own), market).name == "emir-tiers"
    portfolio = "[rules]\nruleset = 'derive-pmrm2'\n"
    assert read_label_rules(load(portfolio), market).name == "derive-pmrm2"
    with pytest.raises(ConfigError, match=r"training\.ruleset is .*no\.toml"):
        load("[training]\nruleset = 'no.toml'\n")
