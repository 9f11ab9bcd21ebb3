"""A figure looks the same whatever matplotlib's settings, which stay what they were."""

import importlib
import io
import os
import pkgutil
import subprocess
import sys
from hashlib import sha256

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import toymoe
from toymoe.pages import style

pytestmark = pytest.mark.core
DARK = {
    "figure.facecolor": "black",
    "axes.facecolor": "black",
    "lines.linewidth": 9,
    "font.size": 5,
}


@style.defaults()
def line():
    figure = style.new_figure("Up or down?", 2, 1)
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    style.tidy(axes, xlabel="time")
    return figure


DRAW = """
import hashlib, sys
sys.modules["matplotlib_inline"] = None  # cannot be imported
from toymoe.pages import style

@style.defaults()
def line():
    figure = style.new_figure("Up or down?", 2, 1)
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    style.tidy(axes, xlabel="time")
    return figure

assert "matplotlib" not in sys.modules
print(hashlib.sha256(style.png(line())).hexdigest())
import matplotlib
print(matplotlib.rcParams["figure.facecolor"])
"""


def test_a_png_is_what_savefig_makes_and_leaves_the_figure_as_it_was():
    buffer, figure = io.BytesIO(), line()
    line().savefig(buffer, format="png", dpi=90)
    canvas, dpi = figure.canvas, figure.dpi
    assert style.png(figure, dpi=90) == buffer.getvalue()
    assert figure.canvas is canvas and figure.dpi == dpi != 90


def test_a_style_changes_nothing_and_is_left_alone():
    plain = style.png(line())
    with matplotlib.rc_context(DARK):
        before = dict.copy(matplotlib.rcParams)
        assert style.png(line()) == plain
        assert before == dict.copy(matplotlib.rcParams)
        assert style.png(line.__wrapped__()) != plain  # without `defaults` it would


@pytest.mark.parametrize("backend", [None, "agg", "module://matplotlib_inline.backend_inline"])
def test_neither_a_matplotlibrc_nor_a_notebooks_backend_reaches_a_figure(tmp_path, backend):
    rc = tmp_path / "matplotlibrc"
    rc.write_text("".join(f"{name}: {value}\n" for name, value in DARK.items()))
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    env |= {"MATPLOTLIBRC": str(rc)} | ({"MPLBACKEND": backend} if backend else {})
    ended = subprocess.run([sys.executable, "-c", DRAW], env=env, capture_output=True, text=True)
    assert ended.stderr == ""
    assert ended.stdout.split() == [sha256(style.png(line())).hexdigest(), "black"]


def test_a_figure_of_anybodys_can_be_saved():
    def lines():
        figure = Figure()
        figure.subplots().plot([0, 1])
        return figure

    buffer, figure = io.BytesIO(), lines()
    figure.set_dpi(110)
    FigureCanvasAgg(figure).print_png(buffer)
    assert style.png(lines()) == buffer.getvalue()


def test_all_that_draws_draws_with_matplotlibs_own_settings():
    drawing = []
    for module in pkgutil.walk_packages(toymoe.__path__, "toymoe."):
        if module.name.endswith("plots"):
            functions = vars(importlib.import_module(module.name)).values()
            drawing += [f for f in functions if getattr(f, "__annotations__", {}).get("return")]
    drawing = {f for f in drawing if f.__annotations__["return"] == style.Figure}
    drawing -= {style.new_figure}
    assert len(drawing) > 18
    assert [f for f in drawing if not hasattr(f, "__wrapped__")] == []
