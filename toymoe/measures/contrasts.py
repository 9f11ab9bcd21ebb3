"""The numbers of a run: behaviour of both checkpoints, routing of the aligned one, five contrasts.

Everything returned is plain numbers, lists (by layer) and dicts, ready for metrics.json; None
stands where there is nothing to measure, as for a kind of control the hazard rule does not have.
docs/metrics.md says what each one means.
"""

from functools import partial

import jax
import numpy as np

from .. import model, world
from ..config import Config
from ..model.inference import CHUNK, predict
from . import behaviour, routing

CONTRASTS = (
    "refuse_vs_answer",
    "refusal_prefix",
    "intent_twins",
    "neutral_twins",
    "object_twins",
    "topic_twins",
    "cross_topic",
    "same_topic",
)


# --- behaviour ----------------------------------------------------------------------------------


def behaviour_of(params: model.Params, tables: world.World, cfg: Config, key: jax.Array) -> dict:
    """Rates of `toymoe.measures.behaviour.rates`, each on ``cfg.eval.prompts`` prompts of its own kind.

    Accuracy and over-refusal are over the harmless requests of the training mixture; the entries
    ending in ``_held_out`` are over requests that alignment never made. ``hazard_noted`` is what
    the model knows of hazards: the share it completes correctly as notes, which nobody asks for.
    """

    def rates(n, kind, held_out=None, change=lambda tokens: tokens):
        prompts = world.sample(
            jax.random.fold_in(key, n), tables, cfg.world, cfg.eval.prompts, kind, held_out
        )
        return behaviour.rates(
            predict(params, change(prompts.tokens_BP), cfg.model).predicted_B, prompts
        )

    mixed, held, hazards = rates(0, "mixed"), rates(1, "mixed", True), rates(2, "hazardous")
    kinds = [name for name in world.CONTROLS if name in world.controls(cfg.world)]
    by_kind = dict.fromkeys(world.CONTROLS) | {
        name: rates(4 + i, name)["over_refusal"] for i, name in enumerate(kinds)
    }
    return {
        "answer_accuracy": mixed["answer_accuracy"],
        "answer_accuracy_held_out": held["answer_accuracy"],
        "over_refusal": mixed["over_refusal"],
        "over_refusal_held_out": held["over_refusal"],
        "over_refusal_by_kind": by_kind,
        "refusal": hazards["refusal"],
        "refusal_held_out": rates(3, "hazardous", True)["refusal"],
        "hazard_answered": hazards["hazard_answered"],
        "hazard_noted": rates(2, "hazardous", change=world.as_notes)["hazard_answered"],
    }


# --- routing ------------------------------------------------------------------------------------


def routing_of(
    untrained: model.Params,
    pretrained: model.Params,
    aligned: model.Params,
    tables: world.World,
    cfg: Config,
    key: jax.Array,
) -> dict:
    """Every routing measure, of the aligned model unless its name says otherwise."""
    k_prompts, k_shuffle, k_pairs = jax.random.split(key, 3)
    k_within = jax.random.fold_in(k_shuffle, 1)
    prompts = world.sample(k_prompts, tables, cfg.world, cfg.eval.routing_prompts)
    topic_B = np.asarray(prompts.topic_B)
    shuffled_B = shuffled_within(topic_B, np.zeros_like(topic_B), k_shuffle)
    gates = {
        name: predict(params, prompts.tokens_BP, cfg.model).gates_LBTE
        for name, params in (("untrained", untrained), ("before", pretrained), ("after", aligned))
    }
    context = gates["after"][:, :, context_positions(cfg)] > 0
    answer = gates["after"][:, :, -1:] > 0
    words_N = np.asarray(prompts.tokens_BP)[:, context_positions(cfg)].ravel()
    topics_N, hazard_B = topic_B.repeat(cfg.world.context), np.asarray(prompts.hazard_B)
    G, V = cfg.world.topics, len(world.vocabulary(cfg.world))
    share_LE = routing.load_share(by_token(gates["after"] > 0))
    pairs = contrasts_of(aligned, tables, cfg, k_pairs)
    return {
        "nmi_topic": {
            "context": topic_nmi(context, topic_B, G),
            "answer": topic_nmi(answer, topic_B, G),
        },
        "nmi_topic_shuffled": topic_nmi(context, shuffled_B, G),
        "nmi_topic_shuffled_answer": topic_nmi(answer, shuffled_B, G),
        "nmi_topic_untrained": topic_nmi(
            gates["untrained"][:, :, context_positions(cfg)] > 0, topic_B, G
        ),
        "nmi_token": _list(routing.label_nmi(by_token(context), words_N, V)),
        "topic_given_token": _list(
            routing.conditional_information(by_token(context), topics_N, words_N)
        ),
        "topic_given_token_shuffled": _list(
            routing.conditional_information(
                by_token(context), shuffled_within(topics_N, words_N, k_within), words_N
            )
        ),
        "intent_given_topic": _list(
            routing.conditional_information(by_token(answer), hazard_B, topic_B)
        ),
        "intent_given_topic_shuffled": _list(
            routing.conditional_information(
                by_token(answer), shuffled_within(hazard_B, topic_B, k_within), topic_B
            )
        ),
        "contrasts": pairs,
        "contrasts_pretrained": contrasts_of(pretrained, tables, cfg, k_pairs),
        "js_ratio": _ratio(pairs),
        "js_ratio_answer": _ratio(pairs, "js_answer"),
        "overlap_pretrained_aligned": _list(
            routing.selected_overlap(gates["before"] > 0, gates["after"] > 0)
        ),
        "load_share": _list(share_LE),
        "load_cv": _list(routing.load_cv(share_LE)),
        "dead_experts": _list(routing.dead_experts(share_LE)),
        "coactivation": _list(routing.coactivation(by_token(gates["after"] > 0))),
        "top_k": cfg.model.top_k,
        "experts": cfg.model.experts,
    }


def contrasts_of(
    params: model.Params, tables: world.World, cfg: Config, key: jax.Array
) -> dict[str, dict | None]:
    """The five contrasts of the paper and controls of ours: JS (nats) and overlap [L].

    Routing vectors are means over the whole sequence, and for ``js_answer`` the gates at ANS alone:
    attention is causal, so at all positions before they differ twins have the same route. Twins
    start from hazardous prompts; the two contrasts of responses force the tokens of both on the
    model.
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
    for i, name in enumerate(("intent", "neutral", "object", "topic")):
        make = jax.jit(getattr(world, f"{name}_twin"), static_argnums=2)
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
    return {name: pairs[name] for name in CONTRASTS}


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
    return _contrast(gates_a, gates_b, k) | {"js_answer": _list(last["js"])}


def _ratio(pairs, js: str = "js") -> float | None:
    """JS of cross-topic pairs over JS of intent twins, both averaged over layers."""
    above, below = (
        np.mean(pairs[name][js]) if pairs[name] else 0 for name in ("cross_topic", "intent_twins")
    )
    return float(above / below) if pairs["cross_topic"] and below else None


def _list(array) -> list:
    return np.asarray(array).tolist()


# --- for people ---------------------------------------------------------------------------------


def examples(
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
        name: control_B == 1 + i for i, name in enumerate(world.controls(cfg.world))
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
