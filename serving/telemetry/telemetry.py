"""What an endpoint is given to say things with: logs, metrics, traces."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serving.telemetry.connection_counts import ConnectionCounts
from serving.telemetry.logs.access_log import AccessLog
from serving.telemetry.logs.lines import LineWriter
from serving.telemetry.metrics.metrics import MetricsFolder
from serving.telemetry.tracing.spans import Tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Logs, metrics and traces of an endpoint; by default metrics of one process alone.

    Attributes
    ----------
    folder:
        Where several workers keep their metrics.
    writer:
        Writes the lines of the log; what it drops is counted.
    access_log:
        Writes a line for each request, if any.
    tracing:
        Makes spans, if any.
    heads:
        Folder of the files of the ledger's heads, if any.
    connections:
        Where the server counts its connections.
    """

    folder: MetricsFolder | None = None
    writer: LineWriter | None = None
    access_log: AccessLog | None = None
    tracing: Tracing | None = None
    heads: Path | None = None
    connections: ConnectionCounts = field(default_factory=ConnectionCounts)

    def folders(self, bundles: Path) -> dict[str, Path]:
        """Folders that the metrics look at, by name."""
        return {"bundles": bundles, **({} if self.heads is None else {"heads": self.heads})}
