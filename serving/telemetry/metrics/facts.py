"""What metrics say of the state of an endpoint: gauges that are read, not counted."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from math import nan

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from enforcement.delivery.outbox import SinkCounts


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """Market and model of an endpoint now.

    Attributes
    ----------
    model:
        SHA-256 of the bundle that answers; None without one.
    trained_until, loaded_at:
        Newest decision time that it learned from, and when this process loaded it, in seconds
        since 1970; NaN where unknown.
    market_age, quote_age:
        Decision time minus the newest bar's close, and minus that of the newest quote, in seconds;
        NaN before the first one.
    symbols, usable:
        Number of symbols, and of those that the model can score.
    suspects:
        Bars and quoted prices that wait for confirmation.
    """

    model: str | None
    trained_until: float
    loaded_at: float
    market_age: float
    quote_age: float
    symbols: int
    usable: int
    suspects: int


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """What lies on disk and in the ledger, looked at now and then.

    Attributes
    ----------
    ledger_bytes:
        Size of the ledger's database; NaN where it is unknown.
    disks:
        Free bytes and size of the file system of each folder.
    retrained_at:
        When the last retraining ended with a verdict, in seconds since 1970; NaN without one.
    verdict, drift:
        Of that retraining: on the model, and on the champion's data; empty where there is none.
    drift_checked_at, last_drift:
        When a retraining or a check last looked for drift of the champion's data, in seconds since
        1970, and its verdict; NaN and empty where none did.
    heads_at, heads_copied_at:
        When heads were last written, and last copied outside, in seconds since 1970; NaN without.
    outbox:
        Rows of the outbox of enforcement by sink.
    """

    ledger_bytes: float = nan
    disks: dict[str, tuple[float, float]] = field(default_factory=dict)
    retrained_at: float = nan
    verdict: str = ""
    drift: str = ""
    drift_checked_at: float = nan
    last_drift: str = ""
    heads_at: float = nan
    heads_copied_at: float = nan
    outbox: Mapping[str, SinkCounts] = field(default_factory=dict)


class FactsCollector(Collector):
    """Shows facts when the metrics are read; all workers know the same.

    Parameters
    ----------
    market, stored:
        Give what is known now; neither waits for the database.
    """

    def __init__(
        self, market: Callable[[], MarketFacts], stored: Callable[[], StoredFacts]
    ) -> None:
        self._market, self._stored = market, stored
        self._build = {"version": version("margincast"), "python": platform.python_version()}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        yield _labelled("margincast_build_info", "1 for what runs.", {_pairs(self._build): 1.0})
        market = self._market()
        yield _labelled(
            "margincast_model_info",
            "1 for the bundle that answers; no series without a model.",
            {} if market.model is None else {_pairs({"sha256": market.model}): 1.0},
        )
        yield _plain(
            "margincast_model_trained_until_seconds",
            "Newest decision time that the model learned from, as seconds since 1970.",
            market.trained_until,
        )
        yield _plain(
            "margincast_model_loaded_seconds",
            "When the model was loaded, as seconds since 1970.",
            market.loaded_at,
        )
        yield _plain(
            "margincast_market_age_seconds",
            "Decision time minus the newest bar's close; NaN before the first bar.",
            market.market_age,
        )
        yield _plain(
            "margincast_quote_age_seconds",
            "Decision time minus the time of the newest quote; NaN before the first quote.",
            market.quote_age,
        )
        yield _plain("margincast_symbols", "Symbols of the market.", market.symbols)
        yield _plain("margincast_symbols_usable", "Symbols the model can score now.", market.usable)
        yield _plain(
            "margincast_suspect_prices",
            "Bars and quoted prices that wait for confirmation now.",
            market.suspects,
        )
        stored = self._stored()
        yield _plain(
            "margincast_ledger_bytes", "Size of the ledger's database.", stored.ledger_bytes
        )
        yield _labelled(
            "margincast_disk_free_bytes",
            "Free space where a folder is.",
            {_pairs({"folder": name}): free for name, (free, _) in stored.disks.items()},
        )
        yield _labelled(
            "margincast_disk_bytes",
            "Size of the file system where a folder is.",
            {_pairs({"folder": name}): size for name, (_, size) in stored.disks.items()},
        )
        yield _plain(
            "margincast_last_retrain_seconds",
            "When the last retraining ended with a verdict, as seconds since 1970.",
            stored.retrained_at,
        )
        yield _plain(
            "margincast_last_drift_seconds",
            "When drift was last looked for, by a retraining or a check, as seconds since 1970.",
            stored.drift_checked_at,
        )
        yield _plain(
            "margincast_last_heads_seconds",
            "When the heads of the ledger were last written, as seconds since 1970.",
            stored.heads_at,
        )
        yield _plain(
            "margincast_last_heads_copy_seconds",
            "When they were last copied outside, as seconds since 1970.",
            stored.heads_copied_at,
        )
        yield _labelled(
            "margincast_last_retrain_info",
            "1 for the verdict of the last retraining and the drift that it found.",
            {_pairs({"verdict": stored.verdict, "drift": stored.drift or "unknown"}): 1.0}
            if stored.verdict
            else {},
        )
        yield _labelled(
            "margincast_last_drift_info",
            "1 for the newest verdict on drift of the champion's data.",
            {_pairs({"verdict": stored.last_drift}): 1.0} if stored.last_drift else {},
        )


_Labels = tuple[tuple[str, str], ...]


def _pairs(labels: dict[str, str]) -> _Labels:
    return tuple(labels.items())


def _plain(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, series: dict[_Labels, float]) -> GaugeMetricFamily:
    names = [label for label, _ in next(iter(series), ())]
    family = GaugeMetricFamily(name, text, labels=names)
    for labels, value in series.items():
        family.add_metric([text for _, text in labels], value)
    return family
