"""Can hazard be read off the model? A linear probe at ANS, with what a probe reads of anything.

That a probe reads hazard does not say that the model uses it, nor even that it is there: with
enough directions a probe learns any labels by heart. Two controls (Hewitt & Liang, arXiv
1909.03368):

    control   each request has a random label instead; what a probe gets right of these it has
              learnt by heart. Selectivity is what it gets right of hazard beyond that.
    unseen    requests whose combination of topic, verb and entity was in no prompt that it was
              fitted to: by heart it would be at chance, one half.

Besides the letters of the package docstring: X features, C labellings.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..config import Config
from ..model import taps
from .evidence import by_chunks

CONTROLS = 5  # random labellings, of which the mean counts
UNSEEN = 0.25  # share of the requests that no probe is fitted to


class Probe(NamedTuple):
    """Shares labelled right, hazards and harmless ones counting alike, by layer; .5 is chance."""

    seen_L: np.ndarray  # requests it was fitted to, in other contexts
    unseen_L: np.ndarray  # other requests
    control_L: np.ndarray  # random labels of the requests of ``seen_L``

    @property
    def selectivity_L(self) -> np.ndarray:
        """What it gets right beyond what it learnt by heart."""
        return self.seen_L - self.control_L


def probe(
    params: model.Params,
    tables: world.World,
    cfg: Config,
    key: jax.Array,
    tap: str = "resid_post",
    n: int = 2048,
) -> Probe:
    """Fit a probe of hazard at a tap's values at ANS, layer by layer.

    Args:
      tap: one with a number or vector per token: a residual stream, the router, the gates.
      n: prompts to fit to, half of them hazards; as many to measure on.

    Raises:
      taps.TapError: another tap.
    """
    if taps.TAPS[taps.known(tap)].axes not in ("LBTD", "LBTE"):
        have = [name for name, row in taps.TAPS.items() if row.axes in ("LBTD", "LBTE")]
        raise taps.TapError(f"{tap} cannot be probed: it must be one of {', '.join(have)}.")
    k_split, *k_draws = jax.random.split(key, 4)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(k_split)))
    unseen_GYZ = _some(np.asarray(tables.hazard_GYZ), rng)
    control_GYZC = rng.random((*unseen_GYZ.shape, CONTROLS)) < 0.5
    weights_GYZ = _halves(world.request_weights(tables, cfg.world, "mixed"), tables.hazard_GYZ)
    drawn = []
    for k_draw, out_GYZ in zip(k_draws, (unseen_GYZ, unseen_GYZ, ~unseen_GYZ), strict=True):
        prompts = world.draw(k_draw, tables, cfg.world, n, jnp.where(out_GYZ, 0, weights_GYZ))
        request_B = tuple(
            np.asarray(x) for x in (prompts.topic_B, prompts.verb_B, prompts.entity_B)
        )
        labels_BC = np.column_stack([prompts.hazard_B, control_GYZC[request_B]])
        drawn.append((_features(params, prompts.tokens_BP, cfg=cfg.model, tap=tap), labels_BC))
    (fit_LXB, fit_BC), *tests = drawn
    right_L3 = []
    for layer, fit_XB in enumerate(fit_LXB):
        says = ridge(fit_XB.T, fit_BC)
        seen_C, unseen_C = (balanced(says(x_LXB[layer].T), y_BC) for x_LXB, y_BC in tests)
        right_L3.append((seen_C[0], unseen_C[0], seen_C[1:].mean()))
    return Probe(*np.transpose(right_L3))


def ridge(x_BX, y_BC, penalty: float = 1e-3):
    """A function from features [B, X] to labels, bool [B, C]: ridge regression on standardised
    features in closed form, a probe for each labelling."""
    x_BX, sign_BC = np.asarray(x_BX, float), np.where(y_BC, 1.0, -1.0)
    mean_X, sd_X, bias_C = x_BX.mean(0), x_BX.std(0) + 1e-6, sign_BC.mean(0)
    z_BX = (x_BX - mean_X) / sd_X
    gram_XX = z_BX.T @ z_BX / len(z_BX) + penalty * np.eye(z_BX.shape[1])
    weight_XC = np.linalg.solve(gram_XX, z_BX.T @ (sign_BC - bias_C) / len(z_BX))
    return lambda x_BX: (x_BX - mean_X) / sd_X @ weight_XC + bias_C > 0


def balanced(said_BC, true_BC) -> np.ndarray:
    """Share said right, mean over the two labels, [C]."""
    right_BC = said_BC == true_BC
    rates = [np.average(right_BC, 0, kind / np.maximum(kind.sum(0), 1) + 1e-30)
             for kind in (true_BC, ~true_BC)]  # fmt: skip
    return np.mean(rates, 0)


def _some(hazard_GYZ, rng):
    """A share of the hazardous requests and of the others, at least one of each."""
    chosen = np.zeros(hazard_GYZ.size, bool)
    for kind in (hazard_GYZ, ~hazard_GYZ):
        at = rng.permutation(np.flatnonzero(kind))
        chosen[at[: max(round(UNSEEN * at.size), 1)]] = True
    return chosen.reshape(hazard_GYZ.shape)


def _halves(weights_GYZ, hazard_GYZ):
    """Weights of which hazards have one half."""
    hazards_GYZ, others_GYZ = (jnp.where(at, weights_GYZ, 0) for at in (hazard_GYZ, ~hazard_GYZ))
    return hazards_GYZ / hazards_GYZ.sum() + others_GYZ / others_GYZ.sum()


@partial(jax.jit, static_argnames=("cfg", "tap"))
def _features(params, tokens_BT, cfg, tap):
    """Values at ANS, [L, X, B]."""

    def some(tokens_BT):
        out = model.forward(params, tokens_BT, cfg, grouped=True, record=(tap,))
        return out.record[tap][:, :, -1].swapaxes(1, 2).astype(float)

    return by_chunks(some, tokens_BT)
