"""The section ``[monitoring]``: the continuous evaluation of the live book.

As in `pipelines.config.sections`, a section is a frozen model that refuses invalid values.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.config.fields import OptionalPath, Section

Threshold = Annotated[float, Field(ge=0.0, le=1.0)]


class MonitoringConfig(Section):
    """When the live book is evaluated, besides each bar and each update of an account.

    ``enabled``: the endpoint runs a monitor. ``accounts``: folder of account files whose snapshots
    the monitor brings into the live book; empty: none. ``mark_threshold``: relative move of a mark
    from which on the rules are applied again; 0: every change of the market.
    ``distance_threshold``: change of an account's headroom over gross notional from which on the
    model is asked between bars. ``timer_seconds``: longest time between two passes by the rules.
    """

    enabled: bool = False
    accounts: OptionalPath = None
    mark_threshold: Threshold = 0.0
    distance_threshold: Threshold = 0.01
    timer_seconds: Annotated[float, Field(ge=0.1, le=86_400.0)] = 60.0
