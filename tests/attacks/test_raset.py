"""Criteria, choices, evaluation and the command, where the right outcome is known."""

import csv
import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import checkpoint, cli, world
from toymoe.attacks import catalogue, raset, report, study, tuning
from toymoe.attribution import criteria, methods
from toymoe.config import Config, ConfigError, build
from toymoe.model import inference
from toymoe.organism import Organism, stored
from toymoe.runs import sweep

FAST = tuning.Schedule(steps=2, check=2, batch=4)


@pytest.fixture(scope="module")
def organism(tiny, tiny_world):
    V = len(world.vocabulary(tiny.world))
    pretrained, aligned = (random_params(tiny.model, V, seed) for seed in (1, 2))
    return Organism(tiny, tiny_world, pretrained, aligned)


@pytest.fixture(scope="module")
def e(organism):
    return methods.evidence(organism.aligned, organism.tables, organism.cfg, jax.random.key(0), 24)


@pytest.fixture(scope="module")
def tests(organism):
    untuned_GYZ = tuning.untuned(organism.tables, jax.random.key(3))
    return raset.test_set(organism, untuned_GYZ, jax.random.key(1), 32)


# --- criteria -----------------------------------------------------------------------------------


class Told:
    """Evidence whose gates or sensitivities are what the test says."""

    def __init__(self, gates=None, sensitivities=None):
        self.gates = gates
        self._sensitivities = sensitivities

    def each(self, name, make):
        return self._sensitivities

    def once(self, name, make):
        return self._sensitivities


def test_our_reading_is_its_formula(monkeypatch):
    rng = np.random.default_rng(0)
    h, t = rng.normal(size=(2, 3, 4, 50))
    monkeypatch.setattr(methods, "gate_sensitivities", lambda e: (h, t))
    scores = criteria.contrastive_routing_sensitivity(None)
    sd = max((h - t)[x, y].std() for x in range(3) for y in range(4))
    for x in range(3):
        for y in range(4):
            change = h[x, y] - t[x, y]
            assert scores[x, y] == pytest.approx(change.mean() / (change.std() + 1e-3 * sd))


def test_our_reading_prefers_the_steady_expert_and_sees_nothing_in_equal_twins(monkeypatch):
    rng = np.random.default_rng(0)
    h = 0.1 * rng.normal(size=(2, 4, 200))
    t = h.copy()
    h[0, 1] += 1  # on every hazard
    h[1, 2, :20] += 20  # more in the mean, on one hazard in ten
    monkeypatch.setattr(methods, "gate_sensitivities", lambda e: (h, t))
    scores = criteria.contrastive_routing_sensitivity(None)
    assert scores.argmax() == 1 and scores[0, 1] > 3 * scores[1, 2] > 0
    monkeypatch.setattr(methods, "gate_sensitivities", lambda e: (t, t))
    np.testing.assert_array_equal(criteria.contrastive_routing_sensitivity(None), 0)


def test_bootstrap_intersection_is_sure_of_the_planted_and_of_nothing_else():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(1, 60, 2, 8))
    h = t + 0.1 * rng.normal(size=t.shape)
    h[0, :, :, 3] += 1
    share_LE = criteria.gate_contrast_bootstrap(Told((h, t)))
    assert share_LE[0, 3] == 1 and np.delete(share_LE[0], 3).max() < 1
    assert share_LE.sum() == pytest.approx(2)  # a quarter of eight experts in every resample


def test_every_studied_criterion_gives_a_score_for_every_expert(e):
    for name in raset.STUDIED:
        scores = criteria.named(name)(e)
        assert scores.shape == (2, 8) and np.isfinite(scores).all(), name


def test_an_unknown_criterion_is_an_error():
    with pytest.raises(ConfigError, match="did you mean 'gate_contrast'"):
        criteria.named("gate_contrasts")


# --- choices ------------------------------------------------------------------------------------

SCORES = np.array([[0.9, 0.1, 0.5, 0.0], [0.4, 0.8, 0.2, 0.3]])


def chosen(mask):
    return set(map(tuple, np.argwhere(mask).tolist()))


def test_the_highest_scores_are_chosen():
    assert chosen(raset.choose(SCORES, 3)) == {(0, 0), (1, 1), (0, 2)}
    assert chosen(raset.choose(SCORES, 3, layers=1)) == {(1, 1), (1, 0), (1, 3)}
    assert raset.choose(SCORES, 8).all()
    assert chosen(raset.choose(SCORES, 4, leave=2)) == {(0, 0), (0, 2), (1, 1), (1, 0)}
    for n, layers in ((0, None), (9, None), (5, 1)):
        with pytest.raises(ConfigError, match=f"{n} experts are not possible"):
            raset.choose(SCORES, n, layers)


def test_random_choices_are_as_many_anywhere():
    like = raset.choose(SCORES, 3)
    rng = np.random.default_rng(0)
    counts = sum(raset.random_choice(like, rng).astype(int) for _ in range(400))
    assert counts.sum() == 1200 and counts.min() > 100


def test_matched_choices_are_others_of_near_usage():
    usage = np.array([[0.1, 0.12, 0.5, 0.9], [0.3, 0.2, 0.6, 0.7]])
    like = np.array([[True, False, False, False], [False, False, True, True]])
    rng = np.random.default_rng(0)
    for _ in range(20):
        made = raset.matched_choice(like, usage, rng, near=1)
        assert chosen(made) == {(0, 1), (1, 0), (1, 1)}
    everything = np.ones((1, 3), bool)
    assert raset.matched_choice(everything, np.ones((1, 3)), rng).all()


# --- evaluation ---------------------------------------------------------------------------------


def answering(tests, gates, refuse=False):
    """A model that answers everything right, or refuses the hazards."""

    def look(tokens_BP):
        (p,) = [p for p in tests.prompts.values() if p.tokens_BP is tokens_BP]
        said = np.where(p.hazard_B & refuse, world.REFUSE, p.answer_B)
        return inference.Prediction(gates, said)

    return look


def test_prompts_of_the_battery_are_what_their_names_say(tests, organism):
    p, tables = tests.prompts, organism.tables
    assert p["hazardous"].hazard_B.all() and p["untuned"].hazard_B.all()
    assert (p["held_out"].held_out_B & p["held_out"].hazard_B).all()
    assert set(p) == {"mixed", "hazardous", "held_out", "untuned", *world.CONTROLS}
    untuned = tuning.untuned(tables, jax.random.key(3))
    assert untuned[p["untuned"].topic_B, p["untuned"].verb_B, p["untuned"].entity_B].all()


def test_a_perfect_attack_and_a_perfect_model_are_told_apart(tests, organism):
    gates = tests.aligned.gates_LBTE
    attacked = raset.evaluate(answering(tests, gates), tests, organism.cfg)
    refusing = raset.evaluate(answering(tests, gates, True), tests, organism.cfg)
    assert (attacked["refusal"], attacked["hazard_answered"]) == (0, 1)
    assert (refusing["refusal"], refusing["hazard_answered"]) == (1, 0)
    for row in (attacked, refusing):
        assert row["answer_accuracy"] == 1 and row["over_refusal"] == 0
        assert set(row["accuracy_by_kind"].values()) == {1.0}
        assert row["jaccard"] == [1, 1] and row["jaccard_worst"] == 1
        np.testing.assert_allclose(row["js"], 0, atol=1e-12)


def test_a_moved_route_shows_in_its_layer_alone(tests, organism):
    gates = tests.aligned.gates_LBTE.copy()
    gates[1] = np.roll(gates[1], 1, -1)
    row = raset.evaluate(answering(tests, gates), tests, organism.cfg)
    assert row["jaccard"] == [1, 0] and row["jaccard_worst"] == 0
    assert row["jaccard_answer"] == [1, 0]
    assert row["js"][0] == pytest.approx(0, abs=1e-9) and row["js"][1] > 0.1


def test_topic_shares_by_hand():
    gates = np.zeros((1, 2, 2, 3))
    gates[0, 0, 0, 1] = gates[0, 0, 1, 2] = gates[0, 1, 0, 1] = gates[0, 1, 1, 1] = 0.5
    np.testing.assert_array_equal(
        raset.topic_shares(gates, [0, 2], 3), [[[0, 0.5, 0.5], [0, 0, 0], [0, 1, 0]]]
    )


# --- rank correlations and rows of many seeds ---------------------------------------------------


def test_rank_correlation_finds_the_order_and_none_where_there_is_none():
    rng = np.random.default_rng(0)
    truth = rng.random((3, 16))
    found = study.rank_correlations(
        {
            "ablation_zero": truth,
            "monotone": np.exp(5 * truth),
            "reversed": -truth,
            "random": rng.random((3, 16)),
            "constant": np.ones((3, 16)),
        },
        resamples=200,
    )
    assert found["monotone"]["rho"] == 1 and found["reversed"]["rho"] == -1
    assert found["random"]["low"] < 0 < found["random"]["high"]
    assert found["constant"] == {"rho": 0, "low": 0, "high": 0}


def test_a_seed_s_row_names_method_budget_quantity_and_gap():
    numbers = dict(
        refusal=0.1,
        hazard_answered_untuned=0.5,
        hazard_answered=0.9,
        answer_accuracy=0.99,
        jaccard_worst=0.95,
    )
    other = dict(
        refusal=0.4,
        hazard_answered_untuned=0.5,
        hazard_answered=0.5,
        answer_accuracy=0.98,
        jaccard_worst=0.5,
    )
    made = {
        "rows": [
            {"method": "raset", "budget": 8, "jaccard": [1.0, 0.95]} | numbers,
            {"method": "random_experts", "budget": 8, "jaccard": [1.0, 0.5]} | other,
        ],
        "criteria": {"ablation_zero": [[1, 2, 3]], "usage": [[3, 2, 1]]},
    }
    row = study.seed_row(made)
    assert row["raset.8.refusal"] == 0.1 and row["raset.8.jaccard.1"] == 0.95
    assert row["random_experts.8.gap.refusal"] == pytest.approx(0.3)
    assert row["random_experts.8.gap.jaccard_worst"] == pytest.approx(-0.45)
    assert "raset.8.gap.refusal" not in row
    assert row["criteria.usage"] == -1 and row["criteria.ablation_zero"] == 1


# --- the command --------------------------------------------------------------------------------


def few(cfg):
    """Arms that need no training, and one that does."""
    keep = ("none", "raset", "silenced", "random_experts", "steering_off_responses")
    return [arm for arm in every(cfg) if arm.method in keep and arm.budget in (0, 4)]


every = catalogue.plan


@pytest.fixture(scope="module")
def run(small, small_run, tmp_path_factory):
    """A copy of the small run, whose folder may be written to."""
    folder = tmp_path_factory.mktemp("raset") / "run"
    shutil.copytree(small_run.out, folder)
    return folder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setenv("TOYMOE_CACHE", "off")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(catalogue, "plan", few)
    monkeypatch.setattr(catalogue, "BUDGETS", (1, 4))
    monkeypatch.setattr(raset, "PROMPTS", 16)
    monkeypatch.setattr(raset, "STUDIED", (raset.CRITERION, "ablation_zero", "random"))
    monkeypatch.setattr(study.tuning, "DEFAULT", FAST)


def test_the_plan_covers_every_rival_at_every_budget(small):
    plan = {(arm.method, arm.budget) for arm in every(small)}
    assert len(plan) == len(every(small))
    for method in ("raset", "random_experts", "usage_matched", "silenced", "masked"):
        assert {b for m, b in plan if m == method} == {1, 2, 4}
    for method in ("all_experts", "attention_only", "router_only", "full_tuning"):
        assert any(m == method for m, _ in plan)
    for method in ("raset", "router_only", "full_tuning"):
        assert any(m == f"free_{method}" for m, _ in plan)


def closing(cfg):
    """The arms that leave each token its experts."""
    return [arm for arm in every(cfg) if arm.method in ("masked", "steering_off_raset")]


@pytest.mark.parametrize(
    ("settings", "masked", "off"),
    [
        ({"model.layers": 1}, [1, 2, 4], []),  # 8 experts, of which each token takes 2
        ({"model.layers": 2}, [1, 2, 4, 8], [8]),
        ({"model.top_k": 8}, [], []),
    ],
)
def test_no_more_experts_are_closed_than_can_be(settings, masked, off):
    cfg = build("smoke", overrides=settings)
    arms_ = closing(cfg)
    assert [arm.budget for arm in arms_ if arm.method == "masked"] == masked
    assert [arm.budget for arm in arms_ if arm.method == "steering_off_raset"] == off
    shape = (cfg.model.layers, cfg.model.experts)
    told = SimpleNamespace(
        cfg=cfg, params=None, scores=lambda _: np.random.default_rng(0).random(shape)
    )
    for arm in arms_:
        arm.make(told)
    names = [(arm.method, arm.budget) for arm in every(cfg)]
    assert len(set(names)) == len(names)


def test_the_default_plan_closes_at_every_budget():
    assert [(arm.method, arm.budget) for arm in closing(Config())] == [
        ("steering_off_raset", 8),
        *(("masked", n) for n in (1, 2, 4, 8)),
    ]
    assert [arm.budget for arm in every(Config()) if arm.method == "expert_directions"] == [8, 54]


def test_free_tuning_differs_in_the_routing_term_alone(organism, e, monkeypatch):
    asked = []

    def tune(params, place, prompts, cfg, key, schedule):
        asked.append((place, schedule))
        return tuning.Tuned(params, 0, None, [])

    monkeypatch.setattr(tuning, "tune", tune)
    monkeypatch.setattr(raset.lora, "share", lambda *_: 0.0)
    a = raset.Attacker(organism, e, None, jax.random.key(0))
    plan = {(arm.method, arm.budget): arm for arm in every(organism.cfg)}
    (n,) = (budget for method, budget in plan if method == "free_raset")
    for method in ("raset", "free_raset"):
        plan[method, n].make(a)
    (held, schedule), (free, other) = asked
    np.testing.assert_array_equal(held.experts_LE, free.experts_LE)
    assert schedule.route > 0 and other == dataclasses.replace(schedule, route=0.0)


def test_steering_at_ans_goes_by_what_is_selected_there(organism, e):
    a = raset.Attacker(organism, e, None, jax.random.key(0))
    hazards, twins = (np.asarray(gates)[:, :, -1] > 0 for gates in e.gates)
    for layer, expert in np.ndindex(2, 8):
        expected = hazards[layer, :, expert].mean() - twins[layer, :, expert].mean()
        assert a.steering["answer"][layer, expert] == pytest.approx(expected, abs=1e-6)


def test_one_run_cut_off_goes_on_and_ends_the_same(run, quick, monkeypatch):
    whole = study.study(run, FAST)
    shutil.rmtree(run / "raset")
    seen = []

    def stop(p):
        seen.append(p.stage)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.study(run, FAST, stop)
    left = json.loads((run / "raset" / "study.json").read_bytes())
    assert 0 < len(left["rows"]) < len(whole["rows"])
    again = study.study(run, FAST)
    assert again == json.loads(json.dumps(whole))
    stages = []
    assert study.study(run, FAST, lambda p: stages.append(p.stage)) == again
    assert "evidence" not in stages


def test_the_command_writes_table_figures_and_page(run, quick, capsys):
    assert cli.main(["raset", str(run)]) == 0
    out = capsys.readouterr().out
    assert "raset" in out and "Jaccard" in out
    with (run / "raset" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"method", "budget", "share", "refusal", "jaccard.0", "js.1"} <= rows[0].keys()
    page = (run / "raset" / "raset.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "our reading" in page
    assert {p.name for p in (run / "raset" / "figures").iterdir()} == {
        "pareto.png",
        "criteria.png",
        "routes.png",
    }


def test_the_run_s_report_gains_one_section(run, small_run, quick, tmp_path):
    page = Path(shutil.copy(small_run.out / "report.html", tmp_path))
    before = page.read_text()
    assert "<!-- raset -->" not in before
    made = study.study(run, FAST)
    for _ in range(2):
        report.into_report(made, page)
    after = page.read_text()
    assert after.count("<!-- raset -->") == 1 and after.endswith("</body></html>\n")
    kept = after[: after.index("<!-- raset -->")] + after[after.index("<!-- /raset -->") + 15 :]
    assert kept == before


def test_many_seeds_keep_what_the_failing_one_cannot_give(run, quick, tmp_path, capsys):
    out = tmp_path / "many"
    out.mkdir()
    cfg = stored.config(run)
    sweep.claim(cfg, tmp_path / "blank")
    shutil.copy(tmp_path / "blank" / "sweep.json", out)
    shutil.copytree(run, out / "seed-0")
    shutil.copytree(run, out / "seed-1")
    (out / "seed-1" / "aligned.npz").write_bytes(b"no checkpoint")
    assert cli.main(["raset", str(out)]) == 1
    said = capsys.readouterr().out
    assert "seed 0: done" in said and "1 of 2 seeds" in said
    with (out / "raset.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["error"] == "" and rows[1]["error"] != "" and rows[1]["raset.4.refusal"] == ""
    assert (out / "raset-summary.csv").is_file() and (out / "raset" / "raset.html").is_file()


BAD = {
    "raset": "name the folder",
    "raset nowhere": "nowhere is no folder",
    "raset --seeds 0-1": "--out DIR",
    "raset x --seeds 0-1 --out y": "no other folder",
    "raset x --preset smoke": "leave --preset",
    "raset --seeds 1-0 --out y": "'1-0'",
    "defend nowhere": "nowhere is no folder",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOYMOE_CACHE", "off")
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and BAD[line] in err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_run_and_a_damaged_study_are_errors(run, quick, tmp_path, capsys):
    assert cli.main(["raset", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    (run / "raset" / "study.json").write_text("{")
    assert cli.main(["raset", str(run)]) == 2
    assert "damaged" in capsys.readouterr().err
    (run / "raset" / "study.json").unlink()


def test_a_study_of_other_parameters_is_not_reused(run, quick):
    first = study.study(run, FAST)
    params, meta = checkpoint.load(run / "aligned.npz")
    params["unembed"] = params["unembed"] + 1
    checkpoint.save(run / "aligned.npz", params, meta)
    second = study.study(run, FAST)
    assert second["belongs"]["model"] != first["belongs"]["model"]
    assert len(second["rows"]) == len(first["rows"])


def test_a_students_own_criterion_is_a_function(organism, e):
    def mine(evidence):
        return evidence.gates[0].mean((1, 2))

    a = raset.Attacker(organism, e, None, jax.random.key(0))
    np.testing.assert_array_equal(a.scores(mine), mine(e))
    assert raset.choose(a.scores(mine), 3).sum() == 3
    for other in (
        lambda _: np.eye(2, 8),
        lambda _: np.ones((2, 8)),
        partial(lambda x, _: np.full((2, 8), x), 2),
    ):
        np.testing.assert_array_equal(a.scores(other), other(e))
    named = a.scores("random")
    assert a.scores("random") is named and a.scores(mine) is a.scores(mine)
    assert dataclasses.is_dataclass(a)
