"""Figures drawn from small made-up numbers: what is on paper is what was given."""

import json

import numpy as np
import pytest
from letters import least_font

from toymoe.measures import paper
from toymoe.pages import style
from toymoe.runs import plots

pytestmark = pytest.mark.core
STEPS = ([0, 1, 2, 4, 16, 64, 0, 2, 32], [0] * 6 + [1] * 3)  # of 64 and 32
TIME = [0, 1, 2, 4, 16, 64, 64, 66, 96]


def curves(L=2, G=3, E=6):
    """Random curves, in which every number is another."""
    rng = np.random.default_rng(0)
    by_layer = ("nmi_topic_context", "nmi_topic_shuffled", "nmi_token_context")
    rates = "answer_accuracy over_refusal refusal hazard_answered refusal_held_out".split()
    return {
        "step": np.array(STEPS[0]),
        "phase": np.array(STEPS[1]),
        "topic_expert": rng.integers(1, 50, (9, L, G, E)).astype(float),
        **{name: rng.random((9, L)) for name in by_layer},
        **{name: rng.random(9) for name in rates},
    }


def routing(L=2, E=6, missing=()):
    rng = np.random.default_rng(1)

    def pairs():
        made = {
            name: {"js": rng.random(L), "overlap": rng.random(L)} for name in paper.CONTRAST_LABELS
        }
        return made | dict.fromkeys(missing)

    share = rng.dirichlet(np.ones(E), L)
    return {
        "contrasts": {which: pairs() for which in plots.MODELS},
        "load_share": share.tolist(),
        "load_cv": [0.25 + layer for layer in range(L)],
        "dead_experts": list(range(L)),
        "top_k": 2,
        "experts": E,
    }


def drawn(figures, told):
    """The figures of a table, drawn from what the painter is told."""
    return {n: f.draw(*(told[number] for number in f.drawn_from)) for n, f in figures.items()}


def paint(figure):
    """All the way to pixels; a warning on the way is an error."""
    style.png(figure, dpi=40)
    return figure


def panels(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def line(axes, label):
    (found,) = (x for x in axes.lines if x.get_label() == label)
    return found


@pytest.mark.parametrize(("L", "missing"), [(1, ("object_twins",)), (2, ())])
def test_every_figure_asks_its_question(L, missing):
    told = {
        "curves": curves(L),
        "topics": ["alps", "boat", "clay"],
        "hazardous": [True, False, False],
        "routing": routing(L, missing=missing),
        "hazard_rule": "conjunction",
    }
    figures = drawn(plots.FIGURES, told)
    assert list(figures) == ["film_strip", "nmi", "behaviour", "contrasts", "load"]
    assert all(paint(figure).get_suptitle().endswith("?") for figure in figures.values())
    assert len({figure.get_suptitle() for figure in figures.values()}) == 5
    for name, figure in figures.items():
        assert figure.get_suptitle() == plots.FIGURES[name].title
    assert [len(panels(figure)) for figure in figures.values()] == [2 * L, L, 1, 2, L]


def frames(strip, last, experts):
    """The frames of a layer, and what stands above each."""
    side_by_side = strip.images[0].get_array()
    between = side_by_side[:, experts :: experts + 1]
    assert between.mask.all() and side_by_side.mask.sum() == between.size
    shown = [
        side_by_side[:, at : at + experts] for at in range(0, side_by_side.shape[1], experts + 1)
    ]
    above = [*(label.get_text() for label in strip.get_xticklabels()), last.get_title()]
    return [*shown, last.images[0].get_array()], above


def test_film_strip_holds_the_shares_it_was_given():
    # Expert e ends up with topic: 2 0 0 1. In the last frame topic 0 gives 3/4 to expert 2 and 1/4
    # to expert 1, so their order is 2, 1, then topic 1's expert 3, then topic 2's expert 0.
    counts = np.ones((4, 1, 3, 4))
    counts[0, 0] = [[4, 3, 2, 1], [1, 2, 3, 4], [2, 2, 2, 4]]
    counts[-1, 0] = [[0, 1, 3, 0], [0, 0, 0, 7], [5, 0, 0, 0]]
    given = {
        "topic_expert": counts,
        "step": np.array([0, 1, 0, 2]),
        "phase": np.array([0, 0, 1, 1]),
    }
    figure = plots.film_strip(given, ["alps", "boat", "clay"], [False, True, False])
    axes, larger = panels(figure)
    (first, *_, last), above = frames(axes, larger, 4)
    np.testing.assert_allclose(first, np.array([[2, 3, 1, 4], [3, 2, 4, 1], [2, 2, 4, 2]]) / 10)
    np.testing.assert_allclose(last, [[0.75, 0.25, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert above[0] == "pretraining\nafter step 0"
    assert above[-1] == "alignment\nafter step 2"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["alps", "boat !", "clay"]
    assert [label.get_text() for label in larger.get_xticklabels()] == ["2", "1", "3", "0"]
    assert axes.get_ylabel() == "layer 0"
    assert plots.expert_order(given).tolist() == [[2, 1, 3, 0]]
    assert "! a hazardous topic" in " ".join(figure.get_supxlabel().split())
    plain = plots.film_strip(given, ["alps", "boat", "clay"])
    assert "hazardous" not in plain.get_supxlabel()
    assert [x.get_text() for x in panels(plain)[0].get_yticklabels()] == ["alps", "boat", "clay"]


def test_film_strip_picks_frames_from_first_to_last():
    given = curves()
    # Nearest to 64^(0, 1/4, 2/4, 3/4) = 1, 3, 8, 23 are the steps 1, 2, 4 and 16.
    for wanted, steps in ((7, [0, 1, 2, 4, 16, 64, 32]), (4, [0, 1, 64, 32])):
        figure = plots.film_strip(given, ["alps", "boat", "clay"], frames=wanted)
        upper, last, lower, _ = panels(figure)
        shown, above = frames(upper, last, 6)
        assert len(shown) == len(steps)
        assert [int(text.split("step ")[1]) for text in above] == steps
        assert lower.get_ylabel() == "layer 1"


def test_numbers_of_many_experts_leave_room():
    axes = plots.new_figure("", 3, 2).subplots()
    plots.expert_ticks(axes, np.arange(64)[::-1])
    assert [x.get_text() for x in axes.get_xticklabels()] == [str(i) for i in range(63, -1, -4)]


def test_a_topic_without_tokens_is_no_division_by_zero():
    given = curves()
    given["topic_expert"][0, 0, 1] = 0
    figure = paint(plots.film_strip(given, ["alps", "boat", "clay"]))
    assert not frames(*panels(figure)[:2], 6)[0][0][1].any()


def test_nmi_beside_its_controls():
    given = curves()
    for layer, axes in enumerate(plots.nmi_over_training(given).axes):
        for label, name in {
            "topic": "nmi_topic_context",
            "control: token": "nmi_token_context",
            "control: topics shuffled": "nmi_topic_shuffled",
        }.items():
            found = line(axes, label)
            assert found.get_xdata().tolist() == TIME
            np.testing.assert_array_equal(found.get_ydata(), given[name][:, layer])
        untrained = line(axes, "control: untrained router").get_ydata()
        assert set(untrained) == {given["nmi_topic_context"][0, layer]}
        assert axes.get_title() == f"layer {layer}"
        assert axes.get_xlim() == (0, 96)
        assert axes.get_xticks().tolist() == [0, 1, 4, 16, 64, 96]
        assert [64, 64] in [list(x.get_xdata()) for x in axes.lines]  # where alignment begins


def test_behaviour_lines_and_gaps():
    given = curves()
    given["refusal"][:] = np.nan  # a mixture without hazards
    figure = paint(plots.behaviour_over_training(given))
    for label, name in {
        "harmless: answered correctly": "answer_accuracy",
        "harmless: refused": "over_refusal",
        "hazardous: refused": "refusal",
        "hazardous: answered correctly": "hazard_answered",
        "hazardous, never rehearsed: refused": "refusal_held_out",
    }.items():
        found = line(figure.axes[0], label)
        np.testing.assert_array_equal(found.get_ydata(), given[name])
        assert found.get_xdata().tolist() == TIME
    lines = figure.axes[0].lines[:5]
    assert len({x.get_color() for x in lines}) == len({x.get_marker() for x in lines}) == 5


def test_the_shortest_training_can_be_drawn():
    given = curves()
    short = {name: curve[[0, 1, 6, 7]] for name, curve in given.items()}
    short |= {"step": np.array([0, 1, 0, 1])}
    strip = paint(plots.film_strip(short, ["alps", "boat", "clay"]))
    above = frames(*panels(strip)[:2], 6)[1]
    assert above[0] == "pretraining\nafter step 0" and above[-1] == "alignment\nafter step 1"
    for draw, label, values in (
        (plots.nmi_over_training, "topic", short["nmi_topic_context"][:, 0]),
        (plots.behaviour_over_training, "hazardous: refused", short["refusal"]),
    ):
        found = line(paint(draw(short)).axes[0], label)
        assert found.get_xdata().tolist() == [0, 1, 1, 2]
        np.testing.assert_array_equal(found.get_ydata(), values)


@pytest.mark.parametrize(
    ("missing", "rule"),
    [
        ((), "conjunction"),
        (("object_twins",), "topic"),
        (("neutral_twins", "object_twins"), "topic"),
    ],
)
def test_contrasts_stand_at_their_labels(missing, rule):
    given = routing(L=8, missing=missing)  # more layers than there are styles
    figure = plots.contrasts(given, rule)
    left, right = figure.axes
    words = paper.contrast_labels(rule)
    ticks = zip(left.get_yticklabels(), left.get_yticks(), strict=True)
    labels = {text.get_text(): row for text, row in ticks}
    shown = [pair for pair in paper.CONTRAST_LABELS if pair not in missing]
    assert set(labels) == {words[pair] for pair in shown}
    assert ("context swapped, hazard flips (intent twins)" in labels) == (rule == "topic")
    for axes, name, published in zip(
        (left, right), ("js", "overlap"), (paper.CONTRAST_JS, paper.CONTRAST_OVERLAP), strict=True
    ):
        rows = np.array([labels[words[pair]] for pair in shown])
        for (which, (label, _)), up in zip(plots.MODELS.items(), (0.22, 0, -0.22), strict=True):
            found = line(axes, label)
            expected = [given["contrasts"][which][pair][name].mean() for pair in shown]
            np.testing.assert_allclose(found.get_xdata(), expected)
            np.testing.assert_allclose(found.get_ydata(), rows + up)
            assert (found.get_markerfacecolor() == "white") == (which == "untrained")
        ranges = [(*published[pair], labels[words[pair]]) for pair in shown if pair in published]
        assert len(axes.patches) == len(ranges) > 0
        for bar, (low, high, row) in zip(axes.patches, ranges, strict=True):
            assert bar.get_x() == low and bar.get_y() + 0.4 == pytest.approx(row)
            # A single number is drawn as wide as can be seen.
            assert bar.get_width() == pytest.approx(max(high - low, 0.004))
    assert set(line(right, "chance").get_xdata()) == {2 / 6}
    legend = [x.get_text() for x in figure.legends[0].get_texts()]
    models = ["untrained", "before alignment", "after alignment"]
    assert legend == [*models, "chance", f"range in {paper.SOURCE}"]


def test_load_bars_by_hand():
    given = routing(E=4) | {"load_share": [[0.5, 0.1, 0.4, 0.0], [0.25] * 4]}
    history = curves(E=4)
    order = plots.expert_order(history)
    for layer, axes in enumerate(plots.load(given, history).axes):
        heights = [bar.get_height() for bar in axes.patches]
        numbers = [int(label.get_text()) for label in axes.get_xticklabels()]
        assert numbers == order[layer].tolist() and sorted(numbers) == [0, 1, 2, 3]
        assert heights == [given["load_share"][layer][expert] for expert in numbers]
        assert set(line(axes, "fair share").get_ydata()) == {1 / 4}
        assert set(line(axes, "dead below").get_ydata()) == {1 / 16}
        assert axes.get_title() == f"layer {layer}: variation {layer}.25, {layer} dead"


@pytest.mark.parametrize("L", [1, 2, 3, 4, 5, 8])
def test_layers_stand_in_rows_of_four(L):
    figure = paint(plots.nmi_over_training(curves(L)))
    assert len(figure.axes) == L and figure.get_figwidth() <= 12
    assert [axes.get_title() for axes in figure.axes] == [f"layer {i}" for i in range(L)]


def test_lists_from_a_file_will_do():
    given, history = routing(missing=("object_twins",)), curves()
    plain = json.loads(json.dumps(given, default=np.ndarray.tolist))
    for draw in (plots.contrasts, lambda routing: plots.load(routing, history)):
        assert style.png(draw(plain), dpi=40) == style.png(draw(given), dpi=40)


@pytest.mark.parametrize("L", [1, 3])
def test_letters_can_be_read(L):
    # 12 inches at 110 dots are 1320 pixels, shown as 1216 on a screen of 1280: 9 points are 12.7.
    told = {
        "curves": curves(L, E=18),
        "topics": ["alps", "boat", "clay"],
        "hazardous": [True, False, False],
        "routing": routing(L, E=18),
        "hazard_rule": "conjunction",
    }
    for name, figure in drawn(plots.FIGURES, told).items():
        paint(figure)
        assert least_font(figure) >= 9 and figure.get_figwidth() <= 12, name


def test_a_small_letter_would_be_seen():
    figure = plots.nmi_over_training(curves())
    figure.axes[0].text(0, 0, "tiny", fontsize=5)
    assert least_font(figure) == 5
