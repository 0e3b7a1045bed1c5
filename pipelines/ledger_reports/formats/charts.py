"""Charts of a report, drawn by matplotlib as the charts of a training are."""

from __future__ import annotations

from matplotlib.axes import Axes

from pipelines.ledger_reports.formats.document import Chart
from training.reports.charts import BAD, BASELINE_COLOUR, GOOD, MODEL_COLOUR, Form, draw_figure

_COLOURS = (MODEL_COLOUR, BASELINE_COLOUR, GOOD, BAD)
_SIZE = (720, 280)
_MOST_LABELS = 9


def draw_chart(chart: Chart, form: Form) -> bytes:
    """A chart as SVG or PNG; the same chart gives the same bytes under one matplotlib."""

    def paint(axes: Axes) -> None:
        places = list(range(len(chart.labels)))
        width = 0.8 / max(1, len(chart.series))
        for k, (name, values) in enumerate(chart.series.items()):
            known = [float("nan") if value is None else value for value in values]
            colour = _COLOURS[k % len(_COLOURS)]
            if chart.bars:
                at = [place + width * (k + 0.5) - 0.4 for place in places]
                axes.bar(at, known, width, color=colour, label=name)
            else:
                marker = "o" if len(places) <= 40 else None
                axes.plot(places, known, color=colour, marker=marker, markersize=4, label=name)
        step = max(1, -(-len(places) // _MOST_LABELS))
        axes.set_xticks(places[::step], [chart.labels[i] for i in places[::step]], fontsize=9)
        axes.margins(x=0.02)
        if len(chart.series) > 1:
            axes.legend(loc="best")

    return draw_figure(chart.title, _SIZE, paint, form)
