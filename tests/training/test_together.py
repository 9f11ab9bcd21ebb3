"""Which process trains which seeds, and what becomes of one that diverges; the training itself is
tested in tests/runs/test_together.py."""

import jax
import numpy as np
import pytest

from toymoe.training import phases, snapshots, together

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("seeds", "devices", "processes", "shares"),
    [
        ([7, 8, 9], 1, 1, [[7, 8, 9]]),
        ([7, 8, 9], 2, 1, [[7, 8, 9, 9]]),
        ([7, 8, 9, 4], 2, 2, [[7, 8], [9, 4]]),
        ([7, 8, 9, 4, 5], 4, 2, [[7, 8, 9, 4], [5, 5, 5, 5]]),
        ([7], 4, 4, [[7]] * 4),
    ],
)
def test_every_device_has_as_many_seeds(monkeypatch, seeds, devices, processes, shares):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(jax, "local_device_count", lambda: devices // processes)
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    for process, mine in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert together.share(seeds) == mine


def test_a_seed_that_diverges_has_no_chunk_and_the_others_have_theirs(cfg, tables, monkeypatch):
    """Training itself is replaced by losses: of the second seed one is not finite."""
    fresh = phases.start(_params(jax.random.key(0), cfg), cfg, "pretrain")
    probe_BP = np.zeros((3, 4), int)
    shape = cfg.model.layers, 3, 4, cfg.model.top_k

    def of_seed(at_S, loss):
        blank = np.zeros((len(at_S), *shape), np.uint8), np.zeros((len(at_S), 3), int)
        return fresh, np.where(at_S == 2, loss, 1.0), snapshots.Snapshot(*blank)

    def trained(state, given, factors, at_S, *_, **__):
        return together._spread([of_seed(at_S, loss) for loss in (2.0, np.nan)])

    monkeypatch.setattr(together, "_train_jit", trained)
    pair = [fresh] * 2, 0, [tables] * 2, [probe_BP] * 2, [cfg] * 2
    one, other = next(together.run_phase(*pair, "pretrain"))
    assert one.step == cfg.train.chunk and one.losses_S.tolist() == [1, 1, 2, 1, 1]
    jax.tree.map(np.testing.assert_array_equal, one.state, fresh)
    assert other is None


_params = jax.jit(phases.fresh_params, static_argnames="cfg")
