"""Patched runs in JavaScript, held against `toymoe.attribution.patching`."""

import dataclasses

import numpy as np
import pytest
from explorer.engine import text_of
from explorer.test_engine_removal import CLOSE, begun, shipped

from toymoe import world
from toymoe.attribution import patching, route_patching

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("optimised")]

GRID = "return patch_grids(params, cfg, pairs, tap, way)"
PATCHED = ("resid_pre", "pattern", "head_out", "router_logits", "selected", "gates", "expert_out")


@pytest.mark.parametrize("name", ["conjunction", "topic"])
def test_patching_over_pairs(page, name):
    e = shipped(name)
    engine = begun(page, e)
    theirs = patching.patch_each(e, PATCHED, "LT")
    for tap in PATCHED:
        for way in ("removed", "restored"):
            mine = engine.run(GRID, tap=tap, way=way)
            share_LT = getattr(theirs[tap], way)
            np.testing.assert_allclose(mine, share_LT.ravel(), atol=CLOSE, err_msg=f"{tap} {way}")
    assert np.abs(theirs["expert_out"].removed).max() > 0.01


def test_patching_of_one_pair(page):
    e = shipped()
    one = dataclasses.replace(
        e, **{k: world.Prompts(*(x[3:4] for x in getattr(e, k))) for k in ("hazards", "twins")}
    )
    theirs = patching.patch_each(one, ("resid_post", "expert_out"), "LT")
    engine = begun(page, e)
    engine.keep(h=one.hazards.tokens_BP[0].tolist(), t=one.twins.tokens_BP[0].tolist())
    engine.keep(right=[int(one.hazards.answer_B[0]), int(one.twins.answer_B[0])])
    for tap, found in theirs.items():
        for way in ("removed", "restored"):
            code = "return patch_grid(params, cfg, h, t, right, tap, way)"
            mine = engine.run(code, tap=tap, way=way)
            np.testing.assert_allclose(mine, getattr(found, way).ravel(), atol=CLOSE)
    same = engine.run("return patch_grid(params, cfg, h, h, right, 'resid_post', 'removed')")
    assert not same.any()  # a prompt is its own twin: nothing to carry
    wrong = text_of().replace("logits_V[REFUSE] - Math.max", "logits_V[REFUSE] - Math.min")
    engine = begun(page.context.new_page(), e, wrong)
    share_LT = patching.patch(e, "expert_out").removed
    mine = engine.run(GRID, tap="expert_out", way="removed")
    assert np.abs(mine - share_LT.ravel()).max() > CLOSE


def test_a_hazard_on_its_twins_route(page):
    """The other way to a frozen route: of another prompt."""
    e = shipped()
    predicted_B = np.asarray(
        route_patching._on_route(
            e.params,
            e.hazards.tokens_BP,
            e.twins.tokens_BP,
            e.hazards.answer_B,
            cfg=e.cfg,
        ).predicted_B
    )
    mine = begun(page, e).run(
        "return pairs.hazards.tokens_BP.map((tokens, b) => argmax(last_logits(params, tokens, cfg,"
        " { route: freeze(forward(params, pairs.twins.tokens_BP[b], cfg).routes) })))"
    )
    np.testing.assert_array_equal(mine, predicted_B)
