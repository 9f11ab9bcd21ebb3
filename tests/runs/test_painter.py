"""The second process draws what this one would, says when it cannot, and never stays behind."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from toymoe import checkpoint, world
from toymoe.organism import stored
from toymoe.pages import style
from toymoe.runs import localisation_plots, painter, plots

pytestmark = pytest.mark.core
FIGURES = plots.FIGURES | localisation_plots.FIGURES


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_figures_of_a_run_are_those_this_process_draws(small_run):
    for name in ("contrasts", "fork"):
        figure = FIGURES[name].draw(small_run.metrics["routing"])
        assert (small_run.out / "figures" / f"{name}.png").read_bytes() == style.png(figure)


def test_the_readers_settings_do_not_reach_it(small_run, small, tmp_path, monkeypatch):
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: black\naxes.facecolor: black\n")
    monkeypatch.chdir(tmp_path)  # where matplotlib looks first
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    curves, _ = checkpoint.load(small_run.out / "history.npz")
    with painter.Painter() as second:
        second.draw(roles=world.roles(small.world), **small_run.metrics["inside"])
        second.draw(curves=curves, hazard_rule="conjunction", routing=small_run.metrics["routing"])
        hazardous = stored.tables(small_run.out, small).hazard_GYZ.any((1, 2)).tolist()
        second.draw(topics=world.names(small.world), hazardous=hazardous)
        images = second.images()
    assert images.keys() == FIGURES.keys()
    for name, image in images.items():
        assert image == (small_run.out / "figures" / f"{name}.png").read_bytes()


def test_a_figure_without_its_numbers_is_an_error(capfd):
    with painter.Painter() as second:
        second.draw(topics=["alps"], hazard_rule="conjunction")
        with pytest.raises(painter.DrawingError):
            second.images()
    assert "not told what" in capfd.readouterr().err


def test_a_figure_that_cannot_be_drawn_is_an_error(capfd):
    with painter.Painter() as second:
        pid = second._process.pid
        assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C in a terminal does not reach it
        second.draw(routing={"contrasts": {}}, hazard_rule="conjunction")
        with pytest.raises(painter.DrawingError, match=r"could not be drawn .* --resume"):
            second.images()
        second.draw(routing={})  # to nobody
        assert not alive(pid)
    assert "Traceback" in capfd.readouterr().err


def test_a_pipe_whose_reader_ended_is_no_error_where_a_system_has_its_own_code_for_it():
    class Pipe:
        def write(self, data):
            raise OSError(errno.EINVAL, "Invalid argument")  # as Windows says it

        close = flush = lambda self: self.write(b"")

    ended = SimpleNamespace(stdin=Pipe(), stdout=io.BytesIO(), kill=lambda: None, wait=lambda: 1)
    second = painter.Painter()
    second._process = ended
    second.draw(routing={})
    with pytest.raises(painter.DrawingError, match="could not be drawn"):
        second.images()
    second.__exit__()


BEGUN = """
import os, signal, sys
from toymoe.runs.painter import Painter
with Painter() as painter:
    print(painter._process.pid, flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_it_ends_with_the_process_that_began_it(how):
    with subprocess.Popen(
        [sys.executable, "-c", BEGUN, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        pid = int(first.stdout.readline())
        said = first.stderr.read().decode()  # until both have ended
    assert first.returncode == (-signal.SIGKILL if how == "killed" else -signal.SIGINT)
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)
    assert said.count("Traceback") == (how == "interrupted")
