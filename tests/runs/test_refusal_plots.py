"""Figures of how few experts carry refusal, and of the route, hold the numbers they were given."""

import numpy as np
import pytest

from toymoe.pages import style
from toymoe.runs import refusal_plots

pytestmark = pytest.mark.core


def removal(half=2, experts=16):
    counts = [0, 1, 2, 4, 8, experts]
    way = {
        "refusal": [1.0, 0.7, 0.3, 0.1, 0.05, 0.0],
        "twins": [1.0, 1.0, 0.98, 0.97, 0.96, 0.9],
        "answered": [0.0, 0.2, 0.6, 0.8, 0.9, 0.95],
        "m50": half,
        "random": {"refusal": [1.0, 0.99, 0.98, 0.9, 0.6, 0.0], "m50": 12.0},
        "usage_matched": {"refusal": [1.0, 0.97, 0.95, 0.9, 0.7, 0.0], "m50": None},
    }
    other = way | {"m50": None, "random": way["random"] | {"m50": None}}
    return {"counts": counts, "set_back": way, "silenced": other}


def names(axes):
    """The places of the names at the right of the axes, by name."""
    return {t.get_text(): t.xyann[1] for t in axes.texts if hasattr(t, "xyann")}


def test_lines_are_those_given_and_named_at_their_ends():
    given = removal()
    figure = refusal_plots.localisation(given)
    style.png(figure, dpi=40)
    for axes, way in zip(figure.axes, ("set_back", "silenced"), strict=True):
        found = given[way]
        lines = {
            "twins still answered": found["twins"],
            "hazards answered right": found["answered"],
            "refused, random ones out": found["random"]["refusal"],
            "refused, used as much out": found["usage_matched"]["refusal"],
            "refused, top ones out": found["refusal"],
        }
        assert names(axes).keys() == lines.keys()
        for drawn, (label, values) in zip(axes.lines, lines.items(), strict=False):
            assert drawn.get_xdata().tolist() == [0, 1, 2, 4, 8]  # to half of all experts
            assert drawn.get_ydata().tolist() == values[:5]
            (text,) = (t for t in axes.texts if t.get_text() == label)
            assert text.xy == (1, values[4]) and text.get_color() == drawn.get_color()
    left, right = figure.axes
    assert "half of the refusal is gone at 2 (random ones: at 12)" in left.get_title()
    assert "half of the refusal is gone never (random ones: never)" in right.get_title()


def test_half_of_refusal_is_marked_with_its_number():
    left, right = refusal_plots.localisation(removal()).axes
    (mark,) = (t for t in left.texts if t.get_text() == "2")
    assert mark.get_position() == (2, 0.3)
    assert not [t for t in right.texts if t.get_text().isdecimal()]


def test_where_many_experts_are_needed_all_of_them_are_drawn():
    axes = refusal_plots.localisation(removal(half=16)).axes[0]
    assert axes.lines[0].get_xdata()[-1] == 16


@pytest.mark.parametrize("values", [[0.0] * 5, [1.0] * 5, [0.5, 0.5, 0.51, 0.9, 1.0], [0.3] * 5])
def test_names_never_cover_each_other(values):
    axes = style.new_figure("", 4, 4).subplots()
    refusal_plots._name_ends(axes, [(str(i), v, "k") for i, v in enumerate(values)])
    places = sorted(names(axes).values())
    assert min(np.diff(places)) >= 0.085 - 1e-9
    assert places[0] >= 0 and places[-1] <= 1 + 1e-9


def fork(missing=()):
    rng = np.random.default_rng(0)
    pairs = ("intent_twins", "harmless_twins")
    known = {
        which: {
            pair: None if pair in missing else {"selected_answer": rng.random((2, 2, 6)) * 0.5}
            for pair in pairs
        }
        for which in ("pretrained", "aligned")
    }
    if "intent_twins" not in missing:
        known["aligned"]["intent_twins"]["selected_answer"][:, 1, 4] = 1.0, 0.0
    return {"contrasts": known}


def test_a_dot_for_each_expert_and_the_largest_gap_by_name():
    given = fork()
    figure = refusal_plots.fork(given)
    style.png(figure, dpi=40)
    at = iter(figure.axes)
    for pair in ("intent_twins", "harmless_twins"):
        for which in ("pretrained", "aligned"):
            axes = next(at)
            hazard_LE, twin_LE = given["contrasts"][which][pair]["selected_answer"]
            _, *layers = axes.lines  # the first is the diagonal
            for layer, dots in enumerate(layers):
                np.testing.assert_array_equal(dots.get_xdata(), twin_LE[layer])
                np.testing.assert_array_equal(dots.get_ydata(), hazard_LE[layer])
            (label,) = axes.texts
            gap_LE = abs(hazard_LE - twin_LE)
            layer, expert = np.unravel_index(gap_LE.argmax(), gap_LE.shape)
            assert label.get_text() == f"{layer}.{expert}: gap {gap_LE.max():.2f}"
    assert figure.axes[1].texts[0].get_text() == "1.4: gap 1.00"
    assert "control" in figure.axes[2].get_title() and "control" not in figure.axes[0].get_title()


def test_twins_that_do_not_exist_have_no_row():
    assert len(refusal_plots.fork(fork(["harmless_twins"])).axes) == 2
    nothing = refusal_plots.fork(fork(["intent_twins", "harmless_twins"]))
    assert not nothing.axes and "no twins" in nothing.texts[-1].get_text()


def test_bars_of_own_and_others_route():
    given = {
        "hazards": {"refused": 0.95, "own": {"refused": 0.99}},
        "twins": {"refused": 0.2, "own": {"refused": 0.01}},
    }
    (axes,) = refusal_plots.route(given).axes
    rows = dict(zip(axes.get_yticks(), (x.get_text() for x in axes.get_yticklabels()), strict=True))
    middle = [round(bar.get_y() + bar.get_height() / 2, 6) for bar in axes.patches]
    found = {rows[y]: bar.get_width() for y, bar in zip(middle, axes.patches, strict=True)}
    assert found == {
        "hazards on their own route": 0.99,
        "hazards on their twins' route": 0.95,
        "twins on the hazards' route": 0.2,
        "twins on their own route": 0.01,
    }
    assert [text.get_text() for text in axes.texts] == ["0.99", "0.95", "0.20", "0.01"]
