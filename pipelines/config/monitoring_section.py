"""The section ``[monitoring]``: the continuous evaluation of the live book.

As in `pipelines.config.sections`, a section is a frozen model that refuses invalid values.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.config.fields import OptionalPath, Section

Threshold = Annotated[float, Field(ge=0.0, le=1.0)]


class MonitoringConfig(Section):
    """When the live book is evaluated, besides each bar and each update of an account."""

    enabled: bool = False
    """The endpoint runs a monitor that evaluates the live book."""
    accounts: OptionalPath = None
    """Folder of account files whose snapshots the monitor brings into the live book; empty: none.
    """
    mark_threshold: Threshold = 0.0
    """Relative move of a mark from which on the rules are applied again; 0: any change."""
    distance_threshold: Threshold = 0.01
    """Change of headroom over gross notional from which on the model is asked between bars."""
    timer_seconds: Annotated[float, Field(ge=0.1, le=86_400.0)] = 60.0
    """Longest time between two passes by the rules."""
