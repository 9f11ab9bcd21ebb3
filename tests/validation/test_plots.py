"""The figure of a validation holds the numbers it was given."""

import numpy as np

from toymoe.pages import style
from toymoe.validation import plots


def test_validation_lists_the_best_first_and_leaves_gaps():
    def rate(value, n=10):
        return {"rate": value, "low": 0.0, "high": 1.0, "n": n}

    none = {"rate": None, "low": None, "high": None, "n": 0}
    nothing = dict.fromkeys(("median", "low", "high"))
    rows = [
        {
            "method": f"method_{i}",
            "hit": rate(1 - i / 10),
            "found": rate(0.5),
            "alarms": none if i == 1 else rate(i / 10),
            "correlation": nothing if i == 2 else dict(median=0.3, low=0.1, high=0.4),
        }
        for i in range(3)
    ]
    figure = plots.validation({"methods": rows})
    style.png(figure, dpi=40)  # a warning on the way is an error
    left, right = figure.axes
    names = dict(
        zip(left.get_yticks(), (x.get_text() for x in left.get_yticklabels()), strict=True)
    )
    assert names == {2: "method 0", 1: "method 1", 0: "method 2"}
    hit, _, alarms = (bars.lines[0] for bars in left.containers)
    np.testing.assert_allclose(hit.get_xdata(), [1, 0.9, 0.8])
    np.testing.assert_allclose(alarms.get_xdata(), [0, 0.2])
    assert len({bars.lines[0].get_marker() for bars in left.containers}) == 3
    assert right.containers[0].lines[0].get_ydata().tolist() == [2, 1]
    assert figure.get_suptitle() == plots.TITLE
