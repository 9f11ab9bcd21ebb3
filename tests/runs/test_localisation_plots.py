"""The figures of looking inside hold the numbers they were given, and ask their questions."""

import numpy as np
import pytest
from letters import least_font
from matplotlib.figure import Figure

from toymoe.pages import style
from toymoe.runs import localisation_plots, plots

ROLES = ["BOS", "context", "context", "ASK", "verb", "entity", "ANS", "response"]


NAMES = ("margin", "refusal", "accuracy")


def numbers(L=2, E=6, T=7):
    """In which every number is another."""
    rng = np.random.default_rng(0)
    effects = ("margin", "refusal", "accuracy")
    ways = ("removed", "restored")
    rates = ("refusal", "accuracy")

    def maps():
        return {name: rng.uniform(-0.3, 1, (L, E)).tolist() for name in effects}

    def shares():
        return [rng.random((L, E)).tolist() for _ in range(2)]

    counts = [0, 1, 2, L * E]

    def way(half):
        curves = {name: rng.random(4).tolist() for name in ("refusal", "twins", "answered")}
        controls = {
            name: {"refusal": rng.random(4).tolist(), "m50": 2.0}
            for name in ("random", "usage_matched")
        }
        return curves | controls | {"m50": half}

    gaps = {
        which: {pair: {"selected_answer": shares()} for pair in ("intent_twins", "harmless_twins")}
        for which in ("untrained", "pretrained", "aligned")
    }
    own = [{"own": {"refused": rng.random()}, "refused": rng.random()} for _ in range(2)]
    return {
        "removal": {"counts": counts, "set_back": way(2), "silenced": way(None)},
        "route": dict(zip(("hazards", "twins"), own, strict=True)),
        "routing": {"contrasts": gaps},
        "curves": {"topic_expert": rng.integers(1, 50, (3, L, 4, E))},
        "ablation": {"base": dict.fromkeys(effects, 0.9), "free": maps(), "frozen": maps()},
        "patching": {
            tap: {way: rng.uniform(-0.2, 1, (L, T)).tolist() for way in ways}
            for tap in ("head_out", "expert_out", "router_logits")
        },
        "decomposition": {
            "hazards": dict(embedding=1.0, heads=[2.0, -4.0], experts=[3.0, 5.5], margin=7.5),
            "twins": dict(embedding=-1.0, heads=[0.0, -2.0], experts=[-3.0, 0.5], margin=-5.5),
        },
        "swaps": {
            name: {way: {rate: rng.random() for rate in rates} for way in ("removed", "alone")}
            for name in ("nothing", "experts", "router", "everything")
        },
    }


def paint(figure):
    """All the way to pixels; a warning on the way is an error."""
    style.png(figure, dpi=40)
    return figure


def panels(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def written(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(("L", "E"), [(1, 3), (2, 6), (3, 16)])
def test_every_figure_asks_its_question(L, E):
    given = numbers(L, E)
    given["decomposition"] = {
        name: part | {"heads": [1.0] * L, "experts": [2.0] * L}
        for name, part in given["decomposition"].items()
    }
    told, titles = given | {"roles": ROLES}, []
    for name, row in localisation_plots.FIGURES.items():
        figure = paint(row.draw(*(told[number] for number in row.drawn_from)))
        assert figure.get_suptitle() == row.title, name
        assert least_font(figure) >= 9 and figure.get_figwidth() <= 12, name
        titles.append(row.title)
    assert all(title.endswith("?") for title in titles) and len(set(titles)) == 7


def test_expert_maps_hold_what_is_lost_and_what_of_it_went_through_the_route():
    given = numbers()
    ablation, order = given["ablation"], plots.expert_order(given["curves"])
    for history, order_LE in ((None, [range(6)] * 2), (given["curves"], order)):
        drawn = panels(localisation_plots.expert_maps(ablation, history))
        assert len(drawn) == 6
        for pair, name in zip(zip(drawn[::2], drawn[1::2], strict=True), NAMES, strict=True):
            free, frozen = (np.array(ablation[way][name]) for way in ("free", "frozen"))
            for axes, expected in zip(pair, (free, free - frozen), strict=True):
                (image,) = axes.images
                rows = image.get_array()
                assert rows.mask[1::2].all() and not rows.mask[::2].any()
                for layer, numbers_E in enumerate(order_LE):
                    np.testing.assert_allclose(rows[2 * layer], expected[layer, list(numbers_E)])
                    below = {
                        text.get_position()[0]: text.get_text()
                        for text in axes.texts
                        if 2 * layer + 0.5 < text.get_position()[1] < 2 * layer + 1
                    }
                    assert [int(below[x]) for x in range(6)] == list(numbers_E)
                assert image.norm.vmin == -image.norm.vmax  # no loss: the colour in the middle
                assert image.norm.vmax >= np.abs(expected).max()
    assert "right answers lost" in drawn[4].get_title()
    assert "through the route" in drawn[5].get_title()


def test_numbers_stand_where_they_matter():
    values = np.array([[0.5, 0.01], [-0.25, 1.5]])
    given = {
        "base": dict.fromkeys(NAMES, 1.0),
        "free": dict.fromkeys(NAMES, values.tolist()),
        "frozen": dict.fromkeys(NAMES, values.tolist()),
    }
    free, through, *_ = panels(localisation_plots.expert_maps(given))
    assert written(free) == [".50", "-.25", "1.50", "0", "1", "0", "1"]
    assert written(through) == ["0", "1", "0", "1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(10.3, "10.3"), (-10.4, "-10.4"), (0.3, ".3"), (-0.3, "-.3"), (20.0, "20.0"), (0.97, "1.0")],
)
def test_only_a_zero_before_the_point_is_left_out(value, text):
    axes = Figure().subplots()
    localisation_plots._write(axes, np.array([[value]]), 30.0)
    assert written(axes) == [text]


def test_patching_maps_name_positions_and_ways():
    given = numbers()["patching"]
    drawn = panels(localisation_plots.patching(given, ROLES))
    expected = [values for ways in given.values() for values in ways.values()]
    for axes, values in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), values)
    names = [label.get_text() for label in drawn[-1].get_xticklabels()]
    assert names == ["BOS", "w1", "w2", "ASK", "verb", "entity", "ANS"]
    assert "twin's values in the hazard" in drawn[0].get_title()
    assert "what the router says" in drawn[4].get_title()


def test_the_waterfall_ends_at_the_margin():
    figure = localisation_plots.decomposition(numbers()["decomposition"])
    left, right = panels(figure)
    # Embedding 1, attention 2, experts 3, attention -4, experts 5.5: 1, 3, 6, 2, 7.5.
    spans = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in left.patches]
    assert spans == [(0, 1), (1, 3), (3, 6), (6, 2), (2, 7.5), (0, 7.5)]
    assert written(left) == ["+1.0", "+2.0", "+3.0", "-4.0", "+5.5", "+7.5"]
    assert right.patches[-1].get_height() == -5.5
    hatched = [bool(bar.get_hatch()) for bar in left.patches]
    assert hatched == [False, True, False, True, False, False]  # in grey: attention is hatched


def test_swaps_show_refusal_and_accuracy_both_ways():
    given = numbers()["swaps"]
    left, right = panels(localisation_plots.weight_swaps(given))
    for axes, way in ((left, "removed"), (right, "alone")):
        widths = [bar.get_width() for bar in axes.patches]
        expected = [swap[way][rate] for rate in ("refusal", "accuracy") for swap in given.values()]
        np.testing.assert_allclose(widths, expected)
        assert written(axes) == [f"{value:.2f}" for value in expected]
    names = dict(
        zip(left.get_yticks(), (x.get_text() for x in left.get_yticklabels()), strict=True)
    )
    assert [names[y] for y in sorted(names, reverse=True)] == list(given)
    assert {bool(bar.get_hatch()) for bar in left.patches} == {True, False}
