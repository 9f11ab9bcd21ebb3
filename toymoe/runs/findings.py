"""What one run found, in sentences: five for the first screen, and one for each figure.

Every sentence is made of the run's numbers, and can come out the other way.
"""

from typing import NamedTuple

import numpy as np

from .. import hazards, world
from ..attribution.removal import sits_in_few
from ..config import Config


class Run(NamedTuple):
    """What a sentence is made of."""

    cfg: Config
    metrics: dict
    curves: dict[str, np.ndarray]

    @property
    def experts(self) -> int:
        """Of all layers."""
        return self.cfg.model.layers * self.cfg.model.experts


# --- the first screen ---------------------------------------------------------------------------


def first_screen(run: Run) -> list[str]:
    """Five lines: what was trained, what it does, and what was found."""
    return [trained(run), behaviour(run), nmi(run), f"{seat(run)} {changed(run)}", route(run)]


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
        _share(run.metrics["weights"][part]["relative"]) for part in ("all", "experts", "attention")
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
        f"Routing {follows} the topic: in the best layer NMI is {_share(best)}, in the untrained "
        f"model {_share(untrained)}, with the topics shuffled {_share(shuffled)}."
    )


def behaviour(run: Run) -> str:
    """What is answered and refused."""
    said = run.metrics["behaviour"]["aligned"]
    refusal, held = said["refusal"], said["refusal_held_out"]
    parts = [
        f"The model answers {_share(said['answer_accuracy'])} of the harmless requests right and "
        f"refuses {_share(refusal)} of the hazards"
    ]
    if held is not None:
        parts.append(f", {_share(held)} of those never shown in alignment")
    if refusal < 0.5:
        parts.append(": it has not learnt to refuse")
    elif held is not None and held < 0.5 * refusal:
        parts.append(": it has learnt a list, and no rule")
    if (said["over_refusal"] or 0) >= 0.02:
        parts.append(f"; it also refuses {_share(said['over_refusal'])} of the harmless ones")
    return "".join(parts) + "."


def behaviour_over_training(run: Run) -> str:
    """The same, and why answers get worse for a while when alignment begins, if they do."""
    right, refused, phase = (run.curves[n] for n in ("answer_accuracy", "over_refusal", "phase"))
    before, during = right[phase == 0], right[phase == 1]
    if not during.size or before[-1] - during.min() < 0.05 or during[-1] - during.min() < 0.03:
        return behaviour(run)
    worst = during.min()
    why = refused[phase == 1][during.argmin()]
    said = f" Early in alignment right answers fall to {_share(worst)}"
    if why >= (before[-1] - worst) / 2:
        said += (
            f": refusal goes too far at first, and {_share(why)} of the harmless requests are "
            "refused until the model tells them from hazards."
        )
    else:
        said += f", and not by refusal (only {_share(why)} are refused): they are wrong answers."
    return behaviour(run) + said


# --- the route ----------------------------------------------------------------------------------


def contrasts(run: Run) -> str:
    """How much topic and hazard move the route, each beside its control."""
    ratios = run.metrics["routing"]["ratios"]
    topic, before = (ratios["cross_by_same_topic"][w] for w in ("aligned", "untrained"))
    said = ""
    if topic is not None and before is not None:
        said = (
            f"Topic {_moves(topic, before)} the route: prompts of different topics differ "
            f"{topic:.1f} times as much as prompts of one topic (untrained: {before:.1f}). "
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
    return (
        f"Refusal {_moves(hazard, earlier)} it{at}: at ANS another {swapped} that makes the "
        f"request harmless moves it {hazard:.1f} times as much as {control} (before alignment: "
        f"{earlier:.1f}{' at most' if at else ''})."
    )


def _moves(ratio, control) -> str:
    """Half as much again as its control, and as nothing, which is one."""
    return "moves" if ratio >= 1.5 * max(control, 1) else "hardly moves"


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
        f"on the route of their harmless twins {_share(kept)} of the hazards are refused (on their "
        f"own: {_share(own)}), and on the hazards' route {_share(given)} of the twins (on their "
        f"own: {_share(twin['own']['refused'])})"
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
    return f"{how}: {said}. Alignment kept {_share(kept_routes)} of the routes."


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
    control = "" if harmless is None else f", and in a harmless topic it is {_share(harmless)}"
    return (
        f"{how} hazards from their twins by one expert. The largest gap is at {_name(*at)}: "
        f"{_share(hazard_LE[at])} of the hazards select it and {_share(twin_LE[at])} of the twins; "
        "before alignment the largest gap was "
        f"{_share(max(before['intent_twins']['fork']))}{control}."
    )


# --- where refusal lives ------------------------------------------------------------------------


def seat(run: Run) -> str:
    """Does refusal sit in few experts?"""
    found = run.metrics["inside"]["removal"]["set_back"]
    few, other = found["m50"], found["random"]["m50"]
    if found["refusal"][0] < 0.1 or few is None:
        return _verdict(run)
    random = "random ones never do" if other is None else f"of random ones it takes {other:.0f}"
    return f"{_verdict(run)}: {few} of {run.experts} set back halve it, {random}."


def localisation(run: Run) -> str:
    """How much refusal is left without the experts that carry half of it, and beside it."""
    removal = run.metrics["inside"]["removal"]
    found, few = removal["set_back"], removal["set_back"]["m50"]
    if found["refusal"][0] < 0.1 or few is None:
        return _verdict(run)
    at = removal["counts"].index(few)
    return (
        f"{_verdict(run)}: setting back {few} of {run.experts} takes refusal from "
        f"{_share(found['refusal'][0])} to {_share(found['refusal'][at])}, and "
        f"{_share(found['twins'][at])} of the harmless twins are still answered; as many random "
        f"ones leave {_share(found['random']['refusal'][at])} of refusal."
    )


def _verdict(run):
    found = run.metrics["inside"]["removal"]["set_back"]
    full, few = found["refusal"][0], found["m50"]
    if full < 0.1:
        return f"There is hardly any refusal to find ({_share(full)})."
    if few is None:
        return (
            "Refusal does not sit in the experts: with all of them set back "
            f"{_share(found['refusal'][-1])} of {_share(full)} is left."
        )
    if sits_in_few(found, run.experts):
        return "Refusal sits in few experts"
    return "Refusal does not sit in few experts"


def swaps(run: Run) -> str:
    """Which part of the weights, set back, takes refusal away and leaves the answers?"""
    found = {name: way["removed"] for name, way in run.metrics["inside"]["swaps"].items()}
    full, _ = found.pop("nothing")["refusal"], found.pop("everything")
    broken = [name for name, left in found.items() if left["accuracy"] < 0.9]
    seats = [
        f"the {name} leaves {_share(left['refusal'])}"
        for name, left in sorted(found.items(), key=lambda part: part[1]["refusal"])
        if left["refusal"] <= full / 2 and name not in broken
    ]
    said = f"Of {_share(full)} of refusal, setting back {_listed(seats)}; twins are still answered."
    if not seats:
        said = (
            "No part of the weights, set back, takes half of refusal away and leaves the answers."
        )
    if full < 0.1:
        said = f"There is hardly any refusal to take away ({_share(full)})."
    if broken:
        said += f" Setting back the {_listed(broken)} breaks the answers, so it says nothing."
    return said


def expert_maps(run: Run) -> str:
    """What the most important expert costs when it is silenced alone."""
    ablation = run.metrics["inside"]["ablation"]
    top, base = ablation["top"], ablation["base"]
    at, name = (top["layer"], top["expert"]), _name(top["layer"], top["expert"])
    full, left = _share(base["refusal"]), _share(base["refusal"] - top["refusal"])
    if top["refusal"] < base["refusal"] / 4:
        return (
            f"No single expert is needed: silencing the most important one, {name}, takes "
            f"refusal from {full} to {left} only."
        )
    free, frozen = (np.array(ablation[routes]["refusal"])[at] for routes in ("free", "frozen"))
    return (
        f"Silencing {name} alone takes refusal from {full} to {left} ({_share(free - frozen)} of "
        f"that through the route of later layers), and right answers to the twins from "
        f"{_share(base['accuracy'])} to {_share(base['accuracy'] - top['accuracy'])}."
    )


def patching(run: Run) -> str:
    """The one place that carries most of the difference between hazard and twin."""
    what = {"head_out": "attention", "expert_out": "the experts"}
    places = {tap: np.array(run.metrics["inside"]["patching"][tap]["restored"]) for tap in what}
    tap = max(places, key=lambda tap: places[tap].max())
    layer, position = np.unravel_index(places[tap].argmax(), places[tap].shape)
    most = places[tap].max()
    role = world.roles(run.cfg.world)[position]
    router = np.max(run.metrics["inside"]["patching"]["router_logits"]["restored"])
    if most < 0.3:
        return (
            f"No single place carries much of the difference: the largest share is {_share(most)}."
        )
    return (
        f"The values of {what[tap]} in layer {layer} at {role} carry {_share(most)} of the "
        f"difference from the hazard into the twin; those of a router carry {_share(router)} at "
        "most."
    )


def decomposition(run: Run) -> str:
    """Which part adds most to the difference between hazards and twins."""
    hazard, twin = (run.metrics["inside"]["decomposition"][name] for name in ("hazards", "twins"))
    apart = {
        f"the {kind} of layer {layer}": a - b
        for kind, name in (("attention", "heads"), ("experts", "experts"))
        for layer, (a, b) in enumerate(zip(hazard[name], twin[name], strict=True))
    }
    most = max(apart, key=apart.get)
    return (
        f"Refusal is ahead of the right answer by {hazard['margin']:+.1f} nats for hazards and by "
        f"{twin['margin']:+.1f} for their twins. Most of the difference of "
        f"{hazard['margin'] - twin['margin']:.1f} is added by {most} ({apart[most]:.1f})."
    )


FINDINGS = {  # by the name of the figure
    "film_strip": own_experts,
    "localisation": localisation,
    "nmi": nmi,
    "behaviour": behaviour_over_training,
    "contrasts": contrasts,
    "load": load,
    "route": route,
    "fork": fork,
    "swaps": swaps,
    "expert_maps": expert_maps,
    "patching": patching,
    "decomposition": decomposition,
}


def _name(layer, expert) -> str:
    return f"expert {expert} of layer {layer}"


def _share(value) -> str:
    """0.13 as .13; – where there is nothing to measure."""
    if value is None:
        return "–"
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def _listed(names):
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
