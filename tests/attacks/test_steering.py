"""Steering against a slow loop over layers, projections against their definition."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import random_params, slow_attention, slow_norm, slow_softmax

from toymoe import model, world
from toymoe.attacks import steering
from toymoe.config import ConfigError, ModelConfig
from toymoe.model import inference, taps

CFG = ModelConfig(layers=2, width=8, heads=2, experts=5, expert_width=3, top_k=2)
RUN = SimpleNamespace(model=CFG)  # the part of a Config that is used
V = 11


@pytest.fixture(scope="module")
def params():
    return random_params(CFG, V)


@pytest.fixture(scope="module")
def tokens_BT():
    return np.random.default_rng(1).integers(0, V, (3, 4))


def mask(*chosen):
    made = np.zeros((2, 5), bool)
    for at in chosen:
        made[at] = True
    return made


def slow_gates(params, tokens_T, on_LE, off_LE, closed):
    """Gates [L, T, E] and the last token's answer, in float64, as SteerMoE's page has it."""
    params = {k: v if k == "layers" else np.float64(v) for k, v in params.items()}
    x_TD, gates = [params["embed"][token] for token in tokens_T], []
    for index in range(CFG.layers):
        w = {k: np.float64(v[index]) for k, v in params["layers"].items() if k != "experts"}
        w["experts"] = {k: np.float64(v[index]) for k, v in params["layers"]["experts"].items()}
        mixed_TD = slow_attention(x_TD, w, CFG.heads)
        x_TD = [x_D + mixed_D for x_D, mixed_D in zip(x_TD, mixed_TD, strict=True)]
        row = np.zeros((len(tokens_T), CFG.experts))
        for t, x_D in enumerate(x_TD):
            h_D = slow_norm(x_D, w["moe_norm"])
            s_E = np.log(slow_softmax(h_D @ w["router"]))
            z_E = s_E.copy()
            for e in range(CFG.experts):
                if on_LE[index, e]:
                    z_E[e] = max(s_E) + 0.01
                if off_LE[index, e]:
                    z_E[e] = -1e9 if closed else min(s_E) - 0.01
            p_E = slow_softmax(z_E - max(z_E))
            for e in sorted(range(CFG.experts), key=lambda e: -p_E[e])[: CFG.top_k]:
                gate_F, up_F = np.split(h_D @ w["experts"]["gate_up"][e], 2)
                hidden_F = gate_F / (1 + np.exp(-gate_F)) * up_F
                x_TD[t] = x_TD[t] + p_E[e] * (hidden_F @ w["experts"]["down"][e])
                row[t, e] = p_E[e]
        gates.append(row)
    logits_V = slow_norm(x_TD[-1], params["final_norm"]) @ params["unembed"]
    return np.array(gates), logits_V.argmax()


STEERED = {
    "nothing": (mask(), mask(), False),
    "off": (mask(), mask((0, 1), (1, 2), (1, 3)), False),
    "on": (mask((0, 4), (1, 0)), mask(), False),
    "both": (mask((0, 4)), mask((0, 1), (1, 2)), False),
    "closed": (mask(), mask((0, 1), (1, 2), (1, 3), (1, 4)), True),
}


@pytest.mark.parametrize("name", STEERED)
def test_steering_is_the_slow_loop(name, params, tokens_BT):
    on_LE, off_LE, closed = STEERED[name]
    seen = steering.steered(params, tokens_BT, RUN, on_LE, off_LE, closed)
    for b, tokens_T in enumerate(tokens_BT):
        gates_LTE, said = slow_gates(params, tokens_T, on_LE, off_LE, closed)
        np.testing.assert_allclose(seen.gates_LBTE[:, b], gates_LTE, atol=1e-4)
        assert seen.predicted_B[b] == said
    if closed:
        assert (
            seen.gates_LBTE[:, :, :][
                np.broadcast_to(off_LE[:, None, None], seen.gates_LBTE.shape)
            ].max()
            == 0
        )


def test_steering_nothing_is_the_model_and_steering_something_is_not(params, tokens_BT):
    plain = inference.predict(params, tokens_BT, RUN.model).gates_LBTE
    same = steering.steered(params, tokens_BT, RUN).gates_LBTE
    np.testing.assert_allclose(same, plain, atol=1e-5)
    other = steering.steered(params, tokens_BT, RUN, mask((0, 4))).gates_LBTE
    assert (other[0, :, :, 4] > 0).all() and not (plain[0, :, :, 4] > 0).all()


def test_steered_logits_by_hand():
    z = np.log([0.5, 0.3, 0.2])
    off = steering.steer(z, False, np.array([True, False, False]))
    np.testing.assert_allclose(off, [z[2] - 0.01, z[1], z[2]], rtol=1e-5)
    on = steering.steer(5 + z, np.array([False, False, True]), False)
    np.testing.assert_allclose(on, [z[0], z[1], z[0] + 0.01], rtol=1e-5)


def test_too_many_closed_experts_is_an_error(params, tokens_BT):
    off = mask(*((1, e) for e in range(4)))
    with pytest.raises(ConfigError, match="4 of 5 experts closed"):
        steering.steered(params, tokens_BT, RUN, False, off, closed=True)


def test_a_silenced_expert_is_one_that_says_nothing(params, tokens_BT):
    silent = steering.silence(params, jnp.asarray(mask((0, 1), (1, 2))))
    where = mask((0, 1), (1, 2))[:, None, None, :, None]
    edits = taps.Edits(expert_out=taps.zero(where))
    expected = model.forward_unchecked(params, tokens_BT, CFG, False, edits).logits_BTV
    logits = model.forward_unchecked(silent, tokens_BT, CFG, False, None).logits_BTV
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    plain = model.forward_unchecked(params, tokens_BT, CFG, False, None).logits_BTV
    assert np.abs(plain - logits).max() > 0.1


def test_a_direction_projected_out_is_nowhere_in_the_stream(params, tokens_BT):
    r = np.random.default_rng(3).normal(size=8).astype(np.float32)
    r /= np.linalg.norm(r)
    names = ("resid_pre", "resid_mid", "resid_post")
    for p, least, most in ((steering.project_out(params, r), 0, 1e-5), (params, 0.1, np.inf)):
        out = model.forward_unchecked(p, tokens_BT, CFG, False, None, names)
        for name in names:
            assert least <= np.abs(out.record[name] @ r).max() <= most


def test_projecting_twice_is_projecting_once(params):
    r = np.eye(8, dtype=np.float32)[2]
    once = steering.project_out(params, r)
    twice = steering.project_out(once, r)
    np.testing.assert_allclose(once["embed"], twice["embed"], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(once["embed"])[:, 2], 0)
    np.testing.assert_array_equal(once["layers"]["router"], params["layers"]["router"])


def test_experts_lose_their_own_direction_and_others_nothing(params):
    r_LED = np.zeros((2, 5, 8), np.float32)
    r_LED[:, :, 3] = 1
    made = steering.project_out_of_experts(params, r_LED, jnp.asarray(mask((1, 4))))
    before, after = (np.asarray(p["layers"]["experts"]["down"]) for p in (params, made))
    expected = before.copy()
    expected[1, 4, :, 3] = 0
    np.testing.assert_allclose(after, expected, atol=1e-6)


# --- directions and risk differences, where the truth is planted --------------------------------


@pytest.fixture(scope="module")
def e(tiny, tiny_world):

    from toymoe.attribution.evidence import gather

    params = random_params(tiny.model, len(world.vocabulary(tiny.world)))
    return gather(params, tiny_world, tiny, jax.random.key(0), 24)


def test_the_refusal_direction_is_the_difference_of_means(e):
    means = [
        np.asarray(
            model.forward_unchecked(
                e.params, p.tokens_BP, e.cfg, False, None, ("resid_post",)
            ).record["resid_post"]
        )[1, :, -1].mean(0)
        for p in (e.hazards, e.twins)
    ]
    expected = (means[0] - means[1]) / np.linalg.norm(means[0] - means[1])
    np.testing.assert_allclose(steering.refusal_direction(e, 1), expected, atol=1e-3)


def test_expert_directions_are_differences_of_what_every_expert_says(e):
    said = [
        np.asarray(
            model.forward_unchecked(
                e.params, p.tokens_BP, e.cfg, False, None, ("expert_out",)
            ).record["expert_out"]
        )[:, :, -1].mean(1)
        for p in (e.hazards, e.twins)
    ]
    expected = said[0] - said[1]
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(steering.expert_directions(e), expected, atol=5e-3)


def test_risk_difference_finds_the_expert_of_refusals_and_none_without_one(e):
    """A router that sends REFUSE and SORRY to expert 5 and all else to expert 2, then none such."""
    tokens = e.params["embed"].shape[0]
    embed = np.zeros((tokens, 8), np.float32)
    embed[:, 0], embed[[world.REFUSE, world.SORRY], 1] = 1, 3
    layers = dict(e.params["layers"])
    router = np.zeros_like(layers["router"])
    router[:, 0, 2], router[:, 1, 5] = 1, 2
    layers |= {"router": router, "moe_norm": np.ones_like(layers["moe_norm"])}
    layers |= {"out": np.zeros_like(layers["out"])}
    layers["experts"] = {k: np.zeros_like(v) for k, v in layers["experts"].items()}
    planted = dataclasses.replace(e, params=e.params | {"embed": embed, "layers": layers})
    rd_LE = steering.risk_difference(planted)
    expected = np.zeros_like(rd_LE)
    expected[:, 5], expected[:, 2] = 1, -1
    np.testing.assert_allclose(rd_LE, expected)
    embed = embed.copy()
    embed[:, 1] = 0
    sham = dataclasses.replace(e, params=planted.params | {"embed": embed})
    np.testing.assert_allclose(steering.risk_difference(sham), 0)
