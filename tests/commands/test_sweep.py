"""toymoe sweep: seeds that fail, together, many at once."""

import sys

import pytest
from refusing import refused

from toymoe import cli
from toymoe.organism import stored
from toymoe.runs import runner, sweep, together
from toymoe.training.phases import TrainingError

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


def test_sweep_says_what_failed(capsys, tmp_path, small_run, settings, monkeypatch):
    real = runner.run

    def run(cfg, *args, **more):
        if cfg.seed == 1:
            raise TrainingError("the loss is nan [/at] step 3")
        return real(cfg, *args, **more)

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["sweep", *settings, "--seeds", "0-1", "--out", "s"]) == 1
    out = capsys.readouterr().out
    assert "seed 0: done" in out and "seed 1: the loss is nan [/at] step 3" in out
    assert "1 of 2 seeds; every number: s/sweep.csv, s/summary.csv." in out
    assert "behaviour.aligned.refusal" in out
    assert (tmp_path / "s" / "summary.csv").is_file()


def test_together_seeds_are_trained_before_the_sweep_measures_them(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(together, "train", lambda cfg, seeds, *_: called.append(seeds))
    monkeypatch.setattr(
        sweep, "sweep", lambda cfg, seeds, *_: called.append(("measured", seeds)) or ([], {})
    )
    words = ["sweep", "--seeds", "0-2", "--out", str(tmp_path / "s")]
    assert cli.main([*words, "--together"]) == 0
    assert called == [[0, 1, 2], ("measured", [0, 1, 2])]
    assert cli.main(words) == 0
    assert called[2:] == [("measured", [0, 1, 2])]


CREW = {
    "sweep --out s --jobs 0": ["--jobs 0", "from 1 to 1000"],
    "sweep --out s --jobs two": ["--jobs two", "whole number"],
    "sweep --out s --jobs 2 --cluster tcp://h:1": ["--jobs and --cluster exclude each other"],
    "raset . --jobs 2": ["for many seeds", "folder of a sweep"],
    "defend . --cluster tcp://h:1": ["for many seeds"],
    "localise . --jobs 2": ["for many seeds"],
    "zoo --jobs 0": ["--jobs 0", "from 1 to 1000"],
    "zoo --jobs 2 --cluster tcp://h:1": ["exclude each other"],
    "validate --jobs 1.5": ["--jobs 1.5"],
    "score usage . --jobs 0": ["--jobs 0", "from 1 to 1000"],
}


@pytest.mark.parametrize("line", CREW)
def test_jobs_that_are_not_possible_are_one_line(capsys, tmp_path, line):
    assert all(words in refused(capsys, line.split()) for words in CREW[line])
    assert list(tmp_path.iterdir()) == []


def test_two_jobs_make_the_files_of_one(capsys, tmp_path, small_run, settings):
    argv = ["sweep", *settings, "--seeds", "0-1"]
    assert cli.main([*argv, "--out", "one"]) == 0
    assert cli.main([*argv, "--out", "two", "--jobs", "2"]) == 0
    assert "seed 1: done" in capsys.readouterr().out
    one, two = (
        {p.relative_to(d): p for p in d.rglob("*")} for d in map(tmp_path.joinpath, ("one", "two"))
    )
    assert one.keys() == two.keys() and len(one) > 15
    for name, path in one.items():
        if name.suffix in (".npz", ".json") and name.name != "metrics.json":
            assert path.read_bytes() == two[name].read_bytes(), name
    for seed in (0, 1):  # all but how long it took
        left, right = (stored.metrics(tmp_path / d / f"seed-{seed}") for d in ("one", "two"))
        assert left | {"timing": 0} == right | {"timing": 0}
    aligned = (tmp_path / "two" / "seed-0" / "aligned.npz").read_bytes()
    assert aligned == (small_run.out / "aligned.npz").read_bytes()


def test_without_dask_a_cluster_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = "sweep --preset smoke --out s --cluster tcp://127.0.0.1:1"
    assert "pip install 'toymoe[cluster]'" in refused(capsys, line.split())
