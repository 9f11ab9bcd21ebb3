"""Break curves hold the numbers they were given."""

import numpy as np

from toymoe.defences import plots
from toymoe.pages import style


def test_break_curves_are_the_points_given():
    curves = {"tuned": {"none": [(0, 1.0), (1, 0.3)], "expert_dropout": [(0, 1.0), (1, 0.8)]}}
    figure = plots.break_counts(curves)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["expert dropout"].get_ydata(), [1.0, 0.8])
    assert style.png(figure)[:4] == b"\x89PNG"


def test_a_defence_looks_the_same_in_every_panel():
    line = [(0, 1.0), (1, 0.3)]
    curves = {"tuned": dict.fromkeys(("none", "spread", "detector"), line)}
    curves["tuned_free"] = dict.fromkeys(("none", "detector"), line)
    looks = [
        {line.get_label(): (line.get_color(), line.get_marker()) for line in axes.lines[:-1]}
        for axes in plots.break_counts(curves).axes
    ]
    assert looks[1]["detector"] == looks[0]["detector"] != looks[0]["spread"]
