"""Where refusal lives, in sentences; see `findings`."""

import numpy as np

from .. import world
from ..attribution.removal import sits_in_few
from ..pages.words import listed, share
from .results import Run, name_of


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
        f"{share(found['refusal'][0])} to {share(found['refusal'][at])}, and "
        f"{share(found['twins'][at])} of the harmless twins are still answered; as many random "
        f"ones leave {share(found['random']['refusal'][at])} of refusal."
    )


def _verdict(run):
    found = run.metrics["inside"]["removal"]["set_back"]
    full, few = found["refusal"][0], found["m50"]
    if full < 0.1:
        return f"There is hardly any refusal to find ({share(full)})."
    if few is None:
        return (
            "Refusal does not sit in the experts: with all of them set back "
            f"{share(found['refusal'][-1])} of {share(full)} is left."
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
        f"the {name} leaves {share(left['refusal'])}"
        for name, left in sorted(found.items(), key=lambda part: part[1]["refusal"])
        if left["refusal"] <= full / 2 and name not in broken
    ]
    said = f"Of {share(full)} of refusal, setting back {listed(seats)}; twins are still answered."
    if not seats:
        said = (
            "No part of the weights, set back, takes half of refusal away and leaves the answers."
        )
    if full < 0.1:
        said = f"There is hardly any refusal to take away ({share(full)})."
    if broken:
        said += f" Setting back the {listed(broken)} breaks the answers, so it says nothing."
    return said


def expert_maps(run: Run) -> str:
    """What the most important expert costs when it is silenced alone."""
    ablation = run.metrics["inside"]["ablation"]
    top, base = ablation["top"], ablation["base"]
    at, name = (top["layer"], top["expert"]), name_of(top["layer"], top["expert"])
    full, left = share(base["refusal"]), share(base["refusal"] - top["refusal"])
    if top["refusal"] < base["refusal"] / 4:
        return (
            f"No single expert is needed: silencing the most important one, {name}, takes "
            f"refusal from {full} to {left} only."
        )
    free, frozen = (np.array(ablation[routes]["refusal"])[at] for routes in ("free", "frozen"))
    return (
        f"Silencing {name} alone takes refusal from {full} to {left} ({share(free - frozen)} of "
        f"that through the route of later layers), and right answers to the twins from "
        f"{share(base['accuracy'])} to {share(base['accuracy'] - top['accuracy'])}."
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
            f"No single place carries much of the difference: the largest share is {share(most)}."
        )
    return (
        f"The values of {what[tap]} in layer {layer} at {role} carry {share(most)} of the "
        f"difference from the hazard into the twin; those of a router carry {share(router)} at "
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
    "localisation": localisation,
    "swaps": swaps,
    "expert_maps": expert_maps,
    "patching": patching,
    "decomposition": decomposition,
}
