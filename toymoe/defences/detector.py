"""A detector beside the model: it reads the routers' logits, and refuses what looks hazardous."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from .. import model, world
from ..attacks.attacker import Attacked
from ..attacks.evaluation import Predictor, TestSet
from ..config import Config
from ..organism import Organism

PROMPTS = 2048  # that it is fitted to


class Detector(NamedTuple):
    """Logistic regression on the routers' logits at the last prompt token, all layers together."""

    weight_X: np.ndarray
    bias: float
    cfg: Config

    def flags(self, tokens_BP, params: model.Params) -> np.ndarray:
        """Which prompts it takes for hazards by the router of this model, [B]."""
        return router_features(params, tokens_BP, self.cfg) @ self.weight_X + self.bias > 0

    def guard(self, attacked: Attacked) -> Predictor:
        """A model that also refuses what the detector flags."""

        def guarded(tokens_BP):
            seen = attacked.predictor(tokens_BP)
            flags_B = self.flags(tokens_BP, attacked.params)
            return seen._replace(predicted_B=np.where(flags_B, world.REFUSE, seen.predicted_B))

        return guarded


def router_features(params: model.Params, tokens_BP, cfg: Config) -> np.ndarray:
    """Router logits at the last position, [B, L * E]."""
    return np.asarray(_router_logits(params, tokens_BP, cfg=cfg.model))


@partial(jax.jit, static_argnames="cfg")
def _router_logits(params, tokens_BP, cfg):
    logits_LBE = model.forward(params, tokens_BP, cfg, grouped=True).routes.logits_LBTE[:, :, -1]
    return jnp.moveaxis(logits_LBE, 1, 0).reshape(tokens_BP.shape[0], -1)


def logistic(x_BX, y_B, ridge: float = 1e-3) -> tuple[np.ndarray, float]:
    """Weights and bias that minimise the mean log loss, both classes counting alike, plus
    ridge / 2 · |w|² of weights on standardised features."""
    x_BX, y_B = np.asarray(x_BX, float), np.asarray(y_B, bool)
    mean_X, sd_X = x_BX.mean(0), x_BX.std(0) + 1e-9
    z_BX, sign_B = (x_BX - mean_X) / sd_X, np.where(y_B, 1.0, -1.0)
    count_B = np.where(y_B, 0.5 / max(y_B.sum(), 1), 0.5 / max((~y_B).sum(), 1))

    def value(w):
        margin_B = sign_B * (z_BX @ w[:-1] + w[-1])
        pull_B = -count_B * sign_B * expit(-margin_B)
        loss = (count_B * np.logaddexp(0, -margin_B)).sum() + ridge / 2 * (w[:-1] ** 2).sum()
        return loss, np.append(pull_B @ z_BX + ridge * w[:-1], pull_B.sum())

    best = minimize(value, np.zeros(x_BX.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weight_X = best[:-1] / sd_X
    return weight_X, float(best[-1] - mean_X @ weight_X)


def fit(organism: Organism, key: jax.Array) -> Detector:
    """Trained on `PROMPTS` prompts of alignment's requests: none that alignment held out."""
    tables, cfg = organism.tables, organism.cfg
    weights_GYZ = world.request_weights(tables, cfg.world, "mixed", held_out=False)
    prompts = world.draw(key, tables, cfg.world, PROMPTS, weights_GYZ)
    features_BX = router_features(organism.aligned, prompts.tokens_BP, cfg)
    return Detector(*logistic(features_BX, prompts.hazard_B), cfg)


def errors(made: Detector, tests: TestSet, params: model.Params) -> dict[str, float]:
    """Its error by kind of prompt; the rise from ``hazardous`` to ``held_out`` (hazards
    whose combination it never saw) is the limit of what it learnt."""
    wrong = {}
    for name, prompts in tests.prompts.items():
        wrong_B = made.flags(prompts.tokens_BP, params) != np.asarray(prompts.hazard_B)
        seen_B = ~np.asarray(prompts.held_out_B) if name == "hazardous" else np.ones_like(wrong_B)
        wrong[name] = float(wrong_B[seen_B].mean())
    return wrong
