"""Seeds trained in one program, beside the same run alone; cut off, claimed, and over processes."""

import os
import socket
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.config import ConfigError
from toymoe.organism import stored
from toymoe.runs import claims, jobs, sweep, together
from toymoe.training import phases

SEEDS = [2, 0, 1]
TRAINED = ("pretrained.npz", "aligned.npz", "snapshots/*.npz", "state.npz")


def arrays(run):
    """By file and name, what training has written."""
    return {
        f"{path.relative_to(run)}/{name}": array
        for pattern in TRAINED
        for path in sorted(run.glob(pattern))
        for name, array in checkpoint.flatten(checkpoint.load(path)[0]).items()
    }


def same(one, other):
    assert one.keys() == other.keys()
    return all(
        (x.dtype, x.tobytes()) == (other[k].dtype, other[k].tobytes()) for k, x in one.items()
    )


@pytest.fixture(scope="module")
def swept(small, tmp_path_factory):
    """A sweep trained together, and what was told; as it was before it was measured."""
    out, told = tmp_path_factory.mktemp("together"), []
    sweep.claim(small, out)
    together.train(small, SEEDS, out, lambda seed, p: told.append((seed, *p[:2])))
    return out, told, {seed: arrays(out / f"seed-{seed}") for seed in SEEDS}


def test_a_seed_comes_to_what_it_comes_to_alone_but_for_rounding(swept, small, small_run):
    out, told, made = swept
    assert [one for one in told if one[0] == 1] == [
        (1, phase, step) for phase in phases.PHASES for step in (0, 3, 6)
    ]
    for name in ("pretrained", "aligned"):
        alone = checkpoint.flatten(checkpoint.load(small_run.out / f"{name}.npz")[0])
        for key, array in alone.items():
            found = made[0][f"{name}.npz/{key}"]
            np.testing.assert_allclose(found, array, rtol=1e-3, atol=1e-5)
            if key.endswith("router"):  # where it could not be another seed's
                assert abs(made[1][f"{name}.npz/{key}"] - array).max() > 0.1
    assert not list(out.glob("*.claim*"))


def test_the_sweep_only_measures_and_leaves_the_files_of_a_run(
    swept, small, small_run, monkeypatch
):
    out, _, _ = swept
    monkeypatch.setattr(phases, "_train_jit", lambda *_, **__: pytest.fail("trains again"))
    rows, _ = sweep.sweep(small, SEEDS, out)
    assert [(row["seed"], row["error"]) for row in rows] == [(0, ""), (1, ""), (2, "")]
    drawn = {"report.html", "explorer.html"}
    assert {p.name for p in (out / "seed-0").rglob("*.*") if p.parent.name != "figures"} == {
        p.name for p in small_run.out.rglob("*.*") if p.parent.name != "figures"
    } - drawn
    with (
        np.load(out / "seed-0" / "history.npz") as ours,
        np.load(small_run.out / "history.npz") as alone,
    ):
        for name in ("phase", "step"):
            np.testing.assert_array_equal(ours[name], alone[name])
        for phase in phases.PHASES:
            np.testing.assert_allclose(ours[f"loss_{phase}"], alone[f"loss_{phase}"], rtol=1e-4)
        np.testing.assert_allclose(ours["load"], alone["load"], atol=0.02)
    timing = stored.metrics(out / "seed-0")["timing"]
    assert min(timing[name] for name in ("pretrain_s", "align_s")) > 0
    together.train(small, SEEDS, out, lambda *_: pytest.fail("trains again"))


@pytest.mark.parametrize("late", [False, True])
def test_cut_off_it_goes_on_and_a_seed_of_another_is_left_alone(
    swept, small, tmp_path, monkeypatch, late
):
    """Which another takes before, or at the last moment, when it is trained along."""
    if late:
        monkeypatch.setattr(claims.Judge, "look", lambda *_: (True, None, None))

    class Stop(Exception):
        pass

    def watch(seed, progress):
        if progress[:2] == ("align", 3) and seed == SEEDS[-1]:
            raise Stop

    sweep.claim(small, tmp_path)
    with pytest.raises(Stop):
        together.train(small, SEEDS, tmp_path, watch)
    assert not list(tmp_path.glob("*.claim*"))
    (tmp_path / "seed-0" / "state.npz").write_bytes(b"PK of something else")
    told = []
    with claims.held(jobs.claim_of(tmp_path, 1)):
        together.train(small, SEEDS, tmp_path, lambda seed, p: told.append((seed, *p[:2])))
    assert told == [(2, "align", 3), (2, "align", 6)]
    assert not (tmp_path / "seed-1" / "aligned.npz").exists()
    made = arrays(tmp_path / "seed-2")
    for key, array in swept[2][2].items():
        np.testing.assert_allclose(made[key], array, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("error", [ConfigError("of others"), ValueError("shapes do not match")])
def test_what_a_sweep_cannot_say_of_a_seed_is_not_left_to_it(small, tmp_path, monkeypatch, error):
    def stands(cfg, out):
        raise error

    monkeypatch.setattr(together, "_stands", stands)
    slip = not isinstance(error, ConfigError)
    with pytest.raises(ValueError, match="shapes") if slip else nullcontext():
        together.train(small, [0], tmp_path)


# --- processes ----------------------------------------------------------------------------------

CODE = """
import sys
from pathlib import Path
from toymoe.start import start_jax
start_jax(join=True)
import jax
from toymoe.config import build
from toymoe.runs import sweep, together
cfg, out, seeds = build("smoke", 0, {settings}), Path(sys.argv[1]), list(range(6))
sweep.claim(cfg, out)
together.train(cfg, seeds, out)
print(jax.device_count())
"""


@pytest.mark.processes
@pytest.mark.skipif("TOYMOE_PROCESSES" not in os.environ, reason="takes a minute; .ci/run asks")
def test_over_two_and_four_processes_it_is_the_same_to_the_bit(small_settings, tmp_path):
    """As in one process with as many devices; six seeds, so that devices train one along."""
    made = {}
    for n in (1, 2, 4):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={4 // n}"
        settings = {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
        joined = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(n)} if n > 1 else {}
        command = [sys.executable, "-c", CODE.format(settings=small_settings), tmp_path / str(n)]
        processes = [
            subprocess.Popen(
                command,
                env=os.environ | settings | joined | {"JAX_PROCESS_ID": str(i)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(n)
        ]
        for process in processes:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == 0 and said.split()[-1] == "4"
        made[n] = [arrays(tmp_path / str(n) / f"seed-{seed}") for seed in range(6)]
    assert len(made[1][0]) > 20
    for n in (2, 4):
        assert all(same(one, other) for one, other in zip(made[n], made[1], strict=True))
    assert not same(made[1][0], made[1][1])
