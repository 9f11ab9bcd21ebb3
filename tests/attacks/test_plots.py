"""The figures hold the numbers they were given, and the Pareto front is the front."""

import numpy as np
import pytest

from toymoe.attacks import plots
from toymoe.pages import style


def row(method, budget, refusal, jaccard, accuracy=0.9, answered=0.5):
    return {
        "method": method,
        "budget": budget,
        "refusal": refusal,
        "jaccard_worst": jaccard,
        "answer_accuracy": accuracy,
        "hazard_answered": answered,
    }


ROWS = [
    row("none", 0, 0.98, 1.0),
    row("raset", 2, 0.5, 0.99),
    row("raset", 8, 0.02, 0.95),
    row("random_experts", 8, 0.1, 0.5),
    row("steering_off_responses", 4, 0.9, 0.6),
    row("silenced", 3, 0.3, 0.7),
]


def slow_front(x, y):
    return {
        i
        for i in range(len(x))
        if not any(
            (x[j] >= x[i] and y[j] >= y[i] and (x[j] > x[i] or y[j] > y[i])) for j in range(len(x))
        )
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_beats(seed):
    x, y = np.random.default_rng(seed).permutation(40).reshape(2, 20) / 40
    found = plots.front(x, y)
    assert set(found.tolist()) == slow_front(x, y)
    assert (np.diff(x[found]) > 0).all() and (np.diff(y[found]) < 0).all()


def test_one_point_that_beats_all_is_the_whole_front():
    assert plots.front([0, 1, 0.5], [0, 1, 0.5]).tolist() == [1]


def test_the_pareto_picture_has_every_attack_and_the_front():
    figure = plots.pareto(ROWS)
    assert len(figure.axes) == 3
    axes = figure.axes[0]
    front = next(line for line in axes.lines if line.get_label() == "Pareto front")
    np.testing.assert_allclose(front.get_xdata(), [0.48, 0.96])
    np.testing.assert_allclose(front.get_ydata(), [0.99, 0.95])
    shown = np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets())])
    assert sorted(shown[:, 0].round(2)) == [0.08, 0.48, 0.68, 0.88, 0.96]


def test_every_method_of_the_plan_belongs_to_a_family():
    from toymoe.attacks import catalogue
    from toymoe.config import Config

    families = {arm.method: plots.family(arm.method) for arm in catalogue.plan(Config())}
    assert families.pop("none") is None and None not in families.values()
    assert set(families.values()) == set(plots.FAMILIES)


def test_families_differ_in_grey_too():
    markers = [marker for _, _, marker in plots.FAMILIES.values()]
    assert len(set(markers)) == len(markers)


def test_criteria_are_sorted_and_have_their_intervals():
    given = {
        "usage": dict(rho=0.2, low=-0.1, high=0.4),
        "ablation_zero": dict(rho=1.0, low=1.0, high=1.0),
        "random": dict(rho=-0.05, low=-0.3, high=0.2),
    }
    axes = plots.criteria(given).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["random", "usage", "ablation zero"]
    bars = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert bars[:3] == [(-0.3, 0.2), (-0.1, 0.4), (1.0, 1.0)]


def test_routes_keep_the_order_of_the_untouched_model():
    none = [[[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]]]
    moved = [[[0.9, 0.1, 0.0], [0.1, 0.8, 0.1]]]
    figure = plots.routes({"none": none, "raset": moved}, ["alps", "boat"])
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(images[0][0], [0.9, 0.1, 0.0])
    np.testing.assert_allclose(images[1][0], [0.1, 0.9, 0.0])


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
