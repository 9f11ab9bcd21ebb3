"""The model in JavaScript held against the one in JAX: logits, routes, selected experts."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from explorer import engine
from explorer.against_jax import CLOSE, SHAPES, agree, apart, random_case, said, shipped_case
from explorer.engine import Engine, text_of

from toymoe import model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("optimised")]

CASES = {
    **{name: partial(shipped_case, name) for name in ("conjunction", "topic")},
    **{name: partial(random_case, name) for name in SHAPES},
}


# --- the forward pass ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_model_says_what_jax_says(page, name):
    case = CASES[name]()
    cfg, params, tokens_BT = case
    theirs = model.forward(params, tokens_BT, cfg)
    mine = said(page, case)
    assert np.abs(mine.logits_BTV - theirs.logits_BTV).max() <= CLOSE
    assert agree(mine, theirs)
    for field in ("logits_LBTE", "probs_LBTE", "gates_LBTA"):
        assert apart(getattr(theirs.routes, field), getattr(mine.routes, field)) <= CLOSE
    used = np.unique(mine.routes.experts_LBTA)
    assert len(used) > cfg.experts / 2  # or the routes would have been easy


def test_the_last_position_alone(page):
    cfg, params, tokens_BT = random_case("forty experts")
    here = Engine(page)
    here.keep(params=params, cfg=dataclasses.asdict(cfg), tokens=tokens_BT[0].tolist())
    found = here.run(
        "return [forward(params, tokens, cfg), forward(params, tokens, cfg, { last: true }),"
        " { logits: last_logits(params, tokens, cfg) }].map((x) => x.logits)"
    )
    whole_V = found[0].reshape(tokens_BT.shape[1], -1)[-1]
    np.testing.assert_array_equal(found[1], whole_V)
    np.testing.assert_array_equal(found[2], whole_V)


BUGS = {
    "the rotation backwards": ("a * c - b * s", "a * c + b * s"),
    "pairs of neighbours": ("const b = x_TD[at + half]", "const b = x_TD[at + (half > 1)]"),
    "softmax after top-k": (
        "gates: gates_of(probs, experts, normalise)",
        "gates: gates_of(probs, experts, true)",
    ),
    "no epsilon": ("squares / D + EPSILON", "squares / D"),
    "the next expert": ("const which = layer * E + e;", "const which = layer * E + ((e + 1) % E);"),
    "no position sees itself": ("s <= t", "s < t"),
    "each sees the next": ("s <= t", "s <= t + 1"),
    "the next unit of up": (
        "* gate_up_U[F + f]",
        "* gate_up_U[F + ((f + 1) % F)]",
    ),
    "scores by the whole width": ("score / Math.sqrt(K)", "score / Math.sqrt(D)"),
    "the first layer's router": ("p.router, layer * D * E", "p.router, 0 * D * E"),
    "no final norm": ("params.final_norm, 0", "params.layers.moe_norm, 0"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(page, bug):
    cfg, params, tokens_BT = random_case("forty experts")
    case = cfg, params, tokens_BT[:8]
    theirs = model.forward(params, tokens_BT[:8], cfg)
    old, new = BUGS[bug]
    text = text_of()
    assert old in text
    assert agree(said(page, case), theirs)
    wrong = said(page.context.new_page(), case, text=text.replace(old, new))
    assert not agree(wrong, theirs)


# --- where there is no browser ------------------------------------------------------------------


@pytest.mark.parametrize("promised", ["", "1"])
def test_a_missing_browser_is_a_skip_unless_one_is_promised(monkeypatch, promised):
    monkeypatch.setattr(engine, "chromium", lambda: None)
    monkeypatch.setenv("TOYMOE_BROWSER", promised)
    outcome = pytest.fail if promised else pytest.skip
    with pytest.raises(outcome.Exception, match="a browser called chromium"), engine.browsing():
        raise AssertionError("there is none")
