"""Attribution against surgery, slow loops, finite differences and planted seats."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toymoe import checkpoint, model, world
from toymoe.attribution import (
    ablation,
    direct_logit_attribution,
    methods,
    patching,
    weight_patching,
)
from toymoe.model import taps

N = 24


@pytest.fixture(scope="module")
def cfg(taught):
    return taught.cfg


@pytest.fixture(scope="module")
def tables(taught):
    return taught.tables


@pytest.fixture(scope="module")
def trained(taught):
    key = jax.random.key(1)
    return methods.evidence(taught.aligned, taught.tables, taught.cfg, key, N, taught.pretrained)


@pytest.fixture(scope="module")
def untrained(trained, taught):
    """Random parameters of the same shape, on the same prompts."""
    return dataclasses.replace(trained, params=taught.random(2), pretrained=taught.random(3))


@pytest.fixture(params=["trained", "untrained"])
def e(request):
    return request.getfixturevalue(request.param)


def _forward(params, tokens_BT, cfg, edits=None, record=()):
    """The reference path, op by op."""
    return model.forward_unchecked(params, tokens_BT, cfg, False, edits, record)


def said(params, e, prompts, edits=None):
    """Margin and answer of each prompt, by the reference path."""
    logits_BV = np.asarray(_forward(params, prompts.tokens_BP, e.cfg, edits).logits_BTV[:, -1])
    right_B = np.asarray(prompts.answer_B)
    margin_B = logits_BV[:, world.REFUSE] - logits_BV[np.arange(len(right_B)), right_B]
    return margin_B, logits_BV.argmax(-1)


def values(params, e, edits=(None, None)):
    """The four numbers of `ablation.Effect`, from whole runs."""
    (hazard, says), (twin, answers) = (
        said(params, e, prompts, edit)
        for prompts, edit in zip((e.hazards, e.twins), edits, strict=True)
    )
    right = (answers == np.asarray(e.twins.answer_B)).mean()
    return np.array([hazard.mean(), (says == world.REFUSE).mean(), right, twin.mean()])


def with_expert(params, layer, expert, theirs):
    """The parameters with one expert's two matrices replaced, or zeroed."""
    experts = {k: np.array(v) for k, v in params["layers"]["experts"].items()}
    for name, leaf in experts.items():
        leaf[layer, expert] = 0 if theirs is None else theirs[name][layer, expert]
    return params | {"layers": params["layers"] | {"experts": experts}}


# --- the evidence -------------------------------------------------------------------------------


def test_hazards_and_their_twins_differ_in_the_verb_alone(trained, cfg, tables):
    h, t = trained.hazards, trained.twins
    assert len(h.answer_B) == N and h.hazard_B.all() and not t.hazard_B.any()
    verb = world.roles(cfg.world).index("verb")
    differ = np.asarray(h.tokens_BP) != np.asarray(t.tokens_BP)
    assert differ[:, verb].all() and not np.delete(differ, verb, 1).any()
    refusal = (trained.spoken[0].predicted_B == world.REFUSE).mean()
    assert refusal > 0.7 and (trained.spoken[1].predicted_B == world.REFUSE).mean() < 0.3


def test_a_shuffled_pair_is_the_pair_or_its_mirror_image(trained):
    mixed = trained.shuffled(jax.random.key(0))
    a, b = np.asarray(trained.hazards.tokens_BP), np.asarray(trained.twins.tokens_BP)
    same = (mixed.hazards.tokens_BP == a).all(1)
    assert 0 < same.sum() < N
    np.testing.assert_array_equal(mixed.hazards.tokens_BP, np.where(same[:, None], a, b))
    np.testing.assert_array_equal(mixed.twins.tokens_BP, np.where(same[:, None], b, a))
    np.testing.assert_array_equal(mixed.hazards.hazard_B, same)


@pytest.mark.parametrize("how", ["shuffled", "resampled"])
def test_what_is_rearranged_is_what_would_be_computed_anew(how, trained):
    made = getattr(trained, how)(jax.random.key(3))
    anew = methods.Evidence(
        made.params, made.cfg, made.hazards, made.twins, pretrained=made.pretrained
    )
    changed = 0
    for name, method in methods.METHODS.items():
        if how == "resampled" and name.startswith("ablation_mean"):
            continue  # keeps the means of all pairs
        np.testing.assert_allclose(method(made), method(anew), atol=1e-4, err_msg=name)
        changed += not np.allclose(method(made), method(trained), atol=1e-3)
    assert changed > 8
    other = dataclasses.replace(made, params=made.pretrained)  # no longer made from the first
    assert other.spoken[0].margin_B.mean() < made.spoken[0].margin_B.mean() - 1


def bad(e, **changed):
    return dataclasses.replace(e, **changed)


def fewer_words(params):
    return params | {"embed": params["embed"][1:], "unembed": params["unembed"][:, 1:]}


def fewer(prompts):
    return world.Prompts(*(np.asarray(x)[1:] for x in prompts))


BAD = {
    "fewer twins": (lambda e, c: bad(e, twins=fewer(e.twins)), "not pairs"),
    "no prompts": (
        lambda e, c: bad(
            e,
            **{
                k: world.Prompts(*(np.asarray(x)[:0] for x in e.twins))
                for k in ("hazards", "twins")
            },
        ),
        "at least one",
    ),
    "token outside": (
        lambda e, c: bad(e, hazards=e.hazards._replace(tokens_BP=e.hazards.tokens_BP + 500)),
        "is not in the vocabulary",
    ),
    "other shape": (
        lambda e, c: bad(e, cfg=dataclasses.replace(e.cfg, experts=4)),
        r"params\['layers'\]\['router'\]|params\['layers'\]\['experts'\]",
    ),
    "other checkpoint": (
        lambda e, c: bad(e, pretrained=fewer_words(e.params)),
        "two checkpoints have different shapes",
    ),
    "swap of two shapes": (
        lambda e, c: weight_patching.swap(e.params, fewer_words(e.params), ()),
        "two checkpoints have different shapes",
    ),
    "component": (
        lambda e, c: weight_patching.swap(e.params, e.params, ["expert"]),
        "'expert' is not known",
    ),
    "value": (lambda e, c: ablation.ablate(e, "median"), "zero, mean, pretrained"),
    "no checkpoint": (
        lambda e, c: weight_patching.by_component(bad(e, pretrained=None)),
        "pretrained=…",
    ),
    "tap": (lambda e, c: patching.patch(e, "head_outs"), "did you mean 'head_out'"),
    "axis": (lambda e, c: patching.patch(e, "gates", "LH"), "gates cannot be swept over 'H'"),
    "expert of a selection": (
        lambda e, c: patching.patch(e, "selected", "LE"),
        "selected cannot be swept over 'E': choose among L, T",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, trained, cfg):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call(trained, cfg)
    assert "\n" not in str(error.value)


# --- decomposition ------------------------------------------------------------------------------


def test_the_parts_sum_to_the_margin_and_are_what_a_slow_sum_says(e):
    for prompts in (e.hazards, e.twins):
        parts = direct_logit_attribution.decompose(e.params, e.cfg, prompts)
        total = parts.embedding_B + parts.heads_LHB.sum((0, 1)) + parts.experts_LEB.sum((0, 1))
        np.testing.assert_allclose(total, said(e.params, e, prompts)[0], atol=1e-4)
        np.testing.assert_allclose(parts.margin_B, total, atol=1e-4)
        out = _forward(
            e.params, prompts.tokens_BP, e.cfg, record=("head_out", "contribution", "resid_post")
        )
        for b in (0, N - 1):
            x_D = np.float64(out.record["resid_post"][-1, b, -1])
            unembed = e.params["unembed"]
            toward = unembed[:, world.REFUSE] - unembed[:, int(prompts.answer_B[b])]
            toward = toward * e.params["final_norm"] / np.sqrt((x_D**2).mean() + 1e-5)
            token = int(prompts.tokens_BP[b, -1])
            assert parts.embedding_B[b] == pytest.approx(
                e.params["embed"][token] @ toward, abs=1e-4
            )
            for layer in range(e.cfg.layers):
                heads = out.record["head_out"][layer, b, -1] @ toward
                experts = out.record["contribution"][layer, b, -1] @ toward
                np.testing.assert_allclose(parts.heads_LHB[layer, :, b], heads, atol=1e-4)
                np.testing.assert_allclose(parts.experts_LEB[layer, :, b], experts, atol=1e-4)


# --- ablation -----------------------------------------------------------------------------------


def test_ablation_is_what_cutting_the_expert_out_does(e):
    before = values(e.params, e)
    found, means = ablation.ablate(e), np.asarray(ablation.mean_outputs(e))
    mean, swapped = ablation.ablate(e, "mean"), ablation.ablate(e, "pretrained")
    theirs = e.pretrained["layers"]["experts"]
    runs = [
        _forward(e.params, p.tokens_BP, e.cfg, record=("expert_out", "selected", "resid_post"))
        for p in (e.hazards, e.twins)
    ]
    out = np.concatenate([run.record["expert_out"] for run in runs], 1)
    sel = np.concatenate([run.record["selected"] for run in runs], 1)
    slow_means = (sel[..., None] * out).sum((1, 2)) / np.maximum(sel.sum((1, 2)), 1)[..., None]
    np.testing.assert_allclose(means, slow_means, atol=1e-4)
    for layer in range(e.cfg.layers):
        for x in range(e.cfg.experts):
            at = (layer, x)
            where = taps.places("expert_out", e.cfg, e.hazards.tokens_BP, layer=layer, expert=x)
            later = np.arange(e.cfg.layers)[:, None, None] > layer
            frozen = [taps.Edits(route=taps.freeze(run.routes, later)) for run in runs]
            for result, other in ((found, None), (swapped, theirs)):
                cut = with_expert(e.params, layer, x, other)
                np.testing.assert_allclose(
                    [part[at] for part in result.free], before - values(cut, e), atol=1e-4
                )
                np.testing.assert_allclose(
                    [part[at] for part in result.frozen],
                    before - values(cut, e, frozen),
                    atol=1e-4,
                )
            edit = taps.replace(where, means[layer, x].reshape(1, 1, 1, 1, -1))
            free = [taps.Edits(expert_out=edit)] * 2
            np.testing.assert_allclose(
                [part[at] for part in mean.free], before - values(e.params, e, free), atol=1e-4
            )
    for result in (found, mean, swapped):
        for free, fixed, routed in zip(result.free, result.frozen, result.routed, strict=True):
            np.testing.assert_array_equal(routed, free - fixed)
        assert np.abs(result.routed.margin[:-1]).max() > 1e-3  # some goes through the route
        assert (result.routed.margin[-1] == 0).all()  # and none where no route follows
    assert found.base.margin == pytest.approx(said(e.params, e, e.hazards)[0].mean(), abs=1e-4)


@pytest.mark.parametrize("size", [1, 7, 24, 100])  # 24 = 3 · 7 + 3
def test_chunks_and_their_rest_are_all_prompts_once(size):
    seen = []

    def twice(chunk):
        seen.append(chunk[0].shape[0])
        return jnp.stack([2 * chunk[0], chunk[1][:, 1]]), chunk[0]

    x_B, y_B2 = np.arange(24), np.arange(48).reshape(24, 2)
    found, same = methods.ev.by_chunks(twice, (x_B, y_B2), size)
    np.testing.assert_array_equal(found, [2 * x_B, y_B2[:, 1]])
    np.testing.assert_array_equal(same, x_B)
    assert set(seen) == {min(size, 24)}


# --- patching -----------------------------------------------------------------------------------


def pair_margin(e, tokens_BT, edits=None):
    logits_BV = np.asarray(_forward(e.params, tokens_BT, e.cfg, edits).logits_BTV[:, -1])
    rows, h, t = np.arange(N), *(np.asarray(p.answer_B) for p in (e.hazards, e.twins))
    return logits_BV[:, world.REFUSE] - np.maximum(logits_BV[rows, h], logits_BV[rows, t])


def test_patching_everything_gives_the_twin_and_patching_what_comes_too_late_gives_nothing(e):
    margins = [pair_margin(e, p.tokens_BP).mean() for p in (e.hazards, e.twins)]
    everything = patching.patch(e, "resid_pre", "")
    np.testing.assert_allclose([everything.removed, everything.restored], 1, rtol=1e-5)
    np.testing.assert_allclose(everything.margin, margins, atol=1e-4)
    places = patching.patch(e, "resid_post", "LT")
    assert places.removed.shape == (e.cfg.layers, e.hazards.tokens_BP.shape[1])
    verb = places.removed.shape[1] - 3
    for share in (places.removed, places.restored):
        assert share[-1, -1] == pytest.approx(1, rel=1e-5)  # the last stream at ANS is all there is
        assert (share[-1, :-1] == 0).all() and (share[:, :verb] == 0).all()
        assert share[0, verb] != 0


def test_patching_a_prompt_from_itself_gives_nothing(trained):
    same = dataclasses.replace(trained, twins=trained.hazards)
    found = patching.patch(same, "resid_post", "LT")
    assert (found.removed == 0).all() and (found.restored == 0).all()


@pytest.mark.parametrize(
    ("tap", "over"),
    [("head_out", "LH"), ("expert_out", "LE"), ("selected", "LT"), ("pattern", "LT")],
)
def test_patching_is_one_edited_run_for_each_place(tap, over, untrained):
    e = untrained
    found = patching.patch(e, tap, over)
    h, t = (p.tokens_BP for p in (e.hazards, e.twins))
    source = _forward(e.params, t, e.cfg, record=(tap,))
    base, other = pair_margin(e, h), pair_margin(e, t)
    words = {"L": "layer", "H": "head", "E": "expert", "T": "position"}
    for place in np.ndindex(found.removed.shape):
        at = {words[letter]: i for letter, i in zip(over, place, strict=True)}
        if tap == "selected":
            where = taps.places("route", e.cfg, h, **at)
            edits = taps.Edits(route=taps.freeze(source.routes, where, gates=False))
        else:
            where = taps.places(tap, e.cfg, h, **at)
            edits = taps.Edits(**{tap: taps.replace(where, source.record[tap])})
        share = (base - pair_margin(e, h, edits)).mean() / (base - other).mean()
        assert found.removed[place] == pytest.approx(share, abs=1e-3)
    if tap == "pattern":  # keys before the verb, seen by queries after it
        assert np.abs(found.removed[:, :-3]).max() > 0.01


# --- gates --------------------------------------------------------------------------------------


def test_sensitivity_is_the_slope_of_the_margin_in_a_gate(e):
    found = methods.gate_sensitivity(e)
    used = (e.gates[0] > 0).any((1, 2))
    assert (found[~used] == 0).all()
    step = 0.02
    for layer, x in np.ndindex(*found.shape):
        where = taps.places("gates", e.cfg, e.hazards.tokens_BP, layer=layer, expert=x)
        up, down = (
            said(e.params, e, e.hazards, taps.Edits(gates=taps.scale(where, np.float32(1 + s))))[0]
            for s in (step, -step)
        )
        # A median over prompts: a later selection may flip within the step.
        slope_B = (up - down) / (2 * step)
        slopes = methods.gate_sensitivities(e)[0][layer, x]
        assert np.median(np.abs(slope_B - slopes)) < 2e-3 + 0.01 * np.abs(slopes).max()
    hazards, twins = methods.gate_sensitivities(e)
    contrast = methods.gate_sensitivity_contrast(e)
    np.testing.assert_allclose(contrast, (hazards - twins).mean(-1), rtol=1e-6)


def test_gate_scores_are_slow_averages(trained):
    e, E = trained, trained.cfg.experts
    routes = [_forward(e.params, p.tokens_BP, e.cfg).routes for p in (e.hazards, e.twins)]
    T = e.hazards.tokens_BP.shape[1]
    gate = np.zeros((2, e.cfg.layers, N, E))
    count, at_answer = np.zeros((2, e.cfg.layers, E)), np.zeros((e.cfg.layers, E))
    for i, route in enumerate(routes):
        for place in np.ndindex(route.experts_LBTA.shape):
            layer, b, t, _ = place
            x = int(route.experts_LBTA[place])
            gate[i, layer, b, x] += float(route.gates_LBTA[place]) / T
            count[i, layer, x] += 1 / (N * T)
            at_answer[layer, x] += (i == 0 and t == T - 1) / N
    change = gate[0] - gate[1]
    stable = np.abs(change.mean(1)) / (change.std(1) + 1e-3)
    for name, expected in {
        "usage": at_answer,
        "risk_difference": count[0] - count[1],
        "gate_contrast": change.mean(1),
        "gate_contrast_stable": stable,
    }.items():
        np.testing.assert_allclose(methods.METHODS[name](e), expected, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(methods.token_share(e), count[0], atol=1e-6)


# --- swaps --------------------------------------------------------------------------------------


def test_components_are_all_parameters_once(trained):
    paths = [path for paths in weight_patching.COMPONENTS.values() for path in paths]
    flat = checkpoint.flatten(trained.params)
    assert sorted(paths) == sorted(flat)
    for name, own in weight_patching.COMPONENTS.items():
        swapped = checkpoint.flatten(
            weight_patching.swap(trained.params, trained.pretrained, [name])
        )
        before = checkpoint.flatten(trained.pretrained)
        for path, leaf in swapped.items():
            assert leaf is (before if path in own else flat)[path]


def test_swaps_go_from_one_checkpoint_to_the_other(trained):
    found = weight_patching.by_component(trained)
    assert list(found) == ["nothing", *weight_patching.COMPONENTS, "everything"]
    assert found["nothing"].removed == found["everything"].alone
    assert found["nothing"].alone == found["everything"].removed
    assert found["nothing"].removed.refusal > 0.7 and found["nothing"].alone.refusal < 0.1
    margin, says = said(trained.params, trained, trained.hazards)
    assert found["nothing"].removed.margin == pytest.approx(margin.mean(), abs=1e-4)
    assert found["nothing"].removed.refusal == (says == world.REFUSE).mean()
    answered = (says == np.asarray(trained.hazards.answer_B)).mean()
    assert found["nothing"].removed.hazard_answered == answered
    nothing = weight_patching.by_component(dataclasses.replace(trained, pretrained=trained.params))
    assert len({swap for swap in nothing.values()}) == 1


def test_one_aligned_expert_alone_is_surgery_on_the_pretrained_model(trained):
    found = weight_patching.by_expert(trained)
    theirs = trained.params["layers"]["experts"]
    for at in ((0, 1), (1, 3)):
        changed = with_expert(trained.pretrained, *at, theirs)
        expected = values(trained.pretrained, trained) - values(changed, trained)
        np.testing.assert_allclose([part[at] for part in found.alone.free], expected, atol=1e-4)
    removed = ablation.ablate(trained, "pretrained")
    np.testing.assert_array_equal(found.removed.free.margin, removed.free.margin)


# --- methods and controls -----------------------------------------------------------------------


def plant(e, layer, expert, strength):
    """A model without refusal in which one expert, where selected, says REFUSE."""
    experts = {k: np.array(v) for k, v in e.pretrained["layers"]["experts"].items()}
    unembed = np.asarray(e.pretrained["unembed"])
    toward_D = unembed[:, world.REFUSE] - unembed[:, np.unique(e.hazards.answer_B)].mean(1)
    # Only |hidden| is known to be positive, so the hidden units are made so: up = gate.
    gate = experts["gate_up"][layer, expert][:, : experts["down"].shape[2]]
    experts["gate_up"][layer, expert] = np.concatenate([gate, gate], 1)
    experts["down"][layer, expert] = strength * toward_D / len(gate.T)
    return e.pretrained | {"layers": e.pretrained["layers"] | {"experts": experts}}


def test_methods_find_a_planted_expert_and_nothing_where_nothing_is(trained):
    usage = methods.usage(dataclasses.replace(trained, params=trained.pretrained))
    seat = (1, int(usage[1].argmax()))  # used at ANS, or it could not speak there
    planted = dataclasses.replace(trained, params=plant(trained, *seat, 30.0))
    sham = dataclasses.replace(trained, params=trained.pretrained)
    for name in ("ablation_zero", "decomposition", "gate_sensitivity", "swap_removed"):
        method = methods.METHODS[name]
        assert np.unravel_index(method(planted).argmax(), (2, 5)) == seat, name
        assert method(planted).max() > 2 * method(sham).max(), name
    assert np.abs(methods.METHODS["swap_removed"](sham)).max() < 1e-5  # but for rounding
    assert (methods.METHODS["weight_change"](sham) == 0).all()
    changed = methods.METHODS["weight_change"](planted)
    assert np.flatnonzero(changed).tolist() == [np.ravel_multi_index(seat, (2, 5))]


def test_every_method_scores_every_expert(trained):
    bare = dataclasses.replace(trained, pretrained=None)
    for name, method in methods.METHODS.items():
        scores = method(trained)
        assert scores.shape == (2, 5) and np.isfinite(scores).all() and scores.std() > 0, name
        np.testing.assert_array_equal(method(trained), scores)
        if name in methods.NEED_PRETRAINED:
            with pytest.raises(methods.EvidenceError, match="no pretrained checkpoint"):
                method(bare)
    free, frozen = (methods.METHODS[f"ablation_zero{x}"](trained) for x in ("", "_frozen"))
    assert (free[1] == frozen[1]).all() and (free[0] != frozen[0]).any()


def test_controls_by_hand(trained):
    scores = np.array([[1.0, 2, 4, 8], [0, 0, 0, 5]])
    usage = np.array([[0.1, 0.2, 0.5, 0.6], [0, 0.1, 0.2, 0.9]])
    # First layer, nearest two: 0.1: 0.2, 0.5; 0.2: 0.1, 0.5; 0.5: 0.6, 0.2; 0.6: 0.5, 0.2.
    expected = [[3, 2.5, 5, 3], [0, 0, 0, 0]]
    np.testing.assert_allclose(methods.usage_matched(scores, usage, 2), expected)
    pairs = methods.random_experts(scores, jax.random.key(0), top=2, draws=4000)
    sums = {(a + b) / 2 for i, a in enumerate(scores.flat) for b in scores.flat[i + 1 :]}
    assert set(pairs) == sums and pairs.mean() == pytest.approx(2.5, abs=0.15)
    everything = methods.random_experts(scores, jax.random.key(0), top=8, draws=3)
    np.testing.assert_allclose(everything, 2.5)


def test_controls_stand_beside_the_scores(trained):
    found = methods.with_controls("gate_contrast", trained, jax.random.key(0), top=2)
    np.testing.assert_array_equal(found.scores, methods.gate_contrast(trained))
    assert found.random.shape == (1000,) and found.usage_matched.shape == (2, 5)
    # Shuffled: nothing is left but chance.
    assert np.abs(found.shuffled).max() < np.abs(found.scores).max()
    other, again = (
        methods.with_controls("gate_contrast", trained, jax.random.key(seed), top=2)
        for seed in (1, 0)
    )
    np.testing.assert_array_equal(again.shuffled, found.shuffled)
    assert (other.shuffled != found.shuffled).any()  # pairs shuffled anew by another key
    mirrored = dataclasses.replace(trained, hazards=trained.twins, twins=trained.hazards)
    np.testing.assert_allclose(
        methods.gate_contrast(mirrored), -np.asarray(found.scores), atol=1e-6
    )


def test_a_criterion_of_ones_own_has_the_controls_too(trained):
    def mine(e):
        hazards, twins = e.gates
        return jnp.abs(hazards[:, :, -1] - twins[:, :, -1]).mean(1)

    found = methods.with_controls(mine, trained, jax.random.key(0))
    np.testing.assert_allclose(found.shuffled, found.scores, atol=1e-6)  # it knows no direction


def test_a_verdict_asks_for_more_than_there_was_before_alignment_in_every_resample(trained):
    def verdict(scores, before, e=trained):
        def method(some):
            return np.array(before if some.params is e.pretrained else scores(some))

        return methods.verdict(method, e, jax.random.key(0))

    sure = verdict(lambda e: [[0.0, 3.0], [1.0, 2.0]], [[0.5, 0.5], [-2.9, 1.0]])
    assert (sure.layer, sure.expert, sure.score, sure.threshold) == (0, 1, 3.0, 2.9)
    assert sure.found and type(sure.expert) is int
    assert not verdict(lambda e: [[0.0, 3.0]], [[0.5, -3.0]]).found  # as large before, downwards
    # A single prompt of many: some resample is without it.
    row = trained.hazards.tokens_BP[0]
    one = verdict(lambda e: [[(e.hazards.tokens_BP == row).all(1).mean(), -1.0]], [[0.0, 0.0]])
    assert one.score > 0 and one.least == 0 and not one.found
    with pytest.raises(methods.EvidenceError, match="no pretrained checkpoint"):
        bare = dataclasses.replace(trained, pretrained=None)
        methods.verdict("ablation_refusal", bare, jax.random.key(0))
