"""Pictures of the report have room for what stands in them."""

from types import SimpleNamespace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from edgepact.live.charts import latency
from edgepact.pacts.partition_priced import Findings


@pytest.mark.parametrize("count", [1, 5])
def test_the_legend_of_the_times_is_whole_and_leaves_the_bars_their_place(count: int) -> None:
    seconds = {"device_s": 0.1, "link_s": 0.01, "compute_s": 0.2, "wait_s": 0.02}
    devices = [SimpleNamespace(name=f"camera-{at}", **seconds) for at in range(count)]
    findings = Findings.__new__(Findings)  # of which this picture needs the devices alone
    object.__setattr__(findings, "devices", devices)
    figure = latency(findings)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    drawn = axes.get_legend().get_window_extent(canvas.get_renderer())
    assert 0 <= drawn.x0 < drawn.x1 <= figure.bbox.x1
    assert 0 <= drawn.y0 < drawn.y1 <= figure.bbox.y1
    bars = axes.get_window_extent()
    assert bars.width > 0.75 * figure.bbox.width
    assert bars.height > 0.2 * figure.bbox.height
