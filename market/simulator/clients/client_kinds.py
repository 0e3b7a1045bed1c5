"""Kinds of clients of a venue: TOML files in ``books``, checked when read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from market.core.errors import ConfigError
from market.simulator.population import CoinCount, Leverage

_FOLDER = Path(__file__).with_name("books")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")

_Positive = Annotated[float, Meta(gt=0.0, le=1e12)]
_Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class EquityRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equity at opening in USD: uniform in its logarithm from `least` to `most`."""

    least: _Positive
    most: _Positive


class CoinCollateral(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Part of the equity that is held in a coin, one of `assets`, instead of cash."""

    share: _Share
    assets: Annotated[tuple[str, ...], Meta(min_length=1)]


class ClientKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of client.

    Attributes
    ----------
    name:
        First part of its account ids, as in ``maker-012``.
    share:
        Part of all accounts.
    equity, leverage, coins:
        What a book is worth and holds at opening.
    long_probability:
        Chance that a leg is long, each on its own.
    hedge:
        Part of each perpetual position that an opposite position in spot of the same coin offsets.
    thin:
        Whether it holds only the three coins of least turnover.
    collateral:
        What is held instead of cash; None: nothing.
    mean_days:
        Mean age of a book, exponential.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z]+$")]
    share: _Share
    equity: EquityRange
    leverage: Leverage
    coins: CoinCount
    long_probability: _Share
    mean_days: Annotated[float, Meta(gt=0.0, le=3_650.0)]
    hedge: _Share = 0.0
    thin: bool = False
    collateral: CoinCollateral | None = None


class ClientLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the venue closes an account: its leverage (gross notional over equity) reaches
    `close_out_leverage`, or stays at `call_leverage` or more for over `hours_to_cure` hours."""

    call_leverage: _Positive
    close_out_leverage: _Positive
    hours_to_cure: Annotated[int, Meta(ge=0, le=10_000)]


class ClientKinds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The clients of a venue: kinds whose shares add up to 1, and the limits that all obey."""

    name: str
    limits: ClientLimits
    kinds: Annotated[tuple[ClientKind, ...], Meta(min_length=1)]

    @classmethod
    def load(cls, name: str) -> ClientKinds:
        """Read a stored book by its name; raises `ConfigError` where it is unknown or malformed."""
        path = _FOLDER / f"{name}.toml"
        if not _NAME.fullmatch(name) or not path.is_file():
            known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.toml")))
            raise ConfigError(f"the clients {name!r} are not known; choose one of {known}")
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> ClientKinds:
        """Read and check a file of clients.

        Raises
        ------
        ConfigError
            The file is missing or no TOML, has an unknown or missing key, a figure is impossible,
            a name occurs twice, or the shares do not add up to 1.
        """
        try:
            clients = msgspec.convert(tomllib.loads(path.read_text("utf-8")), cls)
        except (OSError, ValueError, msgspec.ValidationError) as error:
            raise ConfigError(f"client file {path} cannot be used: {error}") from error
        names = [kind.name for kind in clients.kinds]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"client file {path} has kinds {', '.join(names)}; give each kind once"
            )
        total = sum(kind.share for kind in clients.kinds)
        if abs(total - 1.0) > 1e-9:
            raise ConfigError(f"client file {path}: the shares add up to {total:g}; expected 1")
        for kind in clients.kinds:
            ranges = {
                "equity": (kind.equity.least, kind.equity.most),
                "coins": (kind.coins.least, kind.coins.most),
                "leverage": (kind.leverage.least, kind.leverage.median, kind.leverage.most),
            }
            for key, values in ranges.items():
                if list(values) != sorted(values):
                    raise ConfigError(
                        f"client file {path}: {key} of {kind.name} has {values}; they must rise"
                    )
        return clients

    def counts(self, accounts: int) -> tuple[int, ...]:
        """Accounts of each kind, adding up to `accounts`: shares, the largest remainders up."""
        exact = [kind.share * accounts for kind in self.kinds]
        counts = [int(share) for share in exact]
        by_remainder = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
        for k in by_remainder[: accounts - sum(counts)]:
            counts[k] += 1
        return tuple(counts)
