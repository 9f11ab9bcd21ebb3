"""Studies that go on, keep their order, and lose one seed at most."""

import csv
import pickle
import threading
import time

import jax.numpy as jnp
import pytest

from toymoe import checkpoint
from toymoe.attacks import study as attacks
from toymoe.checkpoint import CheckpointError
from toymoe.config import ConfigError
from toymoe.defences import study as defences
from toymoe.runs import jobs, studies, sweep
from toymoe.runs.progress import Progress
from toymoe.validation import realigned


def test_a_stored_study_is_for_the_same_model_and_settings_only(tmp_path):
    folder, blank = tmp_path / "mine", {"rows": []}
    assert studies.stored(folder, {"model": "a"}, blank) == {"belongs": {"model": "a"}, "rows": []}
    kept = {"belongs": {"model": "a", "pair": [1, 2]}, "rows": [3]}
    checkpoint.write_json(folder / "study.json", kept)
    assert studies.stored(folder, {"model": "a", "pair": (1, 2)}, blank) == kept
    assert studies.stored(folder, {"model": "b", "pair": (1, 2)}, blank)["rows"] == []


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"rows": []}', "\x00"])
def test_a_damaged_study_is_one_clear_error(text, tmp_path):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"damaged.*delete it"):
        studies.stored(tmp_path, {}, {})


def test_a_fingerprint_tells_parameters_apart():
    params = {"a": jnp.arange(3.0), "b": {"c": jnp.ones((2, 2))}}
    other = {"a": jnp.arange(3.0), "b": {"c": jnp.ones((2, 2)).at[0, 1].set(2)}}
    copy = {"b": {"c": jnp.ones((2, 2))}, "a": jnp.arange(3.0)}
    assert studies.fingerprint(params) == studies.fingerprint(copy) != studies.fingerprint(other)


def test_what_is_made_ahead_comes_in_order_two_at_a_time():
    running, most, lock = [0], [0], threading.Lock()

    def make(n):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05 if n % 2 else 0.01)
        with lock:
            running[0] -= 1
        return n

    with studies.ahead([lambda n=n: make(n) for n in range(8)]) as made:
        assert next(made) == 0 and most[0] == 1
        assert list(made) == list(range(1, 8))
    assert most[0] == 2


def test_what_fails_ahead_fails_in_its_turn_and_the_rest_is_not_made():
    begun = []

    def make(n):
        begun.append(n)
        time.sleep(0.02)
        return 1 / (n - 3)

    with (
        pytest.raises(ZeroDivisionError),
        studies.ahead([lambda n=n: make(n) for n in range(20)]) as made,
    ):
        for n in range(3):
            assert next(made) == 1 / (n - 3)
        next(made)
    assert len(begun) < 10


def test_seeds_are_the_numbered_runs_in_order(tmp_path):
    for name in ("seed-10", "seed-2", "seed-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "seed-2.claim").touch()
    assert studies.seeds_of(tmp_path) == [2, 10]
    with pytest.raises(ConfigError, match="holds no runs"):
        studies.seeds_of(tmp_path / "other")


@pytest.mark.parametrize("failure", [ConfigError("bad numbers"), OSError("no disk")])
def test_a_seed_that_fails_costs_its_own_row_only(failure, tmp_path):
    said, seen = [], []

    def study(seed, folder, watch):
        if (tmp_path / "all.csv").is_file():
            seen.append(len((tmp_path / "all.csv").read_text().splitlines()))
        watch(Progress("half", 1, 2))
        if seed == 1:
            raise failure
        folder.mkdir()
        checkpoint.write_json(folder / "value.json", {"value": seed * 2.0})

    made = studies.many(
        study,
        value_in,
        lambda made: {"value": made["value"]},
        [0, 1, 2],
        tmp_path / "all",
        watch=lambda seed, p: said.append((seed, p.stage)),
        done=lambda seed, error: said.append((seed, error)),
    )
    assert said == [(0, "half"), (0, ""), (1, "half"), (1, str(failure)), (2, "half"), (2, "")]
    assert seen == [2, 3]  # the table is written after every seed
    assert [row.get("value") for row in made.rows] == [0.0, None, 4.0]
    assert made.studies == [{"value": 0.0}, {"value": 4.0}]
    assert made.summary["value"]["n"] == 2 and made.summary["value"]["median"] == 2
    with (tmp_path / "all-summary.csv").open() as file:
        assert next(csv.DictReader(file))["quantity"] == "value"


@pytest.mark.parametrize("slip", [KeyError("a slip"), ValueError("shapes do not match")])
def test_an_error_of_the_program_is_not_swallowed(slip, tmp_path):
    def study(seed, folder, watch):
        raise slip

    with pytest.raises(type(slip)):
        studies.many(study, value_in, dict, [0], tmp_path / "all")


def test_the_work_of_every_command_can_go_to_another_process(small, tmp_path, monkeypatch):
    gone = []

    def make(job, *_, **__):
        gone.append(pickle.loads(pickle.dumps((job.work, job.out))))
        return jobs.Made(job)

    monkeypatch.setattr(jobs, "make", make)
    sweep.sweep(small, [0], tmp_path)
    attacks.many([0], tmp_path, cfg=small)
    defences.many([0], tmp_path)
    realigned.many([0], tmp_path)
    assert len(gone) == 4 and all(callable(work) and out == tmp_path for work, out in gone)


def value_in(folder):
    path = folder / "value.json"
    return checkpoint.read_json(path) if path.is_file() else None
