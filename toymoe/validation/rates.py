"""What each method earned: rates over organisms in which the truth is known, with intervals."""

from scipy.stats import binomtest

from ..attribution import methods
from ..runs import sweep
from ..training.trainable import COMPONENTS
from . import planted

TRIED = ("attention", "router")  # components that are planted too


def summarise(organisms: list[dict]) -> dict:
    """Rates over organisms, each {rate, low, high, n} with Wilson's 95 % interval (None of none).

    ``counts``: organisms of each kind, and those ``too_little`` of whose hazards are refused
    (below `planted.TAUGHT`), which no rate counts. ``refusal``: the shares of hazards that those
    of each kind refuse. ``methods``, the best first: ``hit`` (planted expert named first),
    ``pair`` (both first), ``found`` (hit, with a verdict),
    ``alarms`` on shams (also by lesson), ``alarms_elsewhere`` where a component is the seat,
    ``correlation`` over planted experts (median, bootstrap interval), ``earned``. ``swaps``: is the
    planted component the one whose removal costs most refusal?
    """
    taught = [o for o in organisms if o["lesson"] == planted.REFUSE]
    good = [o for o in taught if o["behaviour"]["refusal"] >= planted.TAUGHT]
    single, pairs = ([o for o in good if o["kind"] == kind] for kind in ("expert", "pair"))
    elsewhere = [o for o in good if o["kind"] in TRIED]
    shams = [o for o in organisms if o["kind"] == "sham"]
    kinds = dict.fromkeys(o["kind"] for o in organisms)
    earned = [_earned(name, single, pairs, elsewhere, shams) for name in methods.METHODS]
    return {
        "counts": {kind: sum(o["kind"] == kind for o in organisms) for kind in kinds},
        "too_little": {
            kind: sum(o["kind"] == kind and o not in good for o in taught)
            for kind in kinds
            if kind != "sham"
        },
        "refusal": {
            kind: sorted(o["behaviour"]["refusal"] for o in taught if o["kind"] == kind)
            for kind in kinds
            if kind != "sham"
        },
        "methods": sorted(earned, key=lambda row: -row["earned"]),
        "swaps": {
            name: _rate([_most_needed(o) == name for o in good if _component(o) == name])
            for name in ("experts", *TRIED)
        },
    }


def _earned(name, single, pairs, elsewhere, shams):
    def says(organisms, *what):
        return [all(o["methods"][name][key] for key in what) for o in organisms]

    found, alarms = _rate(says(single, "hit", "found")), _rate(says(shams, "found"))
    return {
        "method": name,
        "earned": (found["rate"] or 0.0) - (alarms["rate"] or 0.0),
        "hit": _rate(says(single, "hit")),
        "found": found,
        "pair": _rate(says(pairs, "hit")),
        "alarms": alarms,
        **{
            f"alarms_{lesson.replace(' ', '_')}": _rate(
                says([o for o in shams if o["lesson"] == lesson], "found")
            )
            for lesson in planted.SHAMS
        },
        "alarms_elsewhere": _rate(says(elsewhere, "found")),
        "correlation": _median([o["methods"][name]["correlation"] for o in single]),
    }


def _component(organism):
    return organism["kind"] if organism["kind"] in TRIED else "experts"


def _most_needed(organism):
    """The component whose removal leaves the least refusal."""
    left = {name: organism["swaps"][name]["removed"] for name in COMPONENTS}
    return min(left, key=left.get)


def _rate(says: list[bool]) -> dict:
    if not says:
        return {"rate": None, "low": None, "high": None, "n": 0}
    low, high = binomtest(sum(says), len(says)).proportion_ci(0.95, "wilson")
    return {"rate": sum(says) / len(says), "low": low, "high": high, "n": len(says)}


def _median(values: list[float]) -> dict:
    found = sweep.summarise([{"correlation": value} for value in values]).get("correlation", {})
    return {name: found.get(name) for name in ("median", "low", "high")}
