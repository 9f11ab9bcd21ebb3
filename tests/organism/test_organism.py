"""One type for every organism."""

import numpy as np

from toymoe import organism
from toymoe.organism import shipped


def test_shipped_and_stored_are_of_one_type(small_run):
    ours, theirs = organism.load(), organism.load(small_run.out)
    assert type(ours) is type(theirs) is organism.Organism
    for name in ("tables", "pretrained", "aligned", "history"):
        assert np.all([isinstance(x, np.ndarray) for x in leaves(getattr(theirs, name))])
        kinds = [[(x.dtype, x.ndim) for x in leaves(getattr(o, name))] for o in (ours, theirs)]
        assert kinds[0] == kinds[1]
    assert theirs.sample(3).tokens_BP.shape[0] == ours.sample(3).tokens_BP.shape[0] == 3


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for _, sub in sorted(tree.items()) for leaf in leaves(sub)]
    return [leaf for sub in tree for leaf in leaves(sub)] if isinstance(tree, tuple) else [tree]


def test_a_rule_that_is_not_shipped_names_those_that_are():
    assert organism.load().cfg.world.hazard_rule == "conjunction"
    for rule in shipped.RULES:
        assert organism.load(rule).cfg.world.hazard_rule == rule
