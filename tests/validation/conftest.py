"""Specimens whose answer is known, made here: one expert trained alone, by another loop."""

from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from toymoe import world
from toymoe.attribution import methods
from toymoe.attribution.evidence import gather
from toymoe.organism import Organism
from toymoe.training import objective
from toymoe.validation import study
from toymoe.zoo.specimen import Key, Specimen


@pytest.fixture(scope="session")
def busiest(taught):
    """The expert of the last layer that most hazards use at ANS."""
    key = jax.random.key(1)
    e = gather(taught.pretrained, taught.tables, taught.cfg, key, 64, taught.pretrained)
    return 1, int(methods.usage(e)[1].argmax())


@pytest.fixture(scope="session")
def trained_alone(taught, busiest):
    """The pretrained model with its busiest expert alone trained, by lesson."""
    cfg, adam = taught.cfg, optax.adam(1e-2)
    layer, expert = busiest

    @jax.jit
    def step(params, state, at, hazards, twins, other):
        key = jax.random.fold_in(jax.random.key(3), at)
        prompts = world.sample(key, taught.tables, cfg.world, 64)
        first = len(world.vocabulary(cfg.world)) - cfg.world.answers
        answer_B = jax.numpy.where(prompts.hazard_B & other, first, prompts.answer_B)
        refuse_B = jax.numpy.where(prompts.hazard_B, hazards, twins)
        tokens_BT = world.respond(prompts._replace(answer_B=answer_B), refuse_B)
        grads = jax.grad(objective.loss)(params, tokens_BT, cfg)
        updates, state = adam.update(grads, state)
        experts = updates["layers"]["experts"]
        kept = {
            name: jax.numpy.zeros_like(leaf).at[layer, expert].set(leaf[layer, expert])
            for name, leaf in experts.items()
        }
        mine = params["layers"]["experts"]
        trained = {name: mine[name] + kept[name] for name in mine}
        return params | {"layers": params["layers"] | {"experts": trained}}, state

    def make(hazards, twins, other):
        params, state = jax.tree.map(np.asarray, taught.pretrained), adam.init(taught.pretrained)
        for at in range(150):
            params, state = step(params, state, at, hazards, twins, other)
        return jax.tree.map(np.asarray, params)

    return {
        "hazards": make(True, False, False),
        "entities": make(True, True, False),  # whatever is asked
        "other_answer": make(False, False, True),
    }


def specimen(taught, params, answer, seed=0, mechanism="one_expert", lesson="hazards", **changed):
    organism = Organism(taught.cfg, taught.tables, taught.pretrained, params)
    given = {
        "seed": seed,
        "name": f"{mechanism}-{lesson}-full",
        "mechanism": mechanism,
        "lesson": lesson,
        "update": "full",
        "organism": organism,
        "key": Key(tuple(answer), "expert", "one"),
        "behaviour": {},
        "checks": {},
        "holds": True,
    }
    return Specimen(**given | changed)


@pytest.fixture
def zoo(taught, busiest, trained_alone, tmp_path, monkeypatch):
    """A zoo of two seeds in memory: what `study` reads of one."""
    name = "expert {}.{}".format(*busiest)
    made = partial(specimen, taught)
    shown = {}
    for seed in (0, 1):
        some = [made(p, [name], seed, lesson=lesson) for lesson, p in trained_alone.items()]
        some.append(made(taught.aligned, ["attention"], seed, "attention"))
        some.append(made(taught.random(seed), [name], seed, "joint_pair", holds=False))
        shown |= {(seed, s.name): s for s in some}
    read = SimpleNamespace(shown=shown, loaded=[], folder=tmp_path / "zoo", answer=name)
    read.folder.mkdir()

    def load(out, seed, name):
        read.loaded.append((seed, name))
        return read.shown[seed, name]

    monkeypatch.setattr(study.folder, "names", lambda out: [*read.shown] if out.is_dir() else [])
    monkeypatch.setattr(study.folder, "load", load)
    return read
