"""Taps and edits against a slow model in plain numpy, surgery on the parameters, and bad input."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import EPS, assert_close, random_params, rounding

from toymoe import model
from toymoe.config import ModelConfig
from toymoe.model import taps

pytestmark = pytest.mark.numeric

VOCABULARY, B, T = 11, 3, 5
CONFIGS = {
    "top two": ModelConfig(layers=2, width=8, heads=2, experts=5, expert_width=3, top_k=2),
    "top two, normalised": ModelConfig(2, 8, 2, 5, expert_width=3, top_k=2, norm_topk_prob=True),
}
CFG = CONFIGS["top two"]
EDITABLE = [name for name in taps.Edits._fields if name != "route"]
PAGE = Path(__file__).parents[2] / "docs" / "taps.md"


def random_tokens(seed=1):
    return np.random.default_rng(seed).integers(0, VOCABULARY, (B, T))


run = model.forward  # op by op: compiling a program for every edit would take minutes
compiled = jax.jit(model.forward, static_argnames=("cfg", "grouped", "record"))


def sizes(cfg):
    letters = {"L": cfg.layers, "B": B, "T": T, "Q": T}
    return letters | {"D": cfg.width, "H": cfg.heads, "E": cfg.experts}


def shape_of(name, cfg):
    return tuple(sizes(cfg)[axis] for axis in taps.TAPS[name].axes)


# --- the slow model: float64, dense, every tap by name ------------------------------------------


def norm(x, scale):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale


def softmax(x):
    return np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(
        -1, keepdims=True
    )


def turned(x_BTHK):
    half = x_BTHK.shape[-1] // 2
    angle = np.arange(T)[:, None] / 10_000 ** (np.arange(half) / half)
    z = (x_BTHK[..., :half] + 1j * x_BTHK[..., half:]) * np.exp(1j * angle)[:, None]
    return np.concatenate([z.real, z.imag], -1)


def slow(params, tokens_BT, cfg, change=lambda name, layer, x: x):
    """Logits, and the taps; ``change`` is handed every tap and gives back what flows on."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    H, taken = cfg.heads, {name: [] for name in taps.TAPS}
    x = params["embed"][tokens_BT]
    for layer in range(cfg.layers):
        w = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["layers"])

        def tap(name, value, layer=layer):
            taken[name].append(change(name, layer, value))
            return taken[name][-1]

        x = tap("resid_pre", x)
        q, k, v = np.split(norm(x, w["attention_norm"]) @ w["qkv"], 3, -1)
        q, k, v = (
            z.reshape(B, T, H, -1) for z in (norm(q, w["query_norm"]), norm(k, w["key_norm"]), v)
        )
        scores = np.einsum("bqhk,bthk->bhqt", turned(q), turned(k)) / np.sqrt(q.shape[-1])
        pattern = tap("pattern", softmax(np.where(np.tri(T), scores, -np.inf)))
        out_HKD = w["out"].reshape(H, -1, cfg.width)
        heads = np.einsum("bhqt,bthk,hkd->bqhd", pattern, v, out_HKD)
        x = tap("resid_mid", x + tap("head_out", heads).sum(2))
        h = norm(x, w["moe_norm"])
        probs = tap("router_probs", softmax(tap("router_logits", h @ w["router"])))
        best = np.argsort(-probs, -1, kind="stable")[..., : cfg.top_k]
        selected = tap("selected", (best[..., None] == np.arange(cfg.experts)).any(-2))
        gates = np.where(selected, probs, 0)
        if cfg.norm_topk_prob:
            gates = gates / gates.sum(-1, keepdims=True)
        gates = tap("gates", gates)
        gate, up = np.split(np.einsum("btd,edf->btef", h, w["experts"]["gate_up"]), 2, -1)
        hidden = gate / (1 + np.exp(-gate)) * up
        out = tap("expert_out", np.einsum("btef,efd->bted", hidden, w["experts"]["down"]))
        x = tap("resid_post", x + tap("contribution", gates[..., None] * out).sum(2))
    logits = norm(x, params["final_norm"]) @ params["unembed"]
    return logits, {name: np.stack(values) for name, values in taken.items()}


@pytest.mark.core
@pytest.mark.parametrize("name", CONFIGS)
def test_every_tap_is_what_the_slow_model_has_there(name):
    cfg, tokens_BT = CONFIGS[name], random_tokens()
    params = random_params(cfg, VOCABULARY)
    out = run(params, tokens_BT, cfg=cfg, record=tuple(taps.TAPS))
    logits, taken = slow(params, tokens_BT, cfg)
    within, each = rounding(lambda params: slow(params, tokens_BT, cfg), params)
    assert set(out.record) == set(taps.TAPS)
    assert_close(out.logits_BTV, logits, within)
    for tap, value in out.record.items():
        assert value.shape == shape_of(tap, cfg)
        assert_close(value, taken[tap], each[tap], tap)
    assert set(run(params, tokens_BT, cfg=cfg, record=("gates",)).record) == {"gates"}


def random_edit(name, cfg, seed=2):
    """Different places, values and factors everywhere; about a third of the places."""
    rng, shape = np.random.default_rng(seed), shape_of(name, cfg)
    where = rng.random(shape) < 0.3
    return taps.Edit(where, *(rng.normal(size=shape).astype(np.float32) for _ in range(2)))


@pytest.mark.core
@pytest.mark.parametrize("tap", EDITABLE)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_edit_is_what_the_slow_model_makes_of_it(name, tap):
    cfg, tokens_BT = CONFIGS[name], random_tokens()
    params, edit = random_params(cfg, VOCABULARY), random_edit(tap, cfg)
    if tap == "router_probs":  # equal selection needs probabilities that are far from ties
        edit = edit._replace(value=np.abs(edit.value), scale=np.zeros_like(edit.scale))

    def slow_edited(params):
        selected = {}

        def change(at, layer, x):
            if at == "selected":
                selected[layer] = x
            if at != tap:
                return x
            x = np.where(edit.where[layer], edit.scale[layer] * x + edit.value[layer], x)
            return np.where(selected[layer], x, 0) if at == "gates" else x

        return slow(params, tokens_BT, cfg, change)

    logits, expected = slow_edited(params)
    within, each = rounding(slow_edited, params)
    untouched, _ = slow(params, tokens_BT, cfg)
    assert np.abs(logits - untouched).max() > max(0.01, 100 * within)
    given = taps.edits(cfg, tokens_BT, **{tap: edit})
    out = run(params, tokens_BT, cfg=cfg, edits=given, record=tuple(taps.TAPS))
    assert_close(out.logits_BTV, logits, within)
    for at, value in out.record.items():
        assert_close(value, expected[at], each[at], at)
    if tap not in taps.NEED_EVERY_EXPERT:
        other = run(params, tokens_BT, cfg=cfg, edits=given, grouped=True)
        assert_close(other.logits_BTV, logits, within)
        assert_close(other.routes.gates_LBTA, out.routes.gates_LBTA, 2 * each["gates"])


@pytest.mark.core
@pytest.mark.parametrize("tap", ["pattern", "router_logits", "gates", "contribution"])
def test_a_function_is_what_the_slow_model_makes_of_it(tap):
    cfg, tokens_BT = CFG, random_tokens()
    params, (where, value, _) = random_params(cfg, VOCABULARY), random_edit(tap, cfg)
    limit = np.abs(value) / 4 + 0.05
    selected = []

    def change(at, layer, x):
        if at == "selected":
            selected.append(x)
        if at != tap:
            return x
        x = np.where(where[layer], np.clip(x, -limit[layer], limit[layer]), x)
        return np.where(selected[-1], x, 0) if at == "gates" else x

    logits, expected = slow(params, tokens_BT, cfg, change)
    untouched, _ = slow(params, tokens_BT, cfg)
    assert np.abs(logits - untouched).max() > 0.01
    given = taps.edits(cfg, tokens_BT, **{tap: taps.apply(where, jnp.clip, -limit, limit)})
    out = run(params, tokens_BT, cfg=cfg, edits=given, record=(tap,))
    np.testing.assert_allclose(out.record[tap], expected[tap], atol=1e-4, rtol=1e-3)
    np.testing.assert_allclose(out.logits_BTV, logits, atol=1e-4, rtol=1e-3)


# --- nothing changed, nothing asked -------------------------------------------------------------


def bits(x):
    return np.asarray(x).view(np.int32)


def idle(name, cfg):
    """An edit that would change everything, nowhere."""
    if name == "route":
        other = run(random_params(cfg, VOCABULARY), random_tokens(5), cfg).routes
        return taps.freeze(other, np.zeros((cfg.layers, B, T), bool))
    nowhere = np.zeros(shape_of(name, cfg), bool)
    if name == "router_logits":
        return taps.apply(nowhere, jnp.minimum, -3.0)
    return random_edit(name, cfg)._replace(where=nowhere)


def assert_same_bits(cfg, grouped, **asked):
    # Compiled, since fusing operations otherwise is what could round otherwise.
    given = (random_params(cfg, VOCABULARY), random_tokens())
    plain = compiled(*given, cfg=cfg, grouped=grouped)
    out = compiled(*given, cfg=cfg, grouped=grouped, **asked)
    np.testing.assert_array_equal(bits(out.logits_BTV), bits(plain.logits_BTV))


@pytest.mark.parametrize("tap", ["route", "contribution", "router_logits"])
def test_an_edit_nowhere_is_bitwise_no_edit(tap):
    small = ModelConfig(layers=1, width=8, heads=2, experts=5, expert_width=3, top_k=2)
    assert_same_bits(small, False, edits=taps.Edits(**{tap: idle(tap, small)}))


@pytest.mark.parametrize("grouped", [False, True])
def test_all_edits_nowhere_and_a_record_of_everything_are_bitwise_no_edit(grouped):
    left_out = taps.NEED_EVERY_EXPERT if grouped else ()
    given = {name: idle(name, CFG) for name in taps.Edits._fields if name not in left_out}
    assert_same_bits(CFG, grouped, edits=taps.Edits(**given))
    record = tuple(name for name in taps.TAPS if name not in left_out)
    assert_same_bits(CFG, grouped, record=record)


def test_nothing_asked_leaves_no_trace_in_the_program():
    params, tokens_BT = random_params(CFG, VOCABULARY), random_tokens()

    def program(**asked):
        call = partial(model.forward, cfg=CFG, grouped=True, **asked)
        text = str(jax.make_jaxpr(lambda params: call(params, tokens_BT).logits_BTV)(params))
        return re.sub("0x[0-9a-f]+", "", text)

    assert program() == program(edits=taps.Edits(), record=())
    assert program() != program(edits=taps.Edits(gates=taps.zero(True)))


# --- surgery on the parameters ------------------------------------------------------------------


def cut(params, path, index):
    """The parameters with one entry of a leaf zeroed."""
    return jax.tree_util.tree_map_with_path(
        lambda at, leaf: (
            jnp.asarray(leaf).at[index].set(0) if [k.key for k in at] == path else leaf
        ),
        params,
    )


def cut_logits(less, tokens_BT, before_BTV):
    """Of parameters with a part cut out: by the slow model, how far float32 may be from it, and
    that a part forgotten would be far outside, unless no token goes there."""
    logits_BTV, _ = slow(less, tokens_BT, CFG)
    within = rounding(lambda less: slow(less, tokens_BT, CFG)[0], less)
    moved = np.abs(logits_BTV - before_BTV).max()
    assert moved == 0 or moved > 100 * within
    return logits_BTV, within


def test_zeroed_parts_are_parts_that_were_cut_out():
    """Beside the model without them, in float32 and in float64. Where a cut leaves little of an
    attention input, half an ulp on the weights moves a logit by 4e-5."""
    params, tokens_BT = random_params(CFG, VOCABULARY), random_tokens()
    before_BTV, _ = slow(params, tokens_BT, CFG)
    for layer in range(CFG.layers):
        for e in range(CFG.experts):
            less = cut(params, ["layers", "experts", "down"], (layer, e))
            expected = run(less, tokens_BT, cfg=CFG)
            slow_BTV, within = cut_logits(less, tokens_BT, before_BTV)
            for tap in ("expert_out", "contribution", "gates"):
                where = taps.places(tap, CFG, tokens_BT, layer=layer, expert=e)
                given = taps.edits(CFG, tokens_BT, **{tap: taps.zero(where)})
                out = run(params, tokens_BT, cfg=CFG, edits=given)
                assert_close(out.logits_BTV, expected.logits_BTV, 2 * within)
                assert_close(out.logits_BTV, slow_BTV, within)
                same = out.routes.experts_LBTA[layer] == expected.routes.experts_LBTA[layer]
                assert same.all()  # the selection of that layer stays
        for h in range(CFG.heads):
            K = CFG.width // CFG.heads
            less = cut(params, ["layers", "out"], (layer, slice(h * K, (h + 1) * K)))
            where = taps.places("head_out", CFG, tokens_BT, layer=layer, head=h)
            given = taps.edits(CFG, tokens_BT, head_out=taps.zero(where))
            out = run(params, tokens_BT, cfg=CFG, edits=given)
            slow_BTV, within = cut_logits(less, tokens_BT, before_BTV)
            assert_close(out.logits_BTV, run(less, tokens_BT, cfg=CFG).logits_BTV, 2 * within)
            assert_close(out.logits_BTV, slow_BTV, within)


def test_a_closed_router_moves_others_up_and_a_closed_gate_does_not():
    params, tokens_BT = random_params(CFG, VOCABULARY), random_tokens()
    before = run(params, tokens_BT, cfg=CFG, record=("selected", "gates"))
    e = int(np.asarray(before.record["selected"][0]).sum((0, 1)).argmax())
    where = taps.places("gates", CFG, tokens_BT, layer=0, expert=e)
    logits = taps.edits(CFG, tokens_BT, router_logits=taps.replace(where, -np.inf))
    closed = run(params, tokens_BT, cfg=CFG, edits=logits, record=("selected", "gates"))
    selected = np.asarray(closed.record["selected"][0])
    assert not selected[..., e].any() and (selected.sum(-1) == CFG.top_k).all()
    gates = taps.edits(CFG, tokens_BT, gates=taps.zero(where))
    silent = run(params, tokens_BT, cfg=CFG, edits=gates, record=("selected", "gates"))
    np.testing.assert_array_equal(silent.record["selected"][0], before.record["selected"][0])
    left = np.asarray(before.record["gates"][0])
    np.testing.assert_array_equal(silent.record["gates"][0], np.where(where[0], 0, left))


@pytest.mark.parametrize("name", CONFIGS)
def test_where_a_traced_edit_closes_every_expert_none_adds_anything(name):
    cfg, tokens_BT = CONFIGS[name], random_tokens()
    params = random_params(cfg, VOCABULARY)

    def closed(where):
        edits = taps.Edits(router_logits=taps.replace(where, -np.inf))
        return model.forward(params, tokens_BT, cfg, False, edits, ("resid_mid", "resid_post"))

    out = jax.jit(closed)(LAST_LAYER & (np.arange(T) == 2)[:, None])
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(out))
    gates_BTA = np.asarray(out.routes.gates_LBTA[1])
    assert (gates_BTA[:, 2] == 0).all() and (gates_BTA[:, [0, 1, 3, 4]].max(-1) > 0).all()
    mid, post = (np.asarray(out.record[at])[1] for at in ("resid_mid", "resid_post"))
    np.testing.assert_array_equal((mid == post).all((0, 2)), np.arange(T) == 2)


@pytest.mark.parametrize("grouped", [False, True])
def test_frozen_route_is_the_reference_route_whatever_the_hidden_state_says(grouped):
    cfg = CONFIGS["top two, normalised"]
    params, tokens_BT = random_params(cfg, VOCABULARY), random_tokens()
    record = ("selected", "gates", "router_probs", "resid_post")
    theirs = run(params, random_tokens(7), cfg=cfg, record=record)
    mine = run(params, tokens_BT, cfg=cfg, record=record)
    for gates in (True, False):
        given = taps.edits(cfg, tokens_BT, route=taps.freeze(theirs.routes, gates=gates))
        out = run(params, tokens_BT, cfg=cfg, grouped=grouped, edits=given, record=record)
        selected = np.asarray(theirs.record["selected"])
        np.testing.assert_array_equal(out.record["selected"], selected)
        assert (selected != mine.record["selected"]).any()
        assert (
            np.abs(out.record["resid_post"] - theirs.record["resid_post"]).min((0, 3)).max() > 0.1
        )
        if gates:
            np.testing.assert_array_equal(out.record["gates"], theirs.record["gates"])
        else:
            own = np.where(selected, out.record["router_probs"], 0)
            own /= own.sum(-1, keepdims=True)
            assert_close(out.record["gates"], own, 8 * EPS)  # gates are at most 1
    where = np.zeros((cfg.layers, B, T), bool)
    where[1, :, 2] = True
    given = taps.edits(cfg, tokens_BT, route=taps.freeze(theirs.routes, where))
    out = run(params, tokens_BT, cfg=cfg, grouped=grouped, edits=given, record=record)
    here, there = out.record["selected"], theirs.record["selected"]
    np.testing.assert_array_equal(here[1, :, 2], there[1, :, 2])
    np.testing.assert_array_equal(here[0], mine.record["selected"][0])


def test_everything_patched_from_another_run_is_that_run():
    params, tokens_BT = random_params(CFG, VOCABULARY), random_tokens()
    other = run(params, random_tokens(3), cfg=CFG, record=("resid_pre", "resid_mid", "resid_post"))
    for tap, value in other.record.items():
        given = taps.edits(CFG, tokens_BT, **{tap: taps.replace(True, value)})
        out = run(params, tokens_BT, cfg=CFG, edits=given)
        np.testing.assert_array_equal(out.logits_BTV, other.logits_BTV)


def test_a_sweep_over_every_expert_is_one_compilation():
    params, tokens_BT, traced = random_params(CFG, VOCABULARY), random_tokens(), []

    def once(params, where):
        traced.append(1)
        edits = taps.Edits(expert_out=taps.zero(where))
        return model.forward(params, tokens_BT, CFG, edits=edits).logits_BTV

    L, E = CFG.layers, CFG.experts
    masks = np.eye(L * E, dtype=bool).reshape(L * E, L, 1, 1, E, 1)
    masks = np.concatenate([masks, np.zeros_like(masks[:1])])  # and the baseline
    mapped = jax.jit(lambda p, masks: jax.lax.map(partial(once, p), masks))(params, masks)
    assert len(traced) == 1
    vectorised = jax.jit(jax.vmap(once, (None, 0)))(params, masks)
    np.testing.assert_array_equal(mapped[-1], compiled(params, tokens_BT, cfg=CFG).logits_BTV)
    before_BTV, _ = slow(params, tokens_BT, CFG)
    for i in range(L * E):
        less = cut(params, ["layers", "experts", "down"], divmod(i, E))
        slow_BTV, within = cut_logits(less, tokens_BT, before_BTV)
        assert_close(mapped[i], slow_BTV, within)
        assert_close(vectorised[i], slow_BTV, within)


def test_resume_is_the_end_of_forward():
    cfg, tokens_BT = CONFIGS["top two, normalised"], random_tokens()
    params = random_params(cfg, VOCABULARY)
    out = run(params, tokens_BT, cfg=cfg, record=("resid_pre", "resid_post"))
    other = run(params, random_tokens(7), cfg=cfg)
    # Twice, as both sides are float32; the frozen route is about as well conditioned as the own.
    within = 2 * rounding(lambda params: slow(params, tokens_BT, cfg)[0], params)
    resume = jax.jit(model.resume, static_argnames=("cfg", "first", "frozen"))
    for first in range(cfg.layers):
        x_BTD = out.record["resid_pre"][first]
        got = resume(params, x_BTD, cfg, first, other.routes, frozen=False)
        assert_close(got, out.logits_BTV[:, -1], within)
        where = np.arange(cfg.layers)[:, None, None] >= first
        given = taps.edits(cfg, tokens_BT, route=taps.freeze(other.routes, where))
        expected = run(params, tokens_BT, cfg=cfg, edits=given).logits_BTV[:, -1]
        got = resume(params, x_BTD, cfg, first, other.routes, frozen=True)
        assert_close(got, expected, within)
        assert np.abs(expected - out.logits_BTV[:, -1]).max() > 100 * within
    got = resume(params, out.record["resid_post"][-1], cfg, cfg.layers, out.routes, frozen=True)
    assert_close(got, out.logits_BTV[:, -1], within)


# --- places, bad input, the page ----------------------------------------------------------------


def test_places_are_the_named_ones():
    mask = taps.places("gates", CFG, random_tokens(), layer=1, position=-1, expert=[0, 3])
    expected = np.zeros(shape_of("gates", CFG), bool)
    expected[1, :, T - 1, 0] = expected[1, :, T - 1, 3] = True
    np.testing.assert_array_equal(np.broadcast_to(mask, expected.shape), expected)
    assert taps.places("resid_mid", CFG, random_tokens()).all()
    assert taps.places("route", CFG, random_tokens(), prompt=0).sum() == 1


def other_route():
    """Of one prompt instead of three."""
    like = np.zeros((CFG.layers, 1, T, CFG.top_k), np.int32)
    return taps.Routes(None, None, like, like)


SIXTEEN = ModelConfig(experts=16)
LAST_LAYER = np.arange(2).reshape(2, 1, 1, 1) == 1
BAD = {
    "misspelt record": (
        lambda t: look(t, record=("router_logit",)),
        "did you mean 'router_logits'",
    ),
    "misspelt edit": (lambda t: edit(t, expert_outs=taps.zero(True)), "did you mean 'expert_out'"),
    "misspelt place": (lambda t: taps.places("gatess", CFG, t), "did you mean 'gates'"),
    "expert 16 of 16": (
        lambda t: taps.places("gates", SIXTEEN, t, expert=16),
        "expert = 16 is not possible: there are 16, numbered from 0 to 15",
    ),
    "half a layer": (lambda t: taps.places("gates", CFG, t, layer=0.5), "layer = 0.5"),
    "no such axis": (lambda t: taps.places("gates", CFG, t, head=0), "has no head"),
    "wrong mask": (
        lambda t: edit(t, gates=taps.zero(np.ones((2, 3, 5, 6), bool))),
        r"gates.where of shape \[2, 3, 5, 6\] does not fit: it must be \[L, B, T, E\] = "
        r"\[2, 3, 5, 5\]",
    ),
    "wrong value": (lambda t: edit(t, gates=taps.add(True, np.ones(5))), r"gates.value of shape"),
    "raw wrong mask": (
        lambda t: look(t, edits=taps.Edits(gates=taps.zero(np.ones((2, 4, 1, 5), bool)))),
        "gates.where",
    ),
    "route of other prompts": (
        lambda t: edit(t, route=taps.freeze(other_route())),
        r"route.experts_LBTA of shape \[2, 1, 5, 2\]",
    ),
    "nowhere": (
        lambda t: edit(t, gates=taps.zero(np.zeros((2, 1, 1, 5), bool))),
        "mask of gates is false everywhere",
    ),
    "numbers as mask": (lambda t: edit(t, gates=taps.zero(1.0)), "must be bool"),
    "not an edit": (lambda t: edit(t, gates=0.0), "give a taps.Edit"),
    "not a route": (lambda t: edit(t, route=taps.zero(True)), "give a taps.Frozen"),
    "selected": (lambda t: edit(t, selected=taps.zero(True)), "route=taps.freeze"),
    "not edits": (lambda t: look(t, edits={"gates": taps.zero(True)}), "make them by taps.edits"),
    "no function": (lambda t: edit(t, gates=taps.apply(True, 0.0)), "give a function of the tap"),
    "function of another shape": (
        lambda t: look(t, edits=taps.Edits(gates=taps.apply(True, jnp.sum))),
        r"gates.function gives \(\) for a tap of shape \[3, 5, 5\]",
    ),
    "wrong value of a function": (
        lambda t: edit(t, gates=taps.apply(True, jnp.minimum, np.ones(5))),
        r"gates.values\[0\] of shape \[5\] does not fit",
    ),
    "every expert closed": (
        lambda t: look(t, edits=taps.Edits(router_logits=taps.replace(LAST_LAYER, -np.inf))),
        "-inf for all 5 experts of layer 1 is not possible: leave at least one open",
    ),
    "grouped": (lambda t: look(t, grouped=True, record=("expert_out",)), "leave out grouped"),
}


def look(tokens, **asked):
    return model.forward(random_params(CFG, VOCABULARY), tokens, CFG, **asked)


def edit(tokens, **given):
    return taps.edits(CFG, tokens, **given)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case):
    call, message = BAD[case]
    with pytest.raises(taps.TapError, match=message) as error:
        call(random_tokens())
    assert "\n" not in str(error.value)


def test_the_page_lists_the_taps_as_they_are():
    rows = re.findall(
        r"^\| `(\w+)` \| \[([A-Z, ]+)\] \| (.+?) \| (.*?) \|$", PAGE.read_text(), re.M
    )
    assert [(name, axes.replace(", ", ""), *rest) for name, axes, *rest in rows] == [
        (name, *tap) for name, tap in taps.TAPS.items()
    ]
