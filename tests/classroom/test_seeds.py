"""The table of many seeds that lesson 8 reads: what a sweep wrote, no more and no less."""

import csv
from itertools import permutations

import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.classroom import seeds
from toymoe.classroom.checks import lesson8
from toymoe.config import ConfigError

L, G, E = 2, 3, 4
SHAPES = {
    name: (L, E) if ".free." in name else (L,) if name.endswith((".js", ".context")) else ()
    for name in seeds.COLUMNS
}


def keys_of(name):
    return [".".join([name, *map(str, at)]) for at in np.ndindex(*SHAPES[name])]


def sweep_in(folder, without=()):
    """A sweep of seeds 8, 5 and 3, of which 5 failed."""
    rng, rows = np.random.default_rng(0), []
    for seed in (8, 5, 3):
        row = {"seed": seed, "error": "it was not finite" if seed == 5 else ""}
        for name in seeds.COLUMNS:
            for key in keys_of(name):
                row[key] = "" if seed == 5 else rng.random()
        rows.append({key: value for key, value in row.items() if key not in without})
        counts_SLGE = rng.integers(1, 50, (4, L, G, E))
        if seed != 5:
            (folder / f"seed-{seed}").mkdir()
            path = folder / f"seed-{seed}" / "history.npz"
            checkpoint.save(path, {"topic_expert": counts_SLGE}, {})
            rows[-1]["counts"] = counts_SLGE[-1]
    with (folder / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [k for k in rows[0] if k != "counts"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_the_table_holds_what_the_sweep_wrote_in_order_without_seeds_that_failed(tmp_path):
    rows = sweep_in(tmp_path)
    made = seeds.collect(tmp_path)
    seeds.write(made, tmp_path / "table.json")
    read = seeds.load(tmp_path / "table.json")
    assert read.seeds == made.seeds == [3, 8]
    for name in seeds.COLUMNS:
        by_seed = [[float(row[key]) for key in keys_of(name)] for row in (rows[2], rows[0])]
        expected = np.reshape(by_seed, (2, *SHAPES[name]))
        np.testing.assert_allclose(made.columns[name], expected)
        np.testing.assert_allclose(read.columns[name], expected, atol=1e-4)
    for at, row in enumerate((rows[2], rows[0])):
        for layer, topic, expert in np.ndindex(L, G, E):
            share = row["counts"][layer, topic, expert] / row["counts"][layer, topic].sum()
            assert abs(read.topic_expert_SLGE[at, layer, topic, expert] - share) < 1e-3


def test_what_is_no_sweep_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"no sweep\.csv"):
        seeds.collect(tmp_path)
    sweep_in(tmp_path, {"inside.ablation.base.margin"})
    with pytest.raises(ConfigError, match=r"no column inside\.ablation\.base\.margin"):
        seeds.collect(tmp_path)


@pytest.mark.parametrize("left", [b"", b"{", b"[1]", b"{}", b'{"columns": 3}', b"\xff"])
def test_a_damaged_table_is_one_sentence(tmp_path, left):
    (tmp_path / "table.json").write_bytes(left)
    with pytest.raises(ConfigError, match=r"table\.json is damaged: install toymoe again"):
        seeds.load(tmp_path / "table.json")


def test_the_shipped_table_is_small_and_whole():
    shipped = seeds.load()
    assert seeds.FILE.stat().st_size < 60_000
    assert set(shipped.columns) == set(seeds.COLUMNS)
    S = len(shipped.seeds)
    assert all(
        len(values) == S and np.isfinite(values).all() for values in shipped.columns.values()
    )
    assert shipped.topic_expert_SLGE.shape[0] == S
    np.testing.assert_allclose(shipped.topic_expert_SLGE.sum(-1), 1, atol=0.01)


def test_the_oracle_of_matching_is_the_best_of_all_pairings():
    rng = np.random.default_rng(0)
    for E in (1, 2, 3, 4, 5, 6, 6, 6):
        score_EE = rng.normal(size=(E, E)).round(1)  # with ties
        found = lesson8.match(score_EE)
        assert sorted(found) == list(range(E))
        best = max(sum(score_EE[i, p[i]] for i in range(E)) for p in permutations(range(E)))
        assert score_EE[np.arange(E), found].sum() == pytest.approx(best)
    many_EE = rng.normal(size=(64, 64))  # quick enough to take the place of a student's
    assert many_EE[np.arange(64), lesson8.match(many_EE)].sum() > many_EE.max(1).sum() * 0.8
