"""What is kept of the shipped organism's tuned models is what tuning makes of it."""

import jax
import numpy as np
import pytest

from toymoe import checkpoint, explorer, organism
from toymoe.attribution import CRITERION, choice
from toymoe.explorer import kept, shared
from toymoe.explorer.readings import meters
from toymoe.explorer.state import State


@pytest.fixture(scope="module")
def shipped():
    return organism.load()


def test_tuning_anew_moves_the_same_experts_to_the_same_end(shipped, monkeypatch):
    attacker = shared.attacker(shipped)
    for n in explorer.budgets(shipped.cfg):
        mask_LE = choice.highest(attacker.scores(CRITERION), n)
        moved = kept.moved(kept.tuned(shipped, n), shipped.aligned)
        assert moved == [tuple(at) for at in np.argwhere(mask_LE).tolist()]
    before = meters(shipped, State(tuned=1))
    jax.config.update("jax_disable_most_optimizations", False)  # it runs longer than it compiles
    try:
        fresh = shared.tuned_by(attacker, 1)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
    monkeypatch.setattr(shared, "tuned", lambda organism_, n: fresh)
    assert fresh is not kept.tuned(shipped, 1)
    after = meters(shipped, State(tuned=1))
    # Another processor rounds otherwise, and tuning goes another way to much the same place.
    assert before == pytest.approx(after, abs=0.1) and before["refused"] < 0.1


def test_only_experts_change(shipped):
    made, before = (checkpoint.flatten(x) for x in (kept.tuned(shipped, 8), shipped.aligned))
    changed = {name for name in made if not np.array_equal(made[name], before[name])}
    assert changed == {"layers/experts/gate_up", "layers/experts/down"}


def test_nothing_is_kept_of_another_model_or_another_number(shipped):
    other = shipped._replace(aligned=shipped.pretrained)
    assert kept.tuned(other, 1) is None and kept.tuned(shipped, 3) is None
    assert kept.tuned(organism.load("topic"), 1) is None


def test_what_is_written_is_read(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FILE", tmp_path / "tuned.npz")
    kept._read.cache_clear()
    experts = {k: v.copy() for k, v in shipped.aligned["layers"]["experts"].items()}
    experts["down"][2, 5] += 1
    moved = shipped.aligned | {"layers": shipped.aligned["layers"] | {"experts": experts}}
    kept.write(shipped, {1: moved})
    found = kept.tuned(shipped, 1)["layers"]["experts"]
    kept._read.cache_clear()
    assert all(np.array_equal(found[name], experts[name]) for name in experts)
    assert not np.array_equal(found["down"], shipped.aligned["layers"]["experts"]["down"])
