"""The figures hold the numbers they were given, and the Pareto front is the front."""

import subprocess
import sys

import numpy as np
import pytest

from toymoe.attacks import catalogue, plots
from toymoe.attacks.family import Family
from toymoe.config import Config, ConfigError


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


FAMILIES = {
    Family.UNTOUCHED: ["none"],
    Family.RASET: ["raset"],
    Family.RANDOM: ["random_experts", "steering_off_responses"],
    Family.SILENCING: ["silenced", "expert_directions"],
}


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


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(axes):
    """What the figure shows: position, colour and marker's outline of every point."""
    return [
        (tuple(xy.round(2)), tuple(c.get_facecolor()[0]), len(c.get_paths()[0].vertices))
        for c in axes.collections
        for xy in c.get_offsets()
    ]


def test_the_pareto_picture_has_every_attack_and_the_front():
    figure = plots.pareto(ROWS, FAMILIES)
    assert len(figure.axes) == 3
    axes = figure.axes[0]
    front = next(line for line in axes.lines if line.get_label() == "Pareto front")
    np.testing.assert_allclose(front.get_xdata(), [0.48, 0.96])
    np.testing.assert_allclose(front.get_ydata(), [0.99, 0.95])
    assert sorted(x for (x, _), *_ in points(axes)) == [0.08, 0.48, 0.68, 0.88, 0.96]
    assert set(legend(figure)) == {"Pareto front", *FAMILIES}


def test_a_new_row_of_a_known_family_is_in_the_picture(monkeypatch):
    """All that is added is the row: the figure shows its point, in the look of its family."""
    editing = catalogue._editing
    mine = catalogue.Attack("my_rival", Family.STEERING, (3,), lambda a, n: None)
    monkeypatch.setattr(catalogue, "_editing", lambda cfg: [*editing(cfg), mine])
    assert ("my_rival", 3) in [(attack.name, n) for attack, n in catalogue.plan(Config())]
    rows = [*ROWS, row("my_rival", 3, 0.6, 0.33)]
    shown = points(plots.pareto(rows, catalogue.families(Config())).axes[0])
    (mine,) = [look for xy, *look in shown if xy == (0.38, 0.33)]
    (steered,) = [look for xy, *look in shown if xy == (0.08, 0.6)]
    assert mine == steered


def test_an_attack_of_no_family_is_an_error_and_not_left_out():
    with pytest.raises(ConfigError, match="attack 'my_rival' has no family") as raised:
        plots.pareto([*ROWS, row("my_rival", 3, 0.6, 0.33)], FAMILIES)
    assert "\n" not in str(raised.value)


def test_a_look_is_its_familys_whatever_the_order_and_none_is_an_error(monkeypatch):
    looks = [points(plots.pareto(ROWS, FAMILIES).axes[0])]
    backwards = dict(reversed(FAMILIES.items()))
    looks.append(points(plots.pareto(ROWS, backwards).axes[0]))
    assert looks[0] == looks[1]
    assert list(plots.LOOKS) == list(Family) == list(catalogue.families(Config()))
    monkeypatch.delitem(plots.LOOKS, Family.SILENCING)
    with pytest.raises(ConfigError, match="attack 'silenced' has no family with a look"):
        plots.pareto(ROWS, FAMILIES)


def test_the_picture_shows_every_family_of_the_table():
    families = catalogue.families(Config())
    rows = [row("none", 0, 0.98, 1.0)]
    rows += [row(name, 1, 0.5, 0.5) for names in families.values() for name in names[:1]][1:]
    figure = plots.pareto(rows, families)
    assert set(legend(figure)) == {"Pareto front", *families}
    assert len({look for _, *look in points(figure.axes[0]) for look in [tuple(look)]}) == 7


def test_families_differ_in_grey_too():
    markers = [marker for _, marker in plots.LOOKS.values()]
    assert len(set(markers)) == len(markers) == len(Family)


def test_figures_need_no_jax():
    code = "import sys, toymoe.attacks.plots, toymoe.defences.plots; print('jax' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_criteria_are_sorted_and_have_their_intervals():
    given = {
        "usage": dict(rho=0.2, low=-0.1, high=0.4),
        "ablation_zero": dict(rho=1.0, low=1.0, high=1.0),
        "random": dict(rho=-0.05, low=-0.3, high=0.2),
    }
    axes = plots.criteria(given, "usage").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["random", "usage", "ablation zero"]
    bars = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert bars[:3] == [(-0.3, 0.2), (-0.1, 0.4), (1.0, 1.0)]
    colours = {tuple(line.get_xdata()): line.get_color() for line in axes.lines}
    assert colours[-0.1, 0.4] != colours[-0.3, 0.2] == colours[1.0, 1.0]  # the one tuned by


def test_routes_keep_the_order_of_the_untouched_model():
    none = [[[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]]]
    moved = [[[0.9, 0.1, 0.0], [0.1, 0.8, 0.1]]]
    figure = plots.routes({"none": none, "raset": moved}, ["alps", "boat"])
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(images[0][0], [0.9, 0.1, 0.0])
    np.testing.assert_allclose(images[1][0], [0.1, 0.9, 0.0])


def test_the_map_of_single_experts_holds_its_numbers_and_ranks_the_criteria():
    left_LE = np.array([[0.9, 0.05, 1.0], [0.6, 0.7, 0.8]])
    figure = plots.alone(left_LE, {"usage": 0.1, "mine": 0.9, "random": -0.2})
    chart, ranks = figure.axes[:2]
    np.testing.assert_array_equal(chart.images[0].get_array(), left_LE)
    written = {text.get_position(): text.get_text() for text in chart.texts}
    assert written[1, 0] == "0.05" and written[2, 1] == "0.80" and len(written) == 6
    names = [text.get_text() for text in ranks.get_yticklabels()]
    assert names == ["random", "usage", "mine"]
    assert list(ranks.lines[0].get_xdata()) == [-0.2, 0.1, 0.9]
