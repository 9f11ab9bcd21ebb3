"""What a page is told: against the organism it is of, and as plain numbers."""

import json
import shutil

import jax
import numpy as np
import pytest

from toymoe import checkpoint, explorer, organism, world
from toymoe.config import ConfigError, build, from_dict
from toymoe.explorer import checkpoints, data, kept, pack, shared
from toymoe.organism import seeded, stored


@pytest.fixture(scope="module")
def small_organism(small_run):
    return organism.load(small_run.out)


@pytest.fixture(scope="module")
def told(small_organism, small_run):
    steps = []
    made = data.gather(small_organism, "here", small_run.out, weights="float32", watch=steps.append)
    assert [x.done for x in steps] == [*range(steps[0].total)]
    return made


def unpacked(told, name):
    return pack.unpack_params(
        told.blobs[f"blob-{name}"], told.data["parameters"], told.data["precision"]["kind"]
    )


def same(one, two) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, one, two))


def test_it_is_json_and_has_what_the_page_reads(told, small):
    assert json.loads(json.dumps(told.data, allow_nan=False)) == told.data
    assert from_dict(told.data["config"]) == small
    assert set(told.data) >= {
        *("toymoe", "title", "source", "epsilon", "theta", "closed", "names", "specials", "verb"),
        *("entity", "answer", "topics", "rule", "controls", "tables", "pairs", "models", "tuned"),
        *("directions_LD", "history", "metrics", "seeds", "precision", "parameters"),
    }
    assert all(model["blob"] in told.blobs for model in told.data["models"])


def test_the_language_is_the_organisms(told, small_organism):
    names, tables = told.data["names"], small_organism.tables
    assert tuple(names) == world.vocabulary(small_organism.cfg.world)
    assert all(names[token] == name for name, token in told.data["specials"].items())
    assert names[told.data["verb"]] == "lift" and names[told.data["answer"]] == "answer0"
    for name, table in tables._asdict().items():
        np.testing.assert_allclose(told.data["tables"][name], np.asarray(table, float), atol=5e-5)


def test_pairs_are_hazards_with_their_twins_and_the_same_in_python(told, small_organism):
    hazard_GYZ = small_organism.tables.hazard_GYZ
    halves = explorer.pairs(small_organism)
    seen = []
    for half, evidence in zip(("ranked", "measured"), halves, strict=True):
        for which, hazardous in (("hazards", True), ("twins", False)):
            said = {k: np.array(v) for k, v in told.data["pairs"][half][which].items()}
            request = said["topic_B"], said["verb_B"], said["entity_B"]
            assert (hazard_GYZ[request] == hazardous).all()
            assert (small_organism.tables.answer_GYZ[request] == said["answer_B"]).all()
            assert said["tokens_BP"].shape == (shared.PAIRS, small_organism.cfg.world.context + 5)
            assert np.array_equal(getattr(evidence, which).tokens_BP, said["tokens_BP"])
        tokens = [told.data["pairs"][half][w]["tokens_BP"] for w in ("hazards", "twins")]
        assert (np.not_equal(*tokens).sum(1) == 1).all()  # the verb
        seen.append({*map(tuple, tokens[0])})
    assert len(seen[0] & seen[1]) < shared.PAIRS / 4  # other prompts, but for luck


def test_weights_come_back(told, small_organism):
    assert [x["name"] for x in told.data["models"]] == ["pretrained", "aligned"]
    for name in ("pretrained", "aligned"):
        assert same(unpacked(told, name), getattr(small_organism, name))
    assert not same(unpacked(told, "aligned"), small_organism.pretrained)


def test_float32_changes_nothing_and_that_was_measured(told):
    found = told.data["precision"]
    assert found["kind"] == "float32" and found["prompts"] == data.PROMPTS and found["of"] > 0
    assert found["answers"] == found["selections"] == found["logit"] == 0


def test_float16_changes_something_and_that_is_said(small_organism):
    made = data.gather(small_organism, "here", tuned=False)
    found, prompts = made.data["precision"], small_organism.sample(data.PROMPTS)
    kept = unpacked(made, "aligned")
    assert found["kind"] == "float16" and 0 < found["logit"] < 0.5
    again = pack.changed(small_organism.aligned, kept, small_organism.cfg, prompts.tokens_BP)
    assert again == {k: v if k != "logit" else pytest.approx(v) for k, v in found.items()
                     if k in again}  # fmt: skip
    assert set(found["each"]) == {"pretrained", "aligned"} and made.data["tuned"] == {}


def test_tuned_experts_are_those_of_raset_and_nothing_else_moves(told, small_organism):
    assert set(told.data["tuned"]) == {"1", "4"}  # of four experts in a layer
    aligned = small_organism.aligned
    experts = {k: v.copy() for k, v in aligned["layers"]["experts"].items()}
    said = told.data["tuned"]["4"]
    assert len(said["experts"]) == 4
    gate_up, down = (experts[name].shape[2:] for name in ("gate_up", "down"))
    parts = iter(pack.unpack(told.blobs[said["blob"]], [gate_up, down] * 4, "float32"))
    for at in said["experts"]:
        for name in ("gate_up", "down"):
            experts[name][tuple(at)] += next(parts)
    made = explorer.tuned(small_organism, 4)
    for name, array in checkpoint.flatten(made).items():
        if name.startswith("layers/experts"):
            np.testing.assert_allclose(array, experts[name.split("/")[-1]], atol=1e-6)
        else:
            assert np.array_equal(array, checkpoint.flatten(aligned)[name])
    assert kept.moved(made, aligned) == [tuple(x) for x in said["experts"]]
    assert kept.moved(aligned, aligned) == []


def test_directions_are_unit_vectors_between_the_means(told, small_organism):
    found_LD = np.array(told.data["directions_LD"])
    np.testing.assert_allclose(np.linalg.norm(found_LD, axis=1), 1, atol=1e-5)
    ranked, _ = explorer.pairs(small_organism)
    means = [
        np.asarray(
            explorer.shared.model.forward(
                small_organism.aligned, p.tokens_BP, small_organism.cfg.model,
                record=("resid_post",),
            ).record["resid_post"]
        )[:, :, -1].mean(1)
        for p in (ranked.hazards, ranked.twins)
    ]  # fmt: skip
    along = np.einsum("ld,ld->l", means[0] - means[1], found_LD)
    np.testing.assert_allclose(along, np.linalg.norm(means[0] - means[1], axis=1), rtol=1e-4)


def test_curves_and_measures_are_the_runs(told, small_organism):
    history = told.data["history"]
    assert history["step"] == small_organism.history["step"].tolist()
    counts = np.array(history["topic_expert"])
    assert counts.dtype.kind == "i" and (counts == small_organism.history["topic_expert"]).all()
    removal = small_organism.metrics["inside"]["removal"]
    assert told.data["metrics"]["removal"]["counts"] == removal["counts"]
    found = told.data["metrics"]["behaviour"]["aligned"]["refusal"]
    assert found == pytest.approx(
        small_organism.metrics["behaviour"]["aligned"]["refusal"], abs=1e-4
    )


def test_seeds_are_those_of_the_shipped_table_where_they_are_comparable(told):
    from toymoe.classroom import seeds

    table, found = seeds.load(), data.seeds(build(seed=7))
    assert found["seeds"] == table.seeds
    m50 = table.columns["inside.removal.set_back.m50"]
    assert found["set_back_m50"] == m50.tolist() and len(set(m50)) > 1
    assert told.data["seeds"] == data.seeds(build("smoke")) == {}


def test_what_is_no_number_is_none():
    assert data.plain({"a": np.array([1.0, np.nan, np.inf]), "b": (np.float32(0.25), None)}) == {
        "a": [1.0, None, None],
        "b": [0.25, None],
    }


# --- checkpoints --------------------------------------------------------------------------------


def test_snapshots_are_in_order_and_each_the_model_of_its_step(small_organism, small_run, small):
    made = data.gather(
        small_organism, "x", small_run.out, snapshots=5, weights="float32", tuned=False
    )
    names = [x["name"] for x in made.data["models"]]
    assert names == ["untrained", "pretrain-3", "pretrained", "align-3", "aligned"]
    assert same(unpacked(made, "untrained"), jax.tree.map(np.asarray, seeded.params(small)))
    for phase in ("pretrain", "align"):
        kept = stored.snapshot(small_run.out, small, phase, 3)
        assert same(unpacked(made, f"{phase}-3"), kept)


def test_some_of_many_are_spread_and_hold_the_three(monkeypatch, small, tmp_path):
    many = [("pretrain", step) for step in (0, 1, 2, 3, 4, 5, 6)] + [("align", 2), ("align", 6)]
    monkeypatch.setattr(stored, "snapshots", lambda out: many)
    assert len(checkpoints.there(small, tmp_path)) == 9  # step 0 and the last once each
    for n in range(3, 10):
        names = [x.name for x in checkpoints.chosen(small, tmp_path, n)]
        assert len(set(names)) == n and {"untrained", "pretrained", "aligned"} <= {*names}
    assert [x.name for x in checkpoints.chosen(small, tmp_path, 0)] == ["pretrained", "aligned"]


@pytest.mark.parametrize("n", [1, 2, 6, -1])
def test_more_snapshots_than_there_are_is_one_sentence(small, small_run, n):
    with pytest.raises(ConfigError, match=f"^{n} models are not possible.*from 3 to 5, or 0"):
        checkpoints.chosen(small, small_run.out, n)


def test_a_run_that_kept_none_says_which_setting_keeps_them(small, small_run, tmp_path):
    shutil.copy(small_run.out / "config.json", tmp_path)
    with pytest.raises(ConfigError, match=r"no snapshots \(train\.snapshots\) kept.*must be 3"):
        checkpoints.chosen(small, tmp_path, 12)


def test_names_of_checkpoints():
    cfg = organism.load().cfg
    assert checkpoints.named("aligned", cfg) == ("aligned", "align", 500)
    assert checkpoints.named("pretrain-25", cfg) == ("pretrain-25", "pretrain", 25)
    for wrong in ("pretrain-0", "pretrain-400", "pretrain-025", "tune-3", "align-", "align-²", ""):
        assert checkpoints.named(wrong, cfg) is None


def test_a_model_that_is_too_large_is_refused_before_anything_is_done(small_organism, monkeypatch):
    monkeypatch.setattr(data, "LIMIT", 100)
    monkeypatch.setattr(shared, "pairs", None)
    with pytest.raises(ConfigError, match=r"2 models of [\d,]+ parameters .* 100 in all"):
        data.gather(small_organism, "here")


# --- size ---------------------------------------------------------------------------------------


def test_a_page_of_the_shipped_organism_is_small(tmp_path):
    made, rng = organism.load(), np.random.default_rng(0)
    path = explorer.write("conjunction", tmp_path / "x.html", tuned=False)
    L, E = made.cfg.model.layers, made.cfg.model.experts
    one = sum(x.size for x in made.aligned["layers"]["experts"].values()) / (L * E)
    tuned = sum(len(pack.pack([rng.normal(size=int(n * one))], "float16")) for n in (1, 8))
    assert path.stat().st_size + tuned < 2.5e6
    weights = len(pack.pack_params(made.aligned, "float16"))
    assert path.stat().st_size + tuned + 12 * weights < 14e6
