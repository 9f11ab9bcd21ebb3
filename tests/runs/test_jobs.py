"""Many seeds: by any executor, by processes that die, by eight starters of one folder."""

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from errands import brought, errand, start

from toymoe import checkpoint
from toymoe.config import ConfigError
from toymoe.runs import claims, crew, jobs
from toymoe.runs.progress import Progress


def job(out, seeds):
    return jobs.Job(out, seeds, partial(errand, out), partial(brought, out))


def begun(out):
    return sorted(map(int, (out / "begun").read_text().split()))


@pytest.fixture
def made(tmp_path):
    """What is made by some executor, and what was said meanwhile."""

    def make(seeds, crew):
        said, written = [], []
        made = jobs.make(
            job(tmp_path, seeds),
            lambda made: written.append((sorted(made.of), dict(made.errors))),
            lambda seed, p: said.append((seed, p)),
            lambda seed, error: said.append((seed, error)),
            crew,
        )
        return made, said, written

    return make


@pytest.mark.parametrize("at_once", [None, 3])
def test_each_seed_once_and_an_error_costs_its_own(tmp_path, made, at_once):
    (tmp_path / "go").touch()
    with ThreadPoolExecutor(at_once) as pool:
        found, said, written = made([2, 14, 1], at_once and pool)
    assert begun(tmp_path) == [1, 2, 14] and found.errors == {14: "no disk"}
    assert {seed: error for seed, error in said if isinstance(error, str)} == {
        2: "",
        14: "no disk",
        1: "",
    }
    assert list(found.of) == [1, 2] and written[-1] == ([1, 2], {14: "no disk"})
    if not at_once:  # after every seed: nothing is lost
        lost = {14: "no disk"}
        assert written == [([], {}), ([2], {}), ([2], lost), ([1, 2], lost)]
    assert not list(tmp_path.glob("*.claim*"))
    assert jobs.make(job(tmp_path, [1]), lambda made: None).of.keys() == {1, 2}  # what is there
    assert begun(tmp_path) == [1, 2, 14]


def test_progress_of_all_is_seen_at_once(tmp_path, made, monkeypatch):
    monkeypatch.setattr(jobs, "POLL", 0.02)
    monkeypatch.setattr(claims, "BEAT", 0.02)
    real, half = jobs._ended, Progress("half", 1, 2)

    def ended(running):
        if all(
            claim.is_file() and b"half" in claim.read_bytes()
            for claim in map(partial(jobs.claim_of, tmp_path), (1, 2))
        ):
            looked.append(dict(running))
            if len(looked) == 2:
                (tmp_path / "go").touch()
        return real(running)

    looked = []
    monkeypatch.setattr(jobs, "_ended", ended)
    with ThreadPoolExecutor(2) as pool:
        _, said, _ = made([1, 2], pool)
    assert {(1, half), (2, half)} <= set(said)
    assert len(looked[0]) == 2


def test_a_slip_of_the_program_is_raised_with_where_it_was(tmp_path, made):
    (tmp_path / "go").touch()
    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyError, match="a slip") as raised:
        made([15], pool)
    assert "in errand" in raised.value.__notes__[0]


def test_a_process_that_dies_costs_its_seed_and_no_other(tmp_path, made):
    (tmp_path / "go").touch()
    with crew.Processes(2) as pool:
        found, _, _ = made([13, 1, 2, 3], pool)
        died = "its process ended before it did: run the same line again to go on."
        assert found.errors == {13: died} and list(found.of) == [1, 2, 3]
        assert begun(tmp_path) == [1, 2, 3, 13]
        again, _, _ = made([13, 1, 2, 3], pool)  # whose claim is there, a dead one's
    assert again.errors == {} and list(again.of) == [1, 2, 3, 13]
    assert begun(tmp_path) == [1, 2, 3, 13, 13] and not list(tmp_path.glob("*.claim*"))


def test_an_error_here_ends_the_processes_at_once(tmp_path, made):
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), crew.Processes(1) as pool:
        future = pool.submit(time.sleep, 600)
        while not pool._pools or not future.running():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert time.perf_counter() - begin < 60


@pytest.mark.parametrize("finishes", [True, False])
def test_a_seed_that_another_has_is_waited_for(tmp_path, monkeypatch, finishes):
    """And made here if the other gives it back unfinished."""
    monkeypatch.setattr(jobs, "POLL", 0.02)
    (tmp_path / "go").touch()
    with ExitStack() as other:
        other.enter_context(claims.held(jobs.claim_of(tmp_path, 1)))

        def watch(seed, progress):
            if progress == jobs.ELSEWHERE:
                assert seed == 1
                if finishes:
                    (tmp_path / "seed-1").mkdir()
                    checkpoint.write_json(tmp_path / "seed-1" / "value.json", {"by": 0})
                other.close()

        found = jobs.make(job(tmp_path, [1, 2]), lambda made: None, watch)
    assert found.of.keys() == {1, 2} and (found.of[1]["by"] == 0) == finishes


def test_who_is_alone_with_a_run_keeps_a_sweep_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    run, half = tmp_path / "seed-3", Progress("half", 1, 2)
    claim, judge = jobs.claim_of(tmp_path, 3), claims.Judge()
    with jobs.alone(run) as say:
        assert jobs.attempt(None, tmp_path, 3, None).busy
        say(half)
        while judge.look(claim)[2] is None:
            time.sleep(0.01)
        assert judge.look(claim) == (False, None, half)
        with pytest.raises(ConfigError, match="another process is at"), jobs.alone(run):
            pass
    assert not list(tmp_path.iterdir())
    run.mkdir()
    monkeypatch.chdir(run)
    with claims.held(claim), pytest.raises(ConfigError, match=r"at \.:"), jobs.alone(Path(".")):
        pass
    monkeypatch.setattr(jobs.os, "access", lambda path, mode: path != tmp_path)
    with jobs.alone(run) as say:  # nobody may write beside it
        say(half)
        assert list(tmp_path.iterdir()) == [run]


def test_an_error_of_the_program_is_no_reason_of_a_seeds(tmp_path):
    def read(seed):
        raise ValueError("operands could not be broadcast together")

    with pytest.raises(ValueError, match="could not be broadcast"):
        jobs.Made(jobs.Job(tmp_path, [0], None, read)).look()


def test_who_writes_last_has_read_what_was_finished_meanwhile(tmp_path):
    """Another finishes a seed, and writes, between our reading and our writing."""
    written = []

    def write(made):
        if not written:
            (tmp_path / "seed-5").mkdir()
            checkpoint.write_json(tmp_path / "seed-5" / "value.json", {"by": 0})
        written.append(list(made.of))

    jobs.Made(job(tmp_path, [])).write(write)
    assert written == [[], [5]]


def test_eight_starters_share_a_new_folder(tmp_path):
    """Nobody is refused, no seed is made twice, and everybody has the whole table."""
    context = get_context("forkserver")  # imports once
    context.set_forkserver_preload(["errands"])
    with ProcessPoolExecutor(8, context) as pool:
        for turn in range(5):
            (out := tmp_path / str(turn)).mkdir()
            tables = list(pool.map(start, [out] * 8, range(8)))
            assert tables == ["seed,error,x\n0,,0.0\n1,,0.5\n2,,1.0\n3,,1.5\n"] * 8
            assert begun(out) == [0, 1, 2, 3]
            assert {p.name for p in (out / "s").iterdir()} == {
                *("sweep.json", "sweep.csv", "summary.csv"),
                *(f"seed-{seed}" for seed in range(4)),
            }
