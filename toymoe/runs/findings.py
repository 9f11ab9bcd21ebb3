"""What one run found, in sentences: five for the first screen, and one for each figure.

Every sentence is made of the run's numbers, and can come out the other way.
"""

import numpy as np

from .. import hazards
from ..pages.words import share
from . import localisation_findings
from .results import Run, name_of

# --- the first screen ---------------------------------------------------------------------------


def first_screen(run: Run) -> list[str]:
    """Five lines: what was trained, what it does, and what was found."""
    return [
        trained(run),
        behaviour(run),
        nmi(run),
        f"{localisation_findings.seat(run)} {changed(run)}",
        route(run),
    ]


def trained(run: Run) -> str:
    """What the model is, and what it was trained to do."""
    cfg = run.cfg
    return (
        f"Trained: a language model of {run.metrics['parameters']:,} parameters, with "
        f"{cfg.model.layers} layers of {cfg.model.experts} experts, {cfg.model.top_k} of which "
        f"work on each token; {cfg.pretrain.steps} steps to answer questions whose right answer "
        f"depends on the topic, then {cfg.align.steps} steps of alignment, to refuse the hazards."
    )


def changed(run: Run) -> str:
    """How far alignment changed the weights."""
    whole, experts, attention = (
        share(run.metrics["weights"][part]["relative"]) for part in ("all", "experts", "attention")
    )
    return (
        f"Alignment changed the weights by {whole} of their size (experts {experts}, attention "
        f"{attention})."
    )


# --- over training ------------------------------------------------------------------------------


def own_experts(run: Run) -> str:
    """How many experts get most of their words from one topic, before and after."""
    counts_SLGE = run.curves["topic_expert"]
    share_SLGE = counts_SLGE / np.maximum(counts_SLGE.sum(-2, keepdims=True), 1)
    first, last = (int((share_SLGE[s].max(-2) >= 0.5).sum()) for s in (0, -1))
    hardly = "" if last - first >= run.experts / 4 else "Topics hardly have their own experts: "
    return (
        f"{hardly}{last} of {run.experts} experts get at least half of their words from a single "
        f"topic of {run.cfg.world.topics}; in the untrained model {first} do."
    )


def nmi(run: Run) -> str:
    """Does routing follow the topic, beside an untrained router and shuffled topics?"""
    routing = run.metrics["routing"]
    best, untrained, shuffled = (
        max(routing["nmi_topic"]["context"]),
        *(max(routing[f"nmi_topic_{control}"]) for control in ("untrained", "shuffled")),
    )
    follows = "follows" if best >= max(0.1, 2 * untrained, 2 * shuffled) else "hardly follows"
    return (
        f"Routing {follows} the topic: in the best layer NMI is {share(best)}, in the untrained "
        f"model {share(untrained)}, with the topics shuffled {share(shuffled)}."
    )


def behaviour(run: Run) -> str:
    """What is answered and refused."""
    said = run.metrics["behaviour"]["aligned"]
    refusal, held = said["refusal"], said["refusal_held_out"]
    parts = [
        f"The model answers {share(said['answer_accuracy'])} of the harmless requests right and "
        f"refuses {share(refusal)} of the hazards"
    ]
    if held is not None:
        parts.append(f", {share(held)} of those never shown in alignment")
    if refusal < 0.5:
        parts.append(": it has not learnt to refuse")
    elif held is not None and held < 0.5 * refusal:
        parts.append(": it has learnt a list, and no rule")
    if (said["over_refusal"] or 0) >= 0.02:
        parts.append(f"; it also refuses {share(said['over_refusal'])} of the harmless ones")
    return "".join(parts) + "."


def behaviour_over_training(run: Run) -> str:
    """The same, and why answers get worse for a while when alignment begins, if they do."""
    right, refused, phase = (run.curves[n] for n in ("answer_accuracy", "over_refusal", "phase"))
    before, during = right[phase == 0], right[phase == 1]
    if not during.size or before[-1] - during.min() < 0.05 or during[-1] - during.min() < 0.03:
        return behaviour(run)
    worst = during.min()
    why = refused[phase == 1][during.argmin()]
    said = f" Early in alignment right answers fall to {share(worst)}"
    if why >= (before[-1] - worst) / 2:
        said += (
            f": refusal goes too far at first, and {share(why)} of the harmless requests are "
            "refused until the model tells them from hazards."
        )
    else:
        said += f", and not by refusal (only {share(why)} are refused): they are wrong answers."
    return behaviour(run) + said


# --- the route ----------------------------------------------------------------------------------


def contrasts(run: Run) -> str:
    """How much topic and hazard move the route, each beside its control."""
    ratios = run.metrics["routing"]["ratios"]
    topic, before = (ratios["cross_by_same_topic"][w] for w in ("aligned", "untrained"))
    said = ""
    if topic is not None and before is not None:
        said = (
            f"Topic {'moves' if topic >= 2 * before else 'hardly moves'} the route: prompts of "
            f"different topics differ {topic:.1f} times as much as prompts of one topic "
            f"(untrained: {before:.1f}). "
        )
    return said + _moved_by_refusal(ratios, hazards.RULES[run.cfg.world.hazard_rule].swaps)


def _moved_by_refusal(ratios, swapped) -> str:
    hazard_L, earlier_L = (
        ratios["intent_by_harmless_at_answer"][w] for w in ("aligned", "pretrained")
    )
    if hazard_L and earlier_L:
        hazard, layer = max((x or 0, i) for i, x in enumerate(hazard_L))
        earlier = max(x or 0 for x in earlier_L)
        at, control = f" in layer {layer}", f"the same {swapped}s do in a harmless topic"
    else:
        hazard, earlier = (
            ratios["intent_by_neutral_at_answer"][w] for w in ("aligned", "pretrained")
        )
        at, control = "", "another verb that does not"
    if hazard is None or earlier is None:
        return "Whether refusal moves the route cannot be said: there are no such twins."
    moves = hazard >= 1.5 * max(earlier, 1)  # half as much again
    return (
        f"Refusal {'moves' if moves else 'hardly moves'} it{at}: at ANS another {swapped} that "
        f"makes the request harmless moves it {hazard:.1f} times as much as {control} (before "
        f"alignment: {earlier:.1f}{' at most' if at else ''})."
    )


def load(run: Run) -> str:
    """How many experts are dead, and how busy the busiest is."""
    dead = sum(run.metrics["routing"]["dead_experts"])
    busiest = np.max(run.metrics["routing"]["load_share"]) * run.cfg.model.experts
    how = (
        f"Of {run.experts} experts {dead} do no work" if dead else f"All {run.experts} experts work"
    )
    return f"{how}; the busiest takes {busiest:.1f} times its fair share."


def route(run: Run) -> str:
    """Does refusal come with the route?"""
    found = run.metrics["inside"]["route"]
    hazard, twin = found["hazards"], found["twins"]
    own, kept, given = hazard["own"]["refused"], hazard["refused"], twin["refused"]
    said = (
        f"on the route of their harmless twins {share(kept)} of the hazards are refused (on their "
        f"own: {share(own)}), and on the hazards' route {share(given)} of the twins (on their "
        f"own: {share(twin['own']['refused'])})"
    )
    if own < 0.1:
        how = "Hardly any hazard is refused, so the route has nothing to carry"
    elif kept >= 0.75 * own and given <= 0.5 * own:
        helps = ", though it helps" if given >= 0.25 * own else ""
        how = f"The route is not the seat of refusal{helps}"
    elif kept <= 0.25 * own or given >= 0.75 * own:
        how = "The route carries refusal"
    else:
        how = "The route carries part of refusal"
    kept_routes = run.metrics["routing"]["overlap_pretrained_aligned_mean"]
    return f"{how}: {said}. Alignment kept {share(kept_routes)} of the routes."


def fork(run: Run) -> str:
    """Is there an expert that hazards select at ANS and their twins do not?"""
    after, before = (run.metrics["routing"]["contrasts"][w] for w in ("aligned", "pretrained"))
    if not after["intent_twins"]:
        return "This world has no twins, so nothing can be said."
    hazard_LE, twin_LE = np.array(after["intent_twins"]["selected_answer"])
    gap_LE = np.abs(hazard_LE - twin_LE)
    at = np.unravel_index(gap_LE.argmax(), gap_LE.shape)
    harmless = max(after["harmless_twins"]["fork"]) if after["harmless_twins"] else None
    own = gap_LE[at] >= max(0.7, 0.3 + (harmless or 0))
    how = "The router tells" if own else "The router does not tell"
    control = "" if harmless is None else f", and in a harmless topic it is {share(harmless)}"
    return (
        f"{how} hazards from their twins by one expert. The largest gap is at {name_of(*at)}: "
        f"{share(hazard_LE[at])} of the hazards select it and {share(twin_LE[at])} of the twins; "
        "before alignment the largest gap was "
        f"{share(max(before['intent_twins']['fork']))}{control}."
    )


FINDINGS = localisation_findings.FINDINGS | {  # by the name of the figure
    "film_strip": own_experts,
    "nmi": nmi,
    "behaviour": behaviour_over_training,
    "contrasts": contrasts,
    "load": load,
    "route": route,
    "fork": fork,
}
