"""Routing in numbers: every routing measure of a run, and the five contrasts of the paper.

Everything returned is plain numbers, lists (by layer) and dicts, ready for metrics.json; None
stands where there is nothing to measure. docs/metrics.md says what each one means.
"""

from functools import partial

import jax
import numpy as np

from .. import model, world
from ..config import Config
from ..model.inference import predict
from . import paper, routing

# What is divided by what, and of which measure: averaged over layers first.
RATIOS = {
    "cross_by_same_topic": ("cross_topic", "same_topic", "js"),
    "intent_by_neutral_at_answer": ("intent_twins", "neutral_twins", "js_answer"),
    "cross_topic_by_intent": ("cross_topic", "intent_twins", "js"),  # our ratio; see docs
}


def routing_of(
    untrained: model.Params,
    pretrained: model.Params,
    aligned: model.Params,
    tables: world.World,
    cfg: Config,
    key: jax.Array,
) -> dict:
    """Every routing measure, of the aligned model unless its name says otherwise.

    Contrasts, and what is said of them, are of three models side by side: a random router already
    tells words apart, so a contrast by itself says nothing about learning.
    """
    k_prompts, k_shuffle, k_pairs = jax.random.split(key, 3)
    prompts = world.sample(k_prompts, tables, cfg.world, cfg.eval.routing_prompts)
    prompts = jax.tree.map(np.asarray, prompts)
    untrained_LBTE, pretrained_LBTE, selected_LBTE = (
        predict(params, prompts.tokens_BP, cfg.model).gates_LBTE > 0
        for params in (untrained, pretrained, aligned)
    )
    kept_L = routing.selected_overlap(pretrained_LBTE, selected_LBTE)
    models = {"untrained": untrained, "pretrained": pretrained, "aligned": aligned}
    pairs = {name: contrasts_of(params, tables, cfg, k_pairs) for name, params in models.items()}
    return {
        **_topic_measures(untrained_LBTE, selected_LBTE, prompts, cfg, k_shuffle),
        **_conditional_measures(untrained_LBTE, selected_LBTE, prompts, cfg, k_shuffle),
        "contrasts": pairs,
        "ratios": {
            name: {which: _ratio(found, *ratio) for which, found in pairs.items()}
            for name, ratio in RATIOS.items()
        },
        "overlap_pretrained_aligned": _list(kept_L),
        "overlap_pretrained_aligned_mean": float(kept_L.mean()),
        **_load_measures(selected_LBTE),
        "top_k": cfg.model.top_k,
        "experts": cfg.model.experts,
    }


def _topic_measures(untrained_LBTE, selected_LBTE, prompts, cfg, k_shuffle) -> dict:
    """How much experts know of the topic, over the context words and at ANS, with controls."""
    where, topic_B, G = context_positions(cfg), prompts.topic_B, cfg.world.topics
    shuffled_B = shuffled_within(topic_B, np.zeros_like(topic_B), k_shuffle)
    context_LBTE, answer_LBTE = selected_LBTE[:, :, where], selected_LBTE[:, :, -1:]
    words_N, V = prompts.tokens_BP[:, where].ravel(), len(world.vocabulary(cfg.world))
    return {
        "nmi_topic": {
            "context": topic_nmi(context_LBTE, topic_B, G),
            "answer": topic_nmi(answer_LBTE, topic_B, G),
        },
        "nmi_topic_shuffled": topic_nmi(context_LBTE, shuffled_B, G),
        "nmi_topic_shuffled_answer": topic_nmi(answer_LBTE, shuffled_B, G),
        "nmi_topic_untrained": topic_nmi(untrained_LBTE[:, :, where], topic_B, G),
        "nmi_token": _list(routing.label_nmi(by_token(context_LBTE), words_N, V)),
    }


def _conditional_measures(untrained_LBTE, selected_LBTE, prompts, cfg, k_shuffle) -> dict:
    """What experts know of the topic beyond the token, and at ANS of the hazard beyond the topic;
    each with the labels shuffled among those of the same token, or topic."""
    where, key = context_positions(cfg), jax.random.fold_in(k_shuffle, 1)
    topic_N = prompts.topic_B.repeat(cfg.world.context)
    token_N = prompts.tokens_BP[:, where].ravel()
    untrained_LNE = by_token(untrained_LBTE[:, :, where])
    asked = {
        "topic_given_token": (by_token(selected_LBTE[:, :, where]), topic_N, token_N),
        "intent_given_topic": (
            by_token(selected_LBTE[:, :, -1:]),
            prompts.hazard_B,
            prompts.topic_B,
        ),
    }
    made = {}
    for name, (selected_LNE, labels_N, given_N) in asked.items():
        for suffix, labels in (
            ("", labels_N),
            ("_shuffled", shuffled_within(labels_N, given_N, key)),
        ):
            information_L = routing.conditional_information(selected_LNE, labels, given_N)
            made[name + suffix] = _list(information_L)
    made["topic_given_token_untrained"] = _list(
        routing.conditional_information(untrained_LNE, topic_N, token_N)
    )
    return made


def _load_measures(selected_LBTE) -> dict:
    """How the work is shared among experts, and which are selected together."""
    share_LE = routing.load_share(by_token(selected_LBTE))
    return {
        "load_share": _list(share_LE),
        "load_cv": _list(routing.load_cv(share_LE)),
        "dead_experts": _list(routing.dead_experts(share_LE)),
        "coactivation": _list(routing.coactivation(by_token(selected_LBTE))),
    }


def contrasts_of(
    params: model.Params, tables: world.World, cfg: Config, key: jax.Array
) -> dict[str, dict | None]:
    """The five contrasts of the paper and controls of ours: JS (nats) and overlap [L].

    Routing vectors are means over the whole sequence, and for ``js_answer`` the gates at ANS alone:
    attention is causal, so at all positions before they differ twins have the same route. The
    *fork* there, ``selected_answer``, is the share of either's prompts that select each expert
    [L, E], and ``fork`` the largest difference between the two [L]. Twins start from hazardous
    prompts; the two contrasts of responses force the tokens of both on the model.
    """
    n = cfg.eval.routing_prompts
    hazards = world.sample(jax.random.fold_in(key, 0), tables, cfg.world, n, "hazardous")
    mixed = world.sample(jax.random.fold_in(key, 1), tables, cfg.world, n)
    look = partial(predict, params, cfg=cfg.model)
    seen, respond = look(hazards.tokens_BP).gates_LBTE, jax.jit(world.respond)
    refused, answered = (
        look(respond(hazards, np.full(n, refuse))[:, :-1]).gates_LBTE  # END is never read
        for refuse in (True, False)
    )
    k = cfg.model.top_k
    pairs = {
        "refuse_vs_answer": _contrast(refused, answered, k),
        "refusal_prefix": _contrast(seen, refused, k),
    }
    for i, (name, twin_of) in enumerate(world.TWINS.items()):
        make = jax.jit(twin_of, static_argnums=2)
        twins, exists_B = make(jax.random.fold_in(key, 2 + i), tables, cfg.world, hazards)
        keep = np.asarray(exists_B)
        twin = look(twins.tokens_BP).gates_LBTE
        pairs[f"{name}_twins"] = _of_prompts(seen[:, keep], twin[:, keep], k)
    other, topic_B = look(mixed.tokens_BP).gates_LBTE, np.asarray(mixed.topic_B)
    apart = topic_B != np.roll(topic_B, 1)
    pairs["cross_topic"] = _of_prompts(other[:, apart], np.roll(other, 1, 1)[:, apart], k)
    order = np.argsort(topic_B, kind="stable")
    a, b = order[:-1], order[1:]  # next to each other among those of the topic
    alike = topic_B[a] == topic_B[b]
    pairs["same_topic"] = _of_prompts(other[:, a[alike]], other[:, b[alike]], k)
    return {name: pairs[name] for name in paper.CONTRAST_LABELS if name in pairs} | pairs


def context_positions(cfg: Config) -> slice:
    """The positions of the context words."""
    return slice(1, 1 + cfg.world.context)


def shuffled_within(labels_N, given_N, key: jax.Array) -> np.ndarray:
    """The labels, exchanged among those of the same given value: [N]."""
    luck_N = np.asarray(jax.random.uniform(key, np.shape(labels_N)))
    made_N = np.empty_like(labels_N)
    made_N[np.argsort(given_N, kind="stable")] = labels_N[np.lexsort((luck_N, given_N))]
    return made_N


def by_token(selected_LBTE):
    """Prompts and positions as one axis of tokens: [L, N, E]."""
    return selected_LBTE.reshape(len(selected_LBTE), -1, selected_LBTE.shape[-1])


def topic_nmi(selected_LBTE, topic_B, topics: int) -> list[float]:
    """NMI(topic; expert) over the given positions, by layer."""
    labels_N = np.asarray(topic_B).repeat(selected_LBTE.shape[2])
    return _list(routing.label_nmi(by_token(selected_LBTE), labels_N, topics))


def _contrast(gates_a, gates_b, k):
    return {name: _list(x) for name, x in routing.contrast(gates_a, gates_b, k).items()}


def _of_prompts(gates_a, gates_b, k) -> dict | None:
    """A contrast of prompts that end with ANS; None where there are no pairs."""
    if not gates_a.shape[1]:
        return None
    last = routing.contrast(gates_a[:, :, -1:], gates_b[:, :, -1:], k)
    shares_LE = [(gates[:, :, -1] > 0).mean(1) for gates in (gates_a, gates_b)]
    return _contrast(gates_a, gates_b, k) | {
        "js_answer": _list(last["js"]),
        "selected_answer": [_list(share_LE) for share_LE in shares_LE],
        "fork": _list(np.abs(shares_LE[0] - shares_LE[1]).max(-1)),
    }


def _ratio(pairs, above: str, below: str, measure: str) -> float | None:
    """A measure of one contrast over that of another, both averaged over layers; None where one of
    them does not exist, or the second is 0."""
    if not (pairs[above] and pairs[below] and any(pairs[below][measure])):
        return None
    return float(np.mean(pairs[above][measure]) / np.mean(pairs[below][measure]))


def _list(array) -> list:
    return np.asarray(array).tolist()
