"""Pictures of a training as PNG bytes, without pyplot and so without state between them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from market.core.errors import ModelError

MODEL = "margincast"

_MODEL_COLOUR, _OTHER_COLOUR, _LIMIT_COLOUR = "#1f5fa8", "#9aa5b1", "#d8dde3"
_POLICY_COLOURS = ("#d1495b", "#edae49", "#4f9d69", "#7d5ba6", "#8d6a4f", "#4c4c4c")
_ORACLE = "volatility_oracle"
_DPI = 100
_PANEL_INCHES = 4.2


def training_plots(
    evaluation: Mapping[str, Any], backtest: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """Every plot that the figures at hand allow, by name: `reliability`, `log_loss`, `frontier`.

    Parameters
    ----------
    evaluation:
        The object of ``evaluate --json`` with ``reliability`` in each horizon.
    backtest:
        The object of ``backtest --json``, or None.

    Raises
    ------
    ModelError
        There is nothing to draw in one of them.
    """
    plots = {
        "reliability": reliability_plot(evaluation),
        "log_loss": log_loss_plot(evaluation),
    }
    if backtest is not None:
        plots["frontier"] = frontier_plot(backtest)
    return plots


def reliability_plot(evaluation: Mapping[str, Any]) -> bytes:
    """Mean predicted against observed frequency of each bin, one panel a horizon, log-log.

    A bin without any event has no place on a logarithmic axis: it is a hollow triangle on the
    lower edge. A bin predicted at exactly 0 is left out.

    Parameters
    ----------
    evaluation:
        With ``["horizons"][h]["reliability"]`` = ``{"predicted", "observed", "count"}`` and,
        where the intervals are to be drawn, ``"low"`` and ``"high"``.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ModelError
        There is no horizon, or one without any bin to draw.

    References
    ----------
    Bröcker and Smith (2007), "Increasing the reliability of reliability diagrams".
    """
    figure, panels = _panels(evaluation, "Reliability of the forecast")
    for axes, (hours, horizon) in zip(panels, evaluation["horizons"].items(), strict=True):
        _draw_reliability(axes, hours, horizon["reliability"])
    panels[0].set_ylabel("observed frequency")
    return _png(figure)


def log_loss_plot(evaluation: Mapping[str, Any]) -> bytes:
    """Log loss of every model, one panel a horizon, the best model on top.

    Each panel has its own scale, for base rates differ tenfold between horizons. A model that a
    horizon lacks (null) has no bar; the volatility oracle is a limit and drawn paler.

    Parameters
    ----------
    evaluation:
        With ``["horizons"][h]["models"][name]["log_loss"]``, in nats.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ModelError
        There is no horizon, or one without models.
    """
    figure, panels = _panels(evaluation, "Log loss by model (lower is better)")
    for axes, (hours, horizon) in zip(panels, evaluation["horizons"].items(), strict=True):
        _draw_log_loss(axes, hours, horizon["models"])
    return _png(figure)


def frontier_plot(backtest: Mapping[str, Any]) -> bytes:
    """Shortfall of each policy against the margin it asks for, and the matched budget.

    Parameters
    ----------
    backtest:
        With ``["frontier"][policy]`` = ``[[average margin, shortfall], …]``, both in the
        settlement currency, and ``["budget"]``.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ModelError
        The frontier has no policy, or a policy's points are not pairs.
    """
    frontier = backtest["frontier"]
    if not frontier:
        raise ModelError("backtest has an empty frontier; run it with at least one policy")
    figure = _figure(1.6 * _PANEL_INCHES, _PANEL_INCHES)
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=_POLICY_COLOURS)
    for policy, given in frontier.items():
        points = np.asarray(given, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise ModelError(
                f"frontier of {policy!r} has shape {points.shape}; expected pairs of margin and "
                "shortfall"
            )
        margin, shortfall = points[np.argsort(points[:, 0], kind="stable")].T
        ours = policy == MODEL
        axes.plot(
            margin,
            shortfall,
            label=policy,
            marker="o",
            markersize=3,
            linewidth=2.4 if ours else 1.2,
            color=_MODEL_COLOUR if ours else None,
            zorder=3 if ours else 2,
        )
    if backtest.get("budget") is not None:
        axes.axvline(float(backtest["budget"]), color="black", linestyle=":", label="budget")
    axes.set_title("Shortfall against margin, by policy")
    axes.set_xlabel("average margin (settlement currency)")
    axes.set_ylabel("shortfall (settlement currency)")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    return _png(figure)


def _draw_reliability(axes: Axes, hours: str, reliability: Mapping[str, Any]) -> None:
    predicted, observed, count = (
        np.asarray(reliability[key], dtype=np.float64) for key in ("predicted", "observed", "count")
    )
    drawable = (predicted > 0.0) & (count > 0.0)
    if not drawable.any():
        raise ModelError(f"reliability of {hours} h has no bin to draw; evaluate it on more rows")
    hit = drawable & (observed > 0.0)
    missed = drawable & ~hit
    shown = np.concatenate([predicted[drawable], observed[hit]])
    low, high = 0.6 * float(shown.min()), min(1.0, 1.6 * float(shown.max()))

    axes.plot([low, high], [low, high], color="black", linewidth=0.8, linestyle="--")
    axes.plot(predicted[hit], observed[hit], marker="o", markersize=4, color=_MODEL_COLOUR)
    if "low" in reliability:
        lower, upper = (
            np.clip(np.asarray(reliability[key], dtype=np.float64)[drawable], low, high)
            for key in ("low", "high")
        )
        axes.vlines(predicted[drawable], lower, upper, color=_MODEL_COLOUR, linewidth=1.0)
    if missed.any():
        axes.plot(
            predicted[missed],
            np.full(int(missed.sum()), low),
            marker="v",
            linestyle="none",
            markerfacecolor="none",
            markeredgecolor=_MODEL_COLOUR,
            clip_on=False,
            label="no event observed",
        )
        axes.legend(fontsize=8)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_title(f"{hours} h")
    axes.set_xlabel("predicted probability")
    axes.grid(visible=True, alpha=0.3)


def _draw_log_loss(axes: Axes, hours: str, models: Mapping[str, Any]) -> None:
    losses = {name: figures["log_loss"] for name, figures in models.items() if figures}
    if not losses:
        raise ModelError(f"evaluation of {hours} h has no models; evaluate the bundle again")
    names = sorted(losses, key=lambda name: float(losses[name]), reverse=True)
    colours = {MODEL: _MODEL_COLOUR, _ORACLE: _LIMIT_COLOUR}
    bars = axes.barh(
        names,
        [float(losses[name]) for name in names],
        color=[colours.get(name, _OTHER_COLOUR) for name in names],
    )
    axes.bar_label(bars, fmt="%.4g", padding=2, fontsize=7)
    axes.margins(x=0.2)
    axes.tick_params(labelsize=8)
    axes.set_title(f"{hours} h")
    axes.set_xlabel("log loss (nats)")


def _panels(evaluation: Mapping[str, Any], title: str) -> tuple[Figure, list[Axes]]:
    """A figure with one panel a horizon."""
    number = len(evaluation["horizons"])
    if not number:
        raise ModelError("evaluation has no horizons; evaluate the bundle on some rows first")
    figure = _figure(number * _PANEL_INCHES, _PANEL_INCHES)
    figure.suptitle(title)
    panels: npt.NDArray[Any] = figure.subplots(1, number, squeeze=False)
    return figure, list(panels[0])


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # No software tag: the same figures give the same bytes under every patch of matplotlib.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
