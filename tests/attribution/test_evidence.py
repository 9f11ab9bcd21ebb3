"""Evidence: pairs, rearrangements, and results that never stand in for one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from surgery import N

from toymoe import world
from toymoe.attribution import ablation, methods, patching, weight_patching
from toymoe.attribution.evidence import Evidence, EvidenceError, by_chunks


def test_hazards_and_their_twins_differ_in_the_verb_alone(trained, taught):
    h, t = trained.hazards, trained.twins
    assert len(h.answer_B) == N and h.hazard_B.all() and not t.hazard_B.any()
    verb = world.roles(taught.cfg.world).index("verb")
    differ = np.asarray(h.tokens_BP) != np.asarray(t.tokens_BP)
    assert differ[:, verb].all() and not np.delete(differ, verb, 1).any()
    refusal = (trained.answers[0].predicted_B == world.REFUSE).mean()
    assert refusal > 0.7 and (trained.answers[1].predicted_B == world.REFUSE).mean() < 0.3


def test_a_shuffled_pair_is_the_pair_or_its_mirror_image(trained):
    mixed = trained.shuffled(jax.random.key(0))
    a, b = np.asarray(trained.hazards.tokens_BP), np.asarray(trained.twins.tokens_BP)
    same = (mixed.hazards.tokens_BP == a).all(1)
    assert 0 < same.sum() < N
    np.testing.assert_array_equal(mixed.hazards.tokens_BP, np.where(same[:, None], a, b))
    np.testing.assert_array_equal(mixed.twins.tokens_BP, np.where(same[:, None], b, a))
    np.testing.assert_array_equal(mixed.hazards.hazard_B, same)


def test_what_is_shuffled_is_what_would_be_computed_anew(trained):
    made = trained.shuffled(jax.random.key(3))
    anew = Evidence(made.params, made.cfg, made.hazards, made.twins, pretrained=made.pretrained)
    changed = 0
    for name, method in methods.METHODS.items():
        if name == "resample_other":
            continue  # keeps the prompts that were drawn
        np.testing.assert_allclose(method(made), method(anew), atol=1e-4, err_msg=name)
        changed += not np.allclose(method(made), method(trained), atol=1e-3)
    assert changed > 8
    other = dataclasses.replace(made, params=made.pretrained)  # no longer made from the first
    assert other.answers[0].margin_B.mean() < made.answers[0].margin_B.mean() - 1


def counted(scores):
    """A student's two methods often have one name, and would have chosen one key."""
    calls = []

    def per_prompt(e, prompts, scale=1):
        calls.append(scale)
        return scale * scores(prompts)

    return per_prompt, calls


def test_two_methods_of_one_name_each_get_their_own_result(trained):
    one, calls = counted(lambda p: np.asarray(p.answer_B))
    two, others = counted(lambda p: -np.asarray(p.answer_B))
    assert one.__name__ == two.__name__
    for method, sign in ((one, 1), (two, -1), (one, 1), (two, -1)):
        for found, prompts in zip(
            trained.each(method), (trained.hazards, trained.twins), strict=True
        ):
            np.testing.assert_array_equal(found, sign * np.asarray(prompts.answer_B))
    np.testing.assert_array_equal(trained.each(one, 3)[0], 3 * trained.each(one)[0])
    assert calls == [1, 1, 3, 3] and others == [1, 1]  # hazards and twins, once each
    mixed = trained.shuffled(jax.random.key(0))
    np.testing.assert_array_equal(mixed.each(one)[1], mixed.twins.answer_B)
    assert len(calls) == 4  # taken from what its source has
    # One function asked for the whole and for each prompt.
    assert trained.once(len_of) == N and trained.each(len_of, "answer_B")[0].shape == (N,)


def len_of(e, prompts=None, field=None):
    return len(e.hazards.answer_B) if prompts is None else getattr(prompts, field)


def test_prompts_must_be_the_last_axis(trained):
    def first(e, prompts):
        return {"tokens": np.asarray(prompts.tokens_BP)}

    T = trained.hazards.tokens_BP.shape[1]
    with pytest.raises(
        EvidenceError, match=rf"first gave .* \[24, {T}\] for 24 prompts.*last axis"
    ):
        trained.each(first)
    with pytest.raises(EvidenceError, match=r"one gave an array of shape \[\] for 7 prompts"):

        def one(x_B):
            return x_B.sum()

        by_chunks(one, np.arange(24), 7)


def test_what_is_kept_needs_arguments_that_can_be_told_apart(trained):
    with pytest.raises(EvidenceError, match="len_of cannot be kept under its arguments"):
        trained.once(len_of, np.ones(3))


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
        lambda e, c: weight_patching.patch(e.params, fewer_words(e.params), ()),
        "two checkpoints have different shapes",
    ),
    "component": (
        lambda e, c: weight_patching.patch(e.params, e.params, ["expert"]),
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
def test_bad_input_is_one_clear_error(case, trained, taught):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call(trained, taught.cfg)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [1, 7, 24, 100])  # 24 = 3 · 7 + 3
def test_chunks_and_their_rest_are_all_prompts_once(size):
    seen = []

    def twice(chunk):
        seen.append(chunk[0].shape[0])
        return jnp.stack([2 * chunk[0], chunk[1][:, 1]]), chunk[0]

    x_B, y_B2 = np.arange(24), np.arange(48).reshape(24, 2)
    found, same = by_chunks(twice, (x_B, y_B2), size)
    np.testing.assert_array_equal(found, [2 * x_B, y_B2[:, 1]])
    np.testing.assert_array_equal(same, x_B)
    assert set(seen) == {min(size, 24)}
