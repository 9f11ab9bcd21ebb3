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


# --- experts that say what the test wants -------------------------------------------------------


def into_experts(params, cfg, tokens_BT, layer):
    """What the experts of a layer read, [B, T, D]."""
    x_BTD = forward(params, tokens_BT, cfg, record=("resid_mid",)).record["resid_mid"][layer]
    return np.asarray(model.rms_norm(x_BTD, params["layers"]["moe_norm"][layer]))


def reader(params, e, layer):
    """A direction on which the experts of a layer read +1 of each hazard at ANS and -1 of twins."""
    read = [into_experts(params, e.cfg, p.tokens_BP, layer)[:, -1] for p in (e.hazards, e.twins)]
    sign_B = np.repeat([1.0, -1.0], len(read[0]))
    return np.linalg.lstsq(np.concatenate(read), sign_B, rcond=None)[0]


def speaker(params, layer, expert, gate_D, up_D, out_D):
    """The parameters with one expert that says silu(gate · h) (up · h) times ``out_D``."""
    experts = {k: np.array(v) for k, v in params["layers"]["experts"].items()}
    F = experts["down"].shape[2]
    experts["gate_up"][layer, expert] = np.repeat([gate_D, up_D], F, 0).T
    experts["down"][layer, expert] = np.asarray(out_D) / F
    return params | {"layers": params["layers"] | {"experts": experts}}


def toward_refusal(params, e):
    """From the right answers to REFUSE, in the residual stream, [D]."""
    unembed_DV = np.asarray(params["unembed"])
    return unembed_DV[:, world.REFUSE] - unembed_DV[:, np.unique(e.hazards.answer_B)].mean(1)
