"""Seeds given to a Dask scheduler with two workers of this machine, one of which is killed.

Run where `distributed` is installed.
"""

import os
import subprocess
import sys
import time
from functools import partial

import pytest
from errands import brought, errand

from toymoe import cli
from toymoe.config import ConfigError
from toymoe.errors import Failed
from toymoe.runs import crew, jobs

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a scheduler with two workers, each a process with another that starts it anew."""
    folder = tmp_path_factory.mktemp("dask")
    where = ["--scheduler-file", str(folder / "scheduler.json")]
    words = {
        "scheduler": ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        "worker": ["--nworkers", "2", "--nthreads", "1", "--no-dashboard"],
    }
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # as where it is installed
    processes = []
    try:
        for name, more in words.items():
            command = [sys.executable, "-m", "dask", name, *where, *more]
            with (folder / name).open("w") as log:
                processes.append(
                    subprocess.Popen(command, cwd=folder, env=found, stdout=log, stderr=log)
                )
            while not (folder / "scheduler.json").exists():
                assert processes[0].poll() is None, (folder / name).read_text()
                time.sleep(0.05)
        said = (folder / "scheduler").read_text
        while "Scheduler at:" not in said():
            time.sleep(0.05)
        yield next(line.split()[-1] for line in said().splitlines() if "Scheduler at:" in line)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def test_a_killed_workers_seed_is_made_by_another_and_all_are_there(address, tmp_path):
    (tmp_path / "go").touch()
    work, read = partial(errand, tmp_path), partial(brought, tmp_path)
    ended = []
    with crew.cluster(address) as workers:
        made = jobs.make(
            jobs.Job(tmp_path, [1, 13, 2, 3], work, read),
            lambda made: None,
            done=lambda seed, error: ended.append((seed, error)),
            crew=workers,
        )
    assert sorted(ended) == [(1, ""), (2, ""), (3, ""), (13, "")]
    assert made.errors == {} and list(made.of) == [1, 2, 3, 13]
    begun = sorted(map(int, (tmp_path / "begun").read_text().split()))
    assert begun == [1, 2, 3, 13, 13]  # no seed twice but the killed one's
    assert (tmp_path / "killed").exists() and not list(tmp_path.glob("*.claim*"))


def test_the_command_gives_seeds_to_the_workers(
    address, tmp_path, small_run, small_settings, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    settings = [f"{name}={value}" for name, value in small_settings.items()]
    words = ["sweep", "--preset", "smoke", "--set", *settings, "--seeds", "0", "--out", "s"]
    assert cli.main([*words, "--cluster", address]) == 0
    assert "seed 0: done" in capsys.readouterr().out
    for name in ("pretrained.npz", "aligned.npz", "history.npz"):
        made = (tmp_path / "s" / "seed-0" / name).read_bytes()
        assert made == (small_run.out / name).read_bytes()


def test_an_address_at_which_nobody_answers_is_one_sentence(monkeypatch):
    monkeypatch.setattr(crew, "PATIENCE", "1s")
    with pytest.raises(Failed, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        crew.cluster("tcp://127.0.0.1:9").__enter__()
    with pytest.raises(ConfigError, match=r"--cluster nonsense://x is not possible"):
        crew.cluster("nonsense://x").__enter__()
