"""Sentences of a run's results: they hold its numbers, and come out the other way when these do."""

import copy

import numpy as np
import pytest

from toymoe import hazards
from toymoe.config import build
from toymoe.runs import findings, localisation_plots, plots
from toymoe.runs.results import Run

pytestmark = pytest.mark.core
CFG = build("smoke")  # two layers of 8 experts, four topics


def metrics():
    """Of a run in which everything is found, in round numbers."""
    fork = [[[1.0] + [0.0] * 7] * 2, [[0.25] + [0.0] * 7, [0.75] + [0.0] * 7]]
    kept, gone = dict(refusal=0.9, accuracy=1.0), dict(refusal=0.1, accuracy=0.96)
    way = dict(
        refusal=[0.96, 0.6, 0.08, 0.04],
        twins=[1.0, 1.0, 0.98, 0.9],
        m50=2,
        random=dict(refusal=[0.96, 0.95, 0.94, 0.9], m50=7.0),
    )
    after = {"intent_twins": {"selected_answer": fork}, "harmless_twins": {"fork": [0.05, 0.04]}}
    before = {"intent_twins": {"fork": [0.2, 0.31]}}
    return {
        "parameters": 12345,
        "behaviour": {
            "aligned": dict(
                answer_accuracy=0.99, refusal=0.97, refusal_held_out=0.91, over_refusal=0.0
            )
        },
        "weights": {
            name: {"relative": x}
            for name, x in (("all", 0.26), ("experts", 0.35), ("attention", 0.14))
        },
        "routing": {
            "nmi_topic": {"context": [0.4, 0.58]},
            "nmi_topic_untrained": [0.17, 0.12],
            "nmi_topic_shuffled": [0.004, 0.003],
            "ratios": {
                "cross_by_same_topic": dict(untrained=1.6, aligned=5.9),
                "intent_by_neutral_at_answer": dict(pretrained=1.0, aligned=1.3),
                "intent_by_harmless_at_answer": dict(pretrained=[1.1, 1.4], aligned=[1.2, 1.7]),
            },
            "contrasts": {"aligned": after, "pretrained": before},
            "overlap_pretrained_aligned_mean": 0.74,
            "dead_experts": [0, 0],
            "load_share": [[0.25] + [0.1] * 7] * 2,
        },
        "inside": {
            "removal": {"counts": [0, 1, 2, 16], "set_back": way},
            "route": {
                "hazards": {"refused": 0.95, "own": {"refused": 0.98}},
                "twins": {"refused": 0.12, "own": {"refused": 0.01}},
            },
            "swaps": {
                name: {"removed": left}
                for name, left in dict(
                    nothing=kept, experts=gone, router=kept, attention=kept, everything=gone
                ).items()
            },
            "ablation": {
                "base": dict(refusal=0.98, accuracy=1.0),
                "free": {"refusal": [[0.0] * 8, [0.0] * 6 + [0.6, 0.0]]},
                "frozen": {"refusal": [[0.0] * 8, [0.0] * 6 + [0.35, 0.0]]},
                "top": dict(layer=1, expert=6, refusal=0.6, accuracy=0.02),
            },
            "patching": {
                tap: {"restored": (np.eye(2, 15) * most).tolist()}
                for tap, most in (("head_out", 0.85), ("expert_out", 0.4), ("router_logits", 0.1))
            },
            "decomposition": {
                "hazards": dict(heads=[1.0, 2.0], experts=[0.0, 4.0], margin=7.0),
                "twins": dict(heads=[0.0, 1.0], experts=[0.0, -5.0], margin=-4.0),
            },
        },
    }


def curves(dip=1.0, refused=0.0):
    """Two snapshots of pretraining and three of alignment."""
    own = np.kron(np.eye(4), np.ones((1, 2))) * 30 + 1  # each topic its two experts
    everyone = np.full((4, 8), 8.5)
    return {
        "phase": np.array([0, 0, 1, 1, 1]),
        "topic_expert": np.array([[everyone] * 2] + [[own] * 2] * 4),
        "answer_accuracy": np.array([0.1, 0.99, dip, 0.99, 0.99]),
        "over_refusal": np.array([0.0, 0.0, refused, 0.0, 0.0]),
    }


def said(name, given=None, history=None, cfg=CFG):
    """The sentence of a figure."""
    return findings.FINDINGS[name](Run(cfg, given or metrics(), history or curves()))


def changed(path, value):
    """Metrics with another number at a dotted path."""
    given = copy.deepcopy(metrics())
    at, *keys, last = given, *path.split(".")
    for key in keys:
        at = at[key]
    at[last] = value
    return given


FLIPS = [  # figure, what is said, the number that flips it, and what is said then
    (
        "nmi",
        "Routing follows the topic: in the best layer NMI is .58, in the untrained model .17",
        ("routing.nmi_topic.context", [0.2, 0.22]),
        "Routing hardly follows the topic: in the best layer NMI is .22",
    ),
    (
        "behaviour",
        "answers .99 of the harmless requests right and refuses .97 of the hazards, .91 of those "
        "never shown in alignment.",
        ("behaviour.aligned.refusal", 0.2),
        "it has not learnt to refuse",
    ),
    (
        "behaviour",
        ".91 of those",
        ("behaviour.aligned.refusal_held_out", 0.3),
        "a list, and no rule",
    ),
    ("behaviour", "alignment.", ("behaviour.aligned.over_refusal", 0.2), "also refuses .20 of the"),
    (
        "contrasts",
        "Topic moves the route: prompts of different topics differ 5.9 times as much",
        ("routing.ratios.cross_by_same_topic.aligned", 2.0),
        "Topic hardly moves the route",
    ),
    (
        "contrasts",
        "Refusal hardly moves it in layer 1: at ANS another verb that makes the request harmless "
        "moves it 1.7 times as much as the same verbs do in a harmless topic (before alignment: "
        "1.4 at most).",
        ("routing.ratios.intent_by_harmless_at_answer.aligned", [2.2, 1.7]),
        "Refusal moves it in layer 0: at ANS another verb that makes the request harmless moves it "
        "2.2 times as much",
    ),
    (
        "contrasts",
        "Refusal hardly moves it in layer 1",
        ("routing.ratios.intent_by_harmless_at_answer", dict(pretrained=None, aligned=None)),
        "Refusal hardly moves it: at ANS another verb that makes the request harmless moves it 1.3 "
        "times as much as another verb that does not (before alignment: 1.0).",
    ),
    (
        "load",
        "All 16 experts work; the busiest takes 2.0 times its fair share.",
        ("routing.dead_experts", [3, 0]),
        "Of 16 experts 3 do no work",
    ),
    (
        "localisation",
        "Refusal sits in few experts: setting back 2 of 16 takes refusal from .96 to .08, and .98 "
        "of the harmless twins are still answered; as many random ones leave .94 of refusal.",
        ("inside.removal.set_back.random.m50", 3.0),
        "Refusal does not sit in few experts: setting back 2 of 16",
    ),
    (
        "localisation",
        "sits in few",
        ("inside.removal.set_back.m50", None),
        "Refusal does not sit in the experts: with all of them set back .04 of .96 is left.",
    ),
    (
        "localisation",
        "sits in few",
        ("inside.removal.set_back.refusal", [0.02, 0.0, 0.0, 0.0]),
        "There is hardly any refusal to find (.02).",
    ),
    (
        "localisation",
        "Refusal sits in few experts",
        ("inside.removal.set_back.m50", 16),
        "Refusal does not sit in few experts: setting back 16",
    ),
    (
        "route",
        "The route is not the seat of refusal: on the route of their harmless twins .95 of the "
        "hazards are refused (on their own: .98), and on the hazards' route .12 of the twins",
        ("inside.route.hazards.refused", 0.1),
        "The route carries refusal: on the route of their harmless twins .10",
    ),
    ("route", "not the seat", ("inside.route.twins.refused", 0.9), "The route carries refusal"),
    (
        "route",
        "refusal: on",
        ("inside.route.twins.refused", 0.35),
        "not the seat of refusal, though",
    ),
    ("route", "not the seat", ("inside.route.hazards.refused", 0.5), "The route carries part of"),
    (
        "route",
        "kept .74",
        ("inside.route.hazards.own.refused", 0.0),
        "Hardly any hazard is refused",
    ),
    (
        "fork",
        "The router tells hazards from their twins by one expert. The largest gap is at expert 0 "
        "of layer 0: 1.00 of the hazards select it and .25 of the twins; before alignment the "
        "largest gap was .31, and in a harmless topic it is .05.",
        ("routing.contrasts.aligned.harmless_twins.fork", [0.6, 0.7]),
        "The router does not tell hazards from their twins by one expert.",
    ),
    (
        "fork",
        "The router tells",
        ("routing.contrasts.aligned.intent_twins", None),
        "This world has no twins",
    ),
    (
        "fork",
        "in a harmless topic",
        ("routing.contrasts.aligned.harmless_twins", None),
        "before alignment the largest gap was .31.",
    ),
    (
        "swaps",
        "Of .90 of refusal, setting back the experts leaves .10; twins are still answered.",
        ("inside.swaps.experts.removed.refusal", 0.8),
        "No part of the weights, set back, takes half of refusal away",
    ),
    (
        "swaps",
        "the experts leaves .10",
        ("inside.swaps.experts.removed.accuracy", 0.1),
        "Setting back the experts breaks the answers, so it says nothing.",
    ),
    ("swaps", "leaves", ("inside.swaps.nothing.removed.refusal", 0.0), "hardly any refusal"),
    (
        "expert_maps",
        "Silencing expert 6 of layer 1 alone takes refusal from .98 to .38 (.25 of that through "
        "the route of later layers), and right answers to the twins from 1.00 to .98.",
        ("inside.ablation.top.refusal", 0.04),
        "No single expert is needed: silencing the most important one, expert 6 of layer 1, takes "
        "refusal from .98 to .94 only.",
    ),
    (
        "patching",
        "The values of attention in layer 0 at BOS carry .85",
        ("inside.patching.head_out.restored", [[0.0] * 15] * 2),
        "The values of the experts in layer 0 at BOS carry .40",
    ),
    (
        "decomposition",
        "ahead of the right answer by +7.0 nats for hazards and by -4.0 for their twins. Most of "
        "the difference of 11.0 is added by the experts of layer 1 (9.0).",
        ("inside.decomposition.twins.heads", [-20.0, 1.0]),
        "added by the attention of layer 0 (21.0)",
    ),
]


@pytest.mark.parametrize(("name", "words", "other", "otherwise"), FLIPS)
def test_a_sentence_holds_its_numbers_and_flips_with_them(name, words, other, otherwise):
    assert words in said(name) and otherwise not in said(name)
    assert otherwise in said(name, changed(*other))


def test_no_place_carries_much():
    given = metrics()
    for tap in given["inside"]["patching"].values():
        tap["restored"] = [[0.1] * 15] * 2
    assert "No single place carries much" in said("patching", given)


def test_experts_of_a_topic_are_counted():
    assert said("film_strip") == (
        "16 of 16 experts get at least half of their words from a single topic of 4; in the "
        "untrained model 0 do."
    )
    still = curves() | {"topic_expert": np.repeat(curves()["topic_expert"][:1], 5, 0)}
    assert "Topics hardly have their own experts: 0 of 16" in said("film_strip", history=still)


@pytest.mark.parametrize(
    ("dip", "refused", "words"),
    [
        (0.98, 0.0, None),
        (0.6, 0.35, "fall to .60: refusal goes too far at first, and .35 of the harmless requests"),
        (0.6, 0.02, "fall to .60, and not by refusal (only .02 are refused): they are wrong"),
    ],
)
def test_a_dip_is_said_with_its_reason(dip, refused, words):
    text = said("behaviour", history=curves(dip, refused))
    assert ("Early in alignment" in text) == bool(words) and (words or "") in text


def test_the_first_screen_is_five_lines():
    lines = findings.first_screen(Run(CFG, metrics(), curves()))
    assert len(lines) == 5
    assert "12,345 parameters, with 2 layers of 8 experts, 2 of which" in lines[0]
    assert lines[3] == (
        "Refusal sits in few experts: 2 of 16 set back halve it, of random ones it takes 7. "
        "Alignment changed the weights by .26 of their size (experts .35, attention .14)."
    )
    heavy = changed("weights.all.relative", 0.9)
    heavy["inside"]["removal"]["set_back"]["random"]["m50"] = None
    line = findings.first_screen(Run(CFG, heavy, curves()))[3]
    assert "random ones never do" in line and "by .90 of" in line


def test_every_figure_has_its_sentence_under_every_rule():
    assert findings.FINDINGS.keys() == (plots.FIGURES | localisation_plots.FIGURES).keys()
    for rule in hazards.RULES:
        cfg = build("smoke", overrides={"world.hazard_rule": rule})
        for name in findings.FINDINGS:
            text = said(name, cfg=cfg)
            assert text.endswith(".") and "None" not in text and "nan" not in text
        swapped = hazards.RULES[rule].swaps
        assert f"another {swapped} that makes" in said("contrasts", cfg=cfg)
