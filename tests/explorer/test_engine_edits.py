"""Every tap and every kind of edit in JavaScript, held against those in JAX."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explorer.against_jax import CLOSE, RUN, SHAPES, agree, apart, random_case, said, stacked
from explorer.engine import Engine, text_of

from toymoe import model
from toymoe.model import moe, taps, transformer
from toymoe.world import REFUSE

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("optimised")]

EDITABLE = [name for name in taps.TAPS if name != "selected"]


# --- taps ---------------------------------------------------------------------------------------


def test_constants_and_taps_are_those_of_python(page):
    found = Engine(page).run("return { TAPS, CLOSED, EPSILON, THETA, REFUSE }")
    axes = {name: tap.axes.replace("B", "") for name, tap in taps.TAPS.items()}
    assert found["TAPS"] == axes and list(found["TAPS"]) == list(axes)
    assert found["CLOSED"] == taps.CLOSED and found["REFUSE"] == REFUSE
    assert (found["EPSILON"], found["THETA"]) == (transformer.EPSILON, transformer.THETA)


@pytest.mark.parametrize("name", ["forty experts", "gates that sum to 1"])
def test_every_tap_is_recorded(page, name):
    cfg, params, tokens_BT = random_case(name)
    case = cfg, params, tokens_BT[:3]
    theirs = model.forward(params, tokens_BT[:3], cfg, record=tuple(taps.TAPS))
    mine = said(page, case, record=taps.TAPS)
    assert list(mine.record) == list(taps.TAPS)
    for tap, value in theirs.record.items():
        assert apart(value, mine.record[tap]) <= CLOSE / 10, tap
    assert agree(mine, theirs)


PLACES = [
    ("expert_out", {"layer": 1, "expert": [5, -1]}),
    ("pattern", {"head": 0, "position": [2, 3]}),
    ("head_out", {"layer": [-1], "position": -2, "head": [0, 2]}),
    ("resid_mid", {"position": 0}),
    ("gates", {}),
    ("route", {"layer": 0, "position": [1, 4]}),
]


@pytest.mark.parametrize("tap, chosen", PLACES)
def test_places(page, tap, chosen):
    cfg = SHAPES["forty experts"]
    mine = Engine(page).run(
        "return places(tap, cfg, 6, chosen)", tap=tap, cfg=dataclasses.asdict(cfg), chosen=chosen
    )
    where = taps.places(tap, cfg, np.zeros((1, 6), int), **chosen)
    axes = "LBT" if tap == "route" else taps.TAPS[tap].axes
    sizes = taps.axis_sizes(cfg, (1, 6))
    full = [1 if x == "D" else sizes[x] for x in axes]
    np.testing.assert_array_equal(mine, np.broadcast_to(where, full).ravel())


# --- edits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tap", EDITABLE)
@pytest.mark.parametrize("name", ["gates that sum to 1", "forty experts"])
def test_every_kind_of_edit_of_every_tap(page, name, tap):
    cfg, params, tokens_BT = random_case(name)
    tokens_BT = tokens_BT[:2]
    T, rng = tokens_BT.shape[1], np.random.default_rng(7)
    sizes = taps.axis_sizes(cfg, (1, T))
    axes = taps.TAPS[tap].axes
    shape = [sizes[letter] for letter in axes]
    where = rng.random([1 if x == "D" else n for x, n in zip(axes, shape, strict=True)]) < 0.4
    value = rng.normal(size=shape).astype(np.float32)
    engine = Engine(page)
    engine.keep(params=params, cfg=dataclasses.asdict(cfg), tokens=tokens_BT.tolist())
    engine.keep(tap=tap, where=where.ravel(), value=value.ravel(), record=[tap])
    kinds = {
        "replace": ("replace(where, value)", (value, 0.0)),
        "zero": ("zero(where)", (0.0, 0.0)),
        "add": ("add(where, value)", (value, 1.0)),
        "scale": ("scale(where, 1.5)", (0.0, 1.5)),
    }
    base = model.forward(params, tokens_BT, cfg)
    for kind, (code, (value_, factor)) in kinds.items():
        # Full arrays, so that one compiled program serves all kinds.
        leaves = [np.broadcast_to(np.float32(x), shape) for x in (value_, factor)]
        edits = taps.edits(cfg, tokens_BT, **{tap: taps.Edit(where, *leaves)})
        theirs = model.forward(params, tokens_BT, cfg, edits=edits, record=(tap,))
        found = engine.run(f"const edits = {{ [tap]: {code} }};\n{RUN}")
        mine = stacked(found, cfg, tokens_BT, params)
        assert apart(theirs.record[tap], mine.record[tap]) <= CLOSE, kind
        assert agree(mine, theirs), kind
        assert not agree(mine, base), kind


def test_a_bug_of_the_edits_is_found(page):
    """Gates are edited among the selected experts alone."""
    cfg, params, tokens_BT = random_case("forty experts")
    case = cfg, params, tokens_BT[:2]
    edits = taps.edits(cfg, case[2], gates=taps.replace(True, 0.5))
    theirs = model.forward(params, case[2], cfg, edits=edits, record=("gates",))
    given = {"gates": {"where": True, "value": 0.5, "scale": 0}}
    mine = said(page, case, given, ("gates",))
    assert agree(mine, theirs) and apart(theirs.record["gates"], mine.record["gates"]) <= CLOSE
    old = "if (among && !among[i]) continue;"
    assert old in text_of()
    wrong = said(page.context.new_page(), case, given, ("gates",), text_of().replace(old, ""))
    assert apart(theirs.record["gates"], wrong.record["gates"]) > CLOSE


def test_several_edits_together(page):
    cfg, params, tokens_BT = random_case("forty experts")
    case, rng = (cfg, params, tokens_BT[:2]), np.random.default_rng(3)
    T, (L, E, H) = tokens_BT.shape[1], (cfg.layers, cfg.experts, cfg.heads)
    experts_LT = rng.random((L, T, E)) < 0.3
    heads_LT = rng.random((L, T, H)) < 0.3
    edits = taps.edits(
        cfg,
        case[2],
        router_logits=taps.replace(experts_LT[:, None], taps.CLOSED),
        head_out=taps.scale(heads_LT[:, None, ..., None], 2.0),
        contribution=taps.add(experts_LT[:, None, ..., None], 0.01),
    )
    theirs = model.forward(params, case[2], cfg, edits=edits)
    where_LT = {"router_logits": experts_LT, "head_out": heads_LT, "contribution": experts_LT}
    how = {"router_logits": (taps.CLOSED, 0), "head_out": (0, 2), "contribution": (0.01, 1)}
    given = {
        tap: {"where": where_LT[tap].ravel(), "value": value, "scale": factor}
        for tap, (value, factor) in how.items()
    }
    mine = said(page, case, given)
    assert agree(mine, theirs)
    assert not experts_LT.reshape(-1, E)[
        np.arange(L * T)[:, None], mine.routes.experts_LBTA[:, 0].reshape(L * T, -1)
    ].any()  # closed ones are not selected


@pytest.mark.parametrize("closed", [-np.inf, taps.CLOSED])
@pytest.mark.parametrize("left", [0, 1, 5])
def test_closed_experts(page, closed, left):
    """Fewer open ones than are needed, or none at all (which `forward` refuses at -inf, where it
    sees it): of equal ones, the first."""
    cfg, params, tokens_BT = random_case("gates that sum to 1")
    case = cfg, params, tokens_BT[:3]
    where = taps.places("router_logits", cfg, case[2], expert=list(range(left, cfg.experts)))
    edits = taps.edits(cfg, case[2], router_logits=taps.replace(where, closed))
    theirs = transformer.forward_unchecked(params, case[2], cfg, False, edits)
    full = np.broadcast_to(where[:, 0], (cfg.layers, tokens_BT.shape[1], cfg.experts))
    values = np.full(full.shape, closed, np.float32)
    mine = said(
        page, case, {"router_logits": {"where": full.ravel(), "value": values.ravel(), "scale": 0}}
    )
    assert agree(mine, theirs)


@pytest.mark.parametrize("gates", [True, False])
@pytest.mark.parametrize("name", ["gates that sum to 1", "forty experts"])
def test_frozen_routes(page, name, gates):
    cfg, params, tokens_BT = random_case(name)
    case = cfg, params, tokens_BT[:2]
    T, rng = tokens_BT.shape[1], np.random.default_rng(5)
    where_LT = rng.random((cfg.layers, T)) < 0.5
    source = model.forward(params, tokens_BT[2:3], cfg).routes
    both = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), 2, 1), source)
    edits = taps.edits(cfg, case[2], route=taps.freeze(both, where_LT[:, None], gates))
    theirs = model.forward(params, case[2], cfg, edits=edits)
    engine = Engine(page)
    engine.keep(params=params, cfg=dataclasses.asdict(cfg), tokens=case[2].tolist(), record=[])
    engine.keep(source=tokens_BT[2].tolist(), where=where_LT.ravel(), gates=gates)
    found = engine.run(
        "const edits = { route: freeze(forward(params, source, cfg).routes, where, gates) };\n"
        + RUN
    )
    mine = stacked(found, cfg, case[2], params)
    assert agree(mine, theirs)
    assert not agree(mine, model.forward(params, case[2], cfg))


@pytest.mark.parametrize("normalise", [False, True])
def test_of_equal_logits_the_expert_of_lower_index(page, normalise):
    logits_NE = np.random.default_rng(1).integers(0, 3, (200, 7)).astype(np.float32)
    theirs = moe.route_from_logits(jnp.asarray(logits_NE), 3, normalise)
    run = (
        "return rows.map((row) => route_from_logits(row, 3, normalise))"
        ".map(({ experts, gates }) => ({ experts, gates }))"
    )
    given = {"rows": list(logits_NE), "normalise": normalise}
    mine = Engine(page).run(run, **given)
    np.testing.assert_array_equal([x["experts"] for x in mine], theirs.experts_NA)
    np.testing.assert_allclose([x["gates"] for x in mine], theirs.gates_NA, rtol=1e-6)
    wrong = text_of().replace("probs[e] > probs[best]", "probs[e] >= probs[best]")
    wrong = Engine(page.context.new_page(), wrong).run(run, **given)
    assert (np.array([x["experts"] for x in wrong]) != theirs.experts_NA).any()


@pytest.mark.parametrize(
    "code, words",
    [
        ("places('gates', cfg, 5, { head: 1 })", "gates has no head to choose"),
        ("places('gates', cfg, 5, { layer: 2 })", "layer = 2 is not possible: there are 2"),
        ("places('gate', cfg, 5, {})", "tap gate is not known"),
        ("forward(params, [1, 99], cfg)", "token 99 is not possible"),
        (
            "forward(params, [1, 2], cfg, { edits: { gates: zero(new Uint8Array(3)) } })",
            "3 entries",
        ),
        ("forward(params, [1, 2], cfg, { edits: { selected: zero(true) } })", "freeze"),
    ],
)
def test_what_cannot_be_asked(page, code, words):
    cfg, params, _ = random_case("gates that sum to 1")
    engine = Engine(page)
    told = engine.run(
        f"try {{ {code}; }} catch (error) {{ return error.message; }} return 'nothing';",
        params=params,
        cfg=dataclasses.asdict(cfg),
    )
    assert words in told
