"""Experts taken out and weights changed in JavaScript, held against the package."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from explorer.engine import Engine, text_of

from toymoe import organism, world
from toymoe.attacks import steering
from toymoe.attribution import ablation, choice, evidence, removal, without
from toymoe.model import taps, transformer

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("optimised")]

CLOSE = 1e-4  # nats
PAIRS = 12
WAYS = ("set_back", "silenced", "masked")


@cache
def shipped(name="conjunction"):
    """Evidence of a shipped organism: pairs that were drawn for this test."""
    o = organism.load(name)
    e = evidence.gather(o.aligned, o.tables, o.cfg, jax.random.key(5), 2 * PAIRS, o.pretrained)
    hazards, twins = (world.Prompts(*(x[:PAIRS] for x in p)) for p in (e.hazards, e.twins))
    return evidence.Evidence(o.aligned, o.cfg.model, hazards, twins, o.pretrained)


def prompts_of(prompts):
    return {
        "tokens_BP": np.asarray(prompts.tokens_BP).tolist(),
        "answer_B": np.asarray(prompts.answer_B).tolist(),
    }


def begun(page, e, text=None):
    """The engine with a model and its pairs in it."""
    engine = Engine(page, text)
    engine.keep(
        params=e.params,
        before=e.pretrained,
        cfg=dataclasses.asdict(e.cfg),
        pairs={"hazards": prompts_of(e.hazards), "twins": prompts_of(e.twins)},
    )
    return engine


# --- what is left -------------------------------------------------------------------------------


def test_what_the_model_says(page):
    e = shipped()
    found = begun(page, e).run(
        "return { hazards: answers(params, cfg, pairs.hazards), all: meters(params, cfg, pairs) }"
    )
    said = e.answers[0]
    np.testing.assert_allclose(found["hazards"]["margin"], said.margin_B, atol=CLOSE)
    np.testing.assert_array_equal(found["hazards"]["predicted"], said.predicted_B)
    assert found["all"]["refused"] == (said.predicted_B == world.REFUSE).mean() > 0.9
    assert found["all"]["margin"] == pytest.approx(said.margin_B.mean(), abs=CLOSE)


def each_alone(e, way):
    """Margin and prediction of every prompt without every expert, [X, B] of hazards and twins."""
    shape = e.cfg.layers, e.cfg.experts
    one_XLE = np.eye(np.prod(shape), dtype=bool).reshape(-1, *shape)
    return [without.answers(e, prompts, one_XLE, way) for prompts in (e.hazards, e.twins)]


SWEEP = "return finish(sweep_steps(params, before, cfg, pairs[kind], way))"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["conjunction", "topic"])
def test_every_expert_alone(page, name, way):
    e = shipped(name)
    engine = begun(page, e)
    lost = engine.run("return alone(params, before, cfg, pairs, way)", way=way)
    np.testing.assert_allclose(lost["margin"], removal.alone(e, way).ravel(), atol=CLOSE)
    said = {"hazards": e.answers[0], "twins": e.answers[1]}
    for kind, theirs in zip(("hazards", "twins"), each_alone(e, way), strict=True):
        mine = engine.run(SWEEP, kind=kind, way=way)
        np.testing.assert_allclose(mine["margin"], theirs.margin_B.ravel(), atol=CLOSE)
        np.testing.assert_array_equal(mine["predicted"], theirs.predicted_B.ravel())
        right_XB = theirs.predicted_B == getattr(e, kind).answer_B
        fall_X = (said[kind].predicted_B == getattr(e, kind).answer_B).mean() - right_XB.mean(-1)
        name = "answered" if kind == "hazards" else "twins"
        np.testing.assert_allclose(lost[name], fall_X, atol=1e-12)
        if kind == "hazards":
            fall_X = said[kind].predicted_B == world.REFUSE
            fall_X = fall_X.mean() - (theirs.predicted_B == world.REFUSE).mean(-1)
            np.testing.assert_allclose(lost["refused"], fall_X, atol=1e-12)
    assert np.abs(lost["margin"]).max() > 0.01  # there is something to be found


@pytest.mark.parametrize("way, value", [("silenced", "zero"), ("set_back", "pretrained")])
@pytest.mark.parametrize("frozen", [False, True])
def test_later_routes_free_or_frozen(page, way, value, frozen):
    """By another way of the package: `ablate`, which resumes runs too, but sweeps by layers."""
    e = shipped()
    effect = ablation.ablate(e, value)
    effect = effect.frozen if frozen else effect.free
    lost = begun(page, e).run(
        "return alone(params, before, cfg, pairs, way, frozen)", way=way, frozen=frozen
    )
    np.testing.assert_allclose(lost["margin"], effect.margin.ravel(), atol=CLOSE)
    np.testing.assert_allclose(lost["refused"], effect.refusal.ravel(), atol=1e-6)
    np.testing.assert_allclose(lost["twins"], effect.accuracy.ravel(), atol=1e-6)


def test_free_and_frozen_differ(page):
    code = "return [false, true].map((x) => alone(params, before, cfg, pairs, way, x).margin)"
    engine = begun(page, shipped())
    for way in WAYS:
        free, frozen = engine.run(code, way=way)
        assert np.abs(free - frozen).max() > 100 * CLOSE
        last = shipped().cfg.experts
        np.testing.assert_array_equal(free[-last:], frozen[-last:])  # no later route there


def test_masked_with_later_routes_frozen(page):
    """By edits: the closed expert's layer is free, the others go the unedited way."""
    e, cfg, layer, expert = shipped(), shipped().cfg, 0, 4
    tokens_BT = e.hazards.tokens_BP
    routes = transformer.forward(e.params, tokens_BT, cfg, grouped=True).routes
    edits = taps.edits(
        cfg,
        tokens_BT,
        router_logits=taps.replace(
            taps.places("router_logits", cfg, tokens_BT, layer=layer, expert=expert), taps.CLOSED
        ),
        route=taps.freeze(routes, taps.places("route", cfg, tokens_BT, layer=[1, 2])),
    )
    logits_BTV = transformer.forward(e.params, tokens_BT, cfg, edits=edits).logits_BTV
    margin_B = evidence.refusal_logit_diff(np.asarray(logits_BTV[:, -1]), e.hazards.answer_B)
    lost = begun(page, e).run("return alone(params, before, cfg, pairs, 'masked', true).margin")
    fall = (e.answers[0].margin_B - margin_B).mean()
    assert lost[layer * cfg.experts + expert] == pytest.approx(fall, abs=CLOSE)


MANY = """
const out = mask_of(experts, cfg), T = pairs.hazards.tokens_BP[0].length;
const at = (tap) => experts.map(([layer, expert]) => places(tap, cfg, T, { layer, expert }))
  .reduce((a, b) => a.map((on, i) => on | b[i]));
const edits = { silenced: () => ({ expert_out: zero(at("expert_out")) }), set_back: () => ({}),
  masked: () => ({ router_logits: replace(at("router_logits"), CLOSED) }) }[way]();
const model = way === "set_back" ? set_back(params, before, out) : params;
return { hazards: answers(model, cfg, pairs.hazards, edits),
         all: meters(model, cfg, pairs, edits) };
"""


@pytest.mark.parametrize("way", WAYS)
def test_several_experts_at_once(page, way):
    e = shipped()
    shape = e.cfg.layers, e.cfg.experts
    out_LE = choice.highest(removal.alone(e, way), 8, leave=e.cfg.top_k)
    theirs = without.answers(e, e.hazards, out_LE[None], way)
    twins = without.answers(e, e.twins, out_LE[None], way)
    mine = begun(page, e).run(MANY, experts=np.argwhere(out_LE).tolist(), way=way)
    np.testing.assert_allclose(mine["hazards"]["margin"], theirs.margin_B[0], atol=CLOSE)
    np.testing.assert_array_equal(mine["hazards"]["predicted"], theirs.predicted_B[0])
    assert mine["all"]["twins"] == (twins.predicted_B[0] == e.twins.answer_B).mean()
    assert out_LE.shape == shape


def test_frozen_to_another_models_routes(page):
    """Silenced weights on the routes of the whole model: `frozen` of `answers`."""
    e = shipped()
    out_LE = choice.highest(removal.alone(e, "silenced"), 6)
    routes = transformer.forward(e.params, e.hazards.tokens_BP, e.cfg, grouped=True).routes
    edits = taps.edits(e.cfg, e.hazards.tokens_BP, route=taps.freeze(routes))
    silent = steering.silence(e.params, out_LE)
    out = transformer.forward(silent, e.hazards.tokens_BP, e.cfg, edits=edits)
    logits_BV = np.asarray(out.logits_BTV[:, -1])
    code = "const model = silence(params, out);\n"
    found = begun(page, e).run(
        code + "return [params, null].map((x) => answers(model, cfg, pairs.hazards, {}, x).margin)",
        out=out_LE.ravel(),
    )
    margin_B = evidence.refusal_logit_diff(logits_BV, e.hazards.answer_B)
    np.testing.assert_allclose(found[0], margin_B, atol=CLOSE)
    assert np.abs(found[0] - found[1]).max() > CLOSE


BUGS = {
    "the last place that used it only": ("from = Math.min(from, t);", "from = t;"),
    "keys of the base run kept": (
        "resume(params, cfg, run, layer + 1, x_TD, from, edits)",
        "resume(params, cfg, run, layer + 1, x_TD, run.T - 1, edits)",
    ),
    "gates forgotten": ("x_TD[t * D + d] += gate *", "x_TD[t * D + d] += "),
    "the expert's own weights": ("said(layer, t, expert, other)", "said(layer, t, expert)"),
    "the attention's norm": ("params.layers.moe_norm", "params.layers.attention_norm"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(page, bug):
    e, (old, new) = shipped(), BUGS[bug]
    assert old in text_of()
    wrong = begun(page, e, text_of().replace(old, new))
    lost = wrong.run("return alone(params, before, cfg, pairs, 'set_back').margin")
    assert np.abs(lost - removal.alone(e, "set_back").ravel()).max() > CLOSE


# --- which experts ------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [0, 2])
def test_the_highest(page, leave):
    scores_LE = np.random.default_rng(1).integers(0, 5, (3, 6)).astype(np.float32)  # ties, too
    engine = Engine(page)
    for n in (1, 5, 12):
        mine = engine.run(
            "return highest(scores, n, { experts: 6 }, leave)",
            scores=scores_LE.ravel(),
            n=n,
            leave=leave,
        )
        np.testing.assert_array_equal(mine, choice.highest(scores_LE, n, leave=leave).ravel())


def test_random_ones_and_those_used_as_much(page):
    rng = np.random.default_rng(2)
    like_LE = np.zeros((3, 8), bool)
    like_LE[[0, 0, 0, 2], [1, 4, 5, 7]] = True
    usage_LE = rng.random((3, 8)).astype(np.float32)
    engine = Engine(page)
    engine.keep(like=like_LE.ravel(), usage=usage_LE.ravel(), cfg={"experts": 8})
    nearest = engine.run("return matched(like, usage, seeded(1), cfg, 1)")
    np.testing.assert_array_equal(nearest, choice.matched(like_LE, usage_LE, rng, 1).ravel())
    code = "return [1, 1, 2, 3, 4, 5].map((seed) => make(seeded(seed)))"
    for make in ("(rng) => matched(like, usage, rng, cfg)", "(rng) => random(like, rng)"):
        first, again, *others = engine.run(f"const make = {make};\n{code}")
        np.testing.assert_array_equal(first, again)
        assert any((first != other).any() for other in others)
        for made in (first, *others):
            assert made.sum() == like_LE.sum()
            if "usage" in make:
                made_LE = made.reshape(3, 8).astype(bool)
                assert not (made_LE & like_LE).any()
                np.testing.assert_array_equal(made_LE.sum(1), like_LE.sum(1))
    full = np.ones((1, 3), bool)  # no other is left
    mine = engine.run("return matched(full, usage, seeded(1), { experts: 3 })", full=full.ravel())
    assert mine.all()


# --- weights ------------------------------------------------------------------------------------


def test_changed_weights(page):
    e, rng = shipped(), np.random.default_rng(4)
    D, shape = e.cfg.width, (e.cfg.layers, e.cfg.experts)
    out_LE, r_D = rng.random(shape) < 0.3, rng.normal(size=D)
    r_D = (r_D / np.linalg.norm(r_D)).astype(np.float32)
    one = {k: x[1, 3] for k, x in e.params["layers"]["experts"].items()}
    change = {k: rng.normal(size=x.shape).astype(np.float32) for k, x in one.items()}
    engine = begun(page, e)
    found = engine.run(
        "const copy = structuredClone(params); const made = { back: set_back(params, before, out),"
        " silent: silence(params, out), without: project_out(params, r),"
        " tuned: tuned(params, [[1, 3]], [change], cfg) };"
        "return { ...made, same: JSON.stringify(copy) === JSON.stringify(params) }",
        out=out_LE.ravel(),
        r=r_D,
        change=change,
    )
    assert found.pop("same")  # arguments are left alone
    experts, other = e.params["layers"]["experts"], e.pretrained["layers"]["experts"]

    def with_experts(experts):
        return e.params | {"layers": e.params["layers"] | {"experts": experts}}

    tuned = {name: np.array(x) for name, x in experts.items()}
    for name, x in tuned.items():
        x[1, 3] += change[name]
    back = {k: np.where(out_LE[..., None, None], other[k], x) for k, x in experts.items()}
    theirs = {
        "back": with_experts(back),
        "silent": steering.silence(e.params, out_LE),
        "without": steering.project_out(e.params, r_D),
        "tuned": with_experts(tuned),
    }
    for name, params in theirs.items():
        jax.tree.map(
            lambda mine, x: np.testing.assert_allclose(mine, np.ravel(x), atol=1e-6),
            found[name],
            dict(params),
        )
        assert np.any(np.ravel(params["layers"]["experts"]["down"]) != np.ravel(experts["down"]))
