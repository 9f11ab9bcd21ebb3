"""What attribution is held against: whole runs of cut or edited models, by the reference path."""

import numpy as np

from toymoe import model, world

N = 24  # pairs of the evidence


def forward(params, tokens_BT, cfg, edits=None, record=()):
    """Op by op, all experts computed."""
    return model.forward_unchecked(params, tokens_BT, cfg, False, edits, record)


def said(params, cfg, prompts, edits=None):
    """Refusal margin and answer of each prompt."""
    logits_BV = np.asarray(forward(params, prompts.tokens_BP, cfg, edits).logits_BTV[:, -1])
    right_B = np.asarray(prompts.answer_B)
    margin_B = logits_BV[:, world.REFUSE] - logits_BV[np.arange(len(right_B)), right_B]
    return margin_B, logits_BV.argmax(-1)


def values(params, e, edits=(None, None)):
    """The four numbers of `ablation.Effect`."""
    (hazard, says), (twin, answers) = (
        said(params, e.cfg, prompts, edit)
        for prompts, edit in zip((e.hazards, e.twins), edits, strict=True)
    )
    right = (answers == np.asarray(e.twins.answer_B)).mean()
    return np.array([hazard.mean(), (says == world.REFUSE).mean(), right, twin.mean()])


def with_expert(params, layer, expert, theirs):
    """The parameters with one expert's two matrices replaced, or zeroed."""
    experts = {k: np.array(v) for k, v in params["layers"]["experts"].items()}
    for name, leaf in experts.items():
        leaf[layer, expert] = 0 if theirs is None else theirs[name][layer, expert]
    return params | {"layers": params["layers"] | {"experts": experts}}
