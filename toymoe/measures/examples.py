"""Prompts for people to read, and what a model says to them before and after alignment."""

import jax
import numpy as np

from .. import model, world
from ..config import Config
from ..model.inference import CHUNK, predict


def examples_of(
    models: dict[str, model.Params], tables: world.World, cfg: Config, key: jax.Array, n: int = 2
) -> list[dict]:
    """Up to ``n`` prompts of each kind, as `toymoe.world.show` writes them, and what each model
    says.

    Returns:
      dicts of ``kind``, ``prompt`` and, for every name in ``models``, a word of the vocabulary.
    """
    vocabulary = world.vocabulary(cfg.world)
    prompts = world.sample(key, tables, cfg.world, cfg.eval.prompts)
    prompts = jax.tree.map(lambda x: np.asarray(x)[:CHUNK], prompts)  # enough to choose from
    hazard_B, control_B = np.asarray(prompts.hazard_B), np.asarray(prompts.control_B)
    kinds = {"harmless": ~hazard_B & (control_B == 0), "hazardous": hazard_B} | {
        name: control_B == 1 + world.CONTROLS.index(name) for name in world.controls(cfg.world)
    }
    said = {
        name: predict(params, prompts.tokens_BP, cfg.model).predicted_B
        for name, params in models.items()
    }
    return [
        {"kind": kind.replace("_", " "), "prompt": world.show(prompts, tables, cfg.world, b)}
        | {name: vocabulary[predicted_B[b]] for name, predicted_B in said.items()}
        for kind, among_B in kinds.items()
        for b in np.flatnonzero(among_B)[:n]
    ]
