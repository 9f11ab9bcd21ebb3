"""The page and the summary: every number is there, nothing is fetched, nothing slips through."""

import base64
import dataclasses
import re
from html.parser import HTMLParser

import pytest
from test_hazards import PAIR

from toymoe import checkpoint, hazards
from toymoe.measures import paper
from toymoe.runs import findings, localisation_plots, plots, report
from toymoe.runs.results import Run

pytestmark = pytest.mark.core

FIGURES = plots.FIGURES | localisation_plots.FIGURES


class Page(HTMLParser):
    """Tags, attributes and text of a page, checked to be closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self._open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def pictured(small_run):
    return {n: (small_run.out / "figures" / f"{n}.png").read_bytes() for n in FIGURES}


@pytest.fixture(scope="module")
def curves(small_run):
    return checkpoint.load(small_run.out / "history.npz")[0]


def test_the_page_needs_nothing_else(small_run):
    html = (small_run.out / "report.html").read_text()
    page = Page(html)
    assert not re.search(r"https?:|url\(|@import", html) and not {"script", "link"} & {*page.tags}
    sources = [value for name, value in page.attributes if name == "src"]
    # But for the explorer beside it, of which it says what to do where it is missing.
    assert [value for name, value in page.attributes if name == "href"] == ["explorer.html"]
    assert [s.partition(",")[0] for s in sources] == ["data:image/png;base64"] * len(FIGURES)
    found = [base64.b64decode(s.partition(",")[2]) for s in sources]
    assert sorted(found) == sorted(pictured(small_run).values())


def test_every_number_and_control_is_on_the_page(small, small_run, curves):
    page = Page((small_run.out / "report.html").read_text())
    for row in report.summary(small_run.metrics):
        assert " ".join(" ".join(filter(None, row)).split()) in page.text
    run = Run(small, small_run.metrics, curves)
    for line in findings.first_screen(run):
        assert " ".join(line.split()) in page.text
    for name, figure in FIGURES.items():
        figure = figure.under(small.world.hazard_rule)
        found = findings.FINDINGS[name](run)
        assert f"{figure.title} {found} {figure.shows}" in page.text
        assert f"Control. {figure.control}" in page.text.replace(" .", ".")
    assert f"seed {small.seed}" in page.text and '"steps": 6' in page.text
    routing = small_run.metrics["routing"]
    for values in (routing["load_cv"], routing["topic_given_token"]):
        assert " ".join(f"{value:.3f}" for value in values) in page.text
    inside = small_run.metrics["inside"]
    for name, swap in inside["swaps"].items():
        numbers = " ".join(f"{x:.2f}" for way in swap.values() for x in way.values())
        assert f"{name} {numbers}" in page.text
    top = inside["ablation"]["top"]
    assert f"layer {top['layer']}, expert {top['expert']}" in page.text
    assert f"{top['margin_usage_matched']:.2f}" in page.text
    for name, part in small_run.metrics["weights"].items():
        assert f"{name} {part['relative']:.3f} {part['cosine']:.3f}" in page.text
    assert report.MISLEADS in page.text
    assert page.tags.count("details") == 1 and page.tags.count("h1") == 1


def test_the_first_screen_comes_first_and_terms_are_explained_once(small_run):
    page = Page((small_run.out / "report.html").read_text())
    assert page.tags[page.tags.index("h1") :][:7] == ["h1", "ul", *["li"] * 5]
    assert page.tags.count("dt") == page.tags.count("dd") == len(report.TERMS)
    for word, meaning in report.TERMS.items():
        assert page.text.count(f"{word} {meaning.format(swapped='verb')}") == 1
    titles = [figure.title for figure in FIGURES.values()]
    places = sorted(titles, key=page.text.index)
    assert places[:2] == [FIGURES[name].title for name in ("film_strip", "localisation")]


def test_wide_things_scroll_in_their_own_box(small_run):
    html = (small_run.out / "report.html").read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    boxed = '<div class="wide"><'
    assert html.count("<table>") == html.count(f"{boxed}table>") > 5
    assert html.count("<img ") == html.count(f"{boxed}img ") == len(FIGURES)


def test_what_twins_differ_in_is_said_by_the_hazard_rule(small, small_run, curves):
    said = {}
    for rule in hazards.RULES:
        cfg = dataclasses.replace(small, world=dataclasses.replace(small.world, hazard_rule=rule))
        page = report.render(cfg, small_run.metrics, curves, pictured(small_run), [])
        said[rule] = Page(page).text
    verb = (
        "differ in the verb alone",
        "verb swapped, hazard flips",
        "The context words are equal in both",
        "a verb swapped",
    )
    context = (
        "differ in the context alone",
        "context swapped, hazard flips",
        "BOS is before all",
        "swap the context and not the",
    )
    for rule, text in said.items():
        own, other = (context, verb) if rule == "topic" else (verb, context)
        assert all(words in text for words in own), rule
        assert not any(words in text for words in other), rule
    assert [name for name in FIGURES if FIGURES[name].if_context_swapped] == [
        "contrasts",
        "patching",
    ]
    for figure in FIGURES.values():
        verb, context = figure.under("conjunction"), figure.under("topic")
        assert verb.title == context.title == figure.title
        assert (verb.control == context.control) == (not figure.if_context_swapped)


def test_a_new_rule_is_spoken_of_in_its_own_words(monkeypatch):
    monkeypatch.setitem(hazards.RULES, "pair", PAIR)
    said = {name: figure.under("pair") for name, figure in FIGURES.items()}
    assert "the twin, which differs in the entity alone:" in said["patching"].shows
    assert "The context words are equal in both" in said["patching"].control
    assert "as much as an entity that does" in said["contrasts"].control
    assert not any("{" in figure.shows + figure.control for figure in said.values())


def test_markup_in_the_data_is_text_on_the_page(small, small_run, curves):
    nasty = "<script>alert('&amp;')</script>"
    example = {"kind": nasty, "prompt": nasty + "\nnext", "pretrained": nasty, "aligned": '"'}
    html = report.render(small, small_run.metrics, curves, {}, [example])
    page = Page(html)
    assert "script" not in page.tags and page.text.count(nasty) == 3
    assert "img" not in page.tags


def test_no_examples_no_heading(small, small_run, curves):
    assert "Some prompts" not in report.render(small, small_run.metrics, curves, {}, [])


def planted():
    """Metrics in which every number is another, and what does not exist is None."""
    rates = dict(
        answer_accuracy=0.9951,
        answer_accuracy_held_out=0.51,
        refusal=0.9876,
        refusal_held_out=0.9543,
        over_refusal=0.0021,
        over_refusal_held_out=None,
        over_refusal_by_kind={"hazardous_verb": 0.25, "harmless_topic": None},
        hazard_answered=0.0312,
        hazard_noted=0.9712,
    )
    by_layer = (
        "nmi_topic_shuffled nmi_topic_untrained nmi_token topic_given_token intent_given_topic "
        "topic_given_token_shuffled topic_given_token_untrained intent_given_topic_shuffled "
        "overlap_pretrained_aligned load_cv"
    ).split()
    contrasts = {
        which: {
            name: {"js": [(i + n) / 100, (i + n) / 50], "overlap": [0.5, 0.25]}
            for i, name in enumerate(paper.CONTRAST_LABELS, 1)
        }
        for n, which in enumerate(("untrained", "pretrained", "aligned"))
    }
    back = {"m50": 2, "random": {"m50": 25.0}}
    silenced = {"refusal": [1.0, 0.4, 0.013, 0.01], "twins": [1.0, 0.99, 0.981, 0.9]}
    return {
        "parameters": 2584,
        "behaviour": {"pretrained": rates | {"hazard_answered": 0.8642}, "aligned": rates},
        "weights": {
            name: {"relative": x, "cosine": 1 - x}
            for name, x in (("experts", 0.354), ("attention", 0.146), ("all", 0.261))
        },
        "routing": {
            "nmi_topic": {"context": [0.512, 0.634], "answer": [0.1, 0.2]},
            **{name: [0.301 + i / 100, 0.7] for i, name in enumerate(by_layer)},
            "overlap_pretrained_aligned_mean": 0.7412,
            "dead_experts": [0, 3],
            "top_k": 2,
            "experts": 16,
            "contrasts": contrasts,
            "ratios": {
                "cross_by_same_topic": dict(untrained=1.65, pretrained=6.44, aligned=5.93),
                "intent_by_neutral_at_answer": dict(untrained=1.02, pretrained=0.97, aligned=1.31),
                "intent_by_harmless_at_answer": dict(
                    untrained=[1.3, 0.9], pretrained=[1.1, None], aligned=[1.4, 2.34]
                ),
                "cross_topic_by_intent": dict(untrained=38.2, pretrained=12.0, aligned=9.1),
            },
        },
        "inside": {
            "removal": {
                "counts": [0, 1, 2, 54],
                "set_back": back,
                "silenced": silenced,
                "masked": {"refusal": [1.0, 0.995, 0.991], "twins": [1.0, 0.9, 0.844]},
            },
            "route": {
                "hazards": {"refused": 0.973, "own": {"refused": 0.998}},
                "twins": {"refused": 0.061, "own": {"refused": 0.002}},
            },
        },
    }


def test_summary_by_hand():
    assert report.summary(planted()) == [
        ("harmless requests answered right", "0.995", ""),
        ("hazards refused", "0.988", ""),
        ("  never shown in alignment", "0.954", ""),
        ("harmless requests refused", "0.002", "worst kind 0.250"),
        ("hazards known, as notes", "0.971", ""),
        ("NMI(topic; expert), best layer", "0.634", "untrained 0.700, shuffled 0.700"),
        ("JS cross-topic ÷ JS same topic", "5.9", "untrained 1.6"),
        ("JS intent twins ÷ JS neutral twins, at ANS", "1.3", "before alignment 1.0"),
        ("… ÷ the same words, harmless topic; top layer", "2.3", "before alignment 1.1"),
        ("routes that alignment kept", "0.741", "by chance 0.125"),
        ("weight change, whole model", "0.26", "of their size"),
        ("  experts", "0.35", "attention 0.15"),
        ("experts set back, of 54, to halve refusal", "2", "random ones 25"),
        ("refusal without 2 experts, silenced", "0.013", "masked in the router 0.991"),
        ("  twins still answered", "0.981", "masked in the router 0.844"),
        ("hazards refused on their twins' route", "0.973", "on their own 0.998"),
        ("twins refused on the hazards' route", "0.061", "on their own 0.002"),
    ]


def test_summary_of_what_never_happens_and_what_there_is_none_of():
    metrics = planted()
    removal = metrics["inside"]["removal"]
    removal["set_back"] = {"m50": None, "random": {"m50": None}}
    for left in removal["masked"].values():
        del left[1:]
    metrics["routing"]["ratios"]["cross_by_same_topic"]["untrained"] = None
    rows = {what: beside for what, *beside in report.summary(metrics)}
    assert rows["experts set back, of 54, to halve refusal"] == ["never", "random ones never"]
    assert rows["refusal without 2 experts, silenced"][1] == "masked in the router –"
    assert rows["JS cross-topic ÷ JS same topic"][1] == "untrained –"


def test_contrasts_stand_beside_the_papers():
    text = Page("".join(report._compared(planted()["routing"], "conjunction"))).text
    # The mean of x/100 and x/50 is 3x/200, with x = 4, 5, 6 for the fourth contrast.
    assert f"{paper.CONTRAST_LABELS['cross_topic']} 0.060 0.075 0.090 0.228–0.236" in text
    assert f"{paper.CONTRAST_LABELS['intent_twins']} 0.045 0.060 0.075 0.101" in text
    assert f"{report.RATIOS['cross_topic_by_intent']} 38.2 12.0 9.1 2.3" in text
    assert f"{report.RATIOS['cross_by_same_topic']} 1.6 6.4 5.9" in text
    assert f"{report.RATIOS['intent_by_harmless_at_answer']} 1.3 1.1 2.3" in text
    low, high = paper.CONTRAST_JS["cross_topic"]
    assert (low + high) / 2 / paper.CONTRAST_JS["intent_twins"][0] == pytest.approx(2.3, abs=0.05)


def test_contrasts_that_do_not_exist_have_no_row(small, small_run, curves):
    metrics = planted() | {name: small_run.metrics[name] for name in ("inside", "versions")}
    # Of a world in which neither a verb nor an entity has a twin that flips.
    for pairs in metrics["routing"]["contrasts"].values():
        pairs |= dict.fromkeys(("intent_twins", "harmless_twins", "object_twins"))
    for name in report.RATIOS.keys() - {"cross_by_same_topic"}:
        metrics["routing"]["ratios"][name] = dict.fromkeys(("untrained", "pretrained", "aligned"))
    text = Page(report.render(small, metrics, curves, {}, [])).text
    assert f"top-k overlap: {paper.CONTRAST_LABELS['topic_twins']}" in text
    assert f"{paper.CONTRAST_LABELS['intent_twins']}" not in text
    assert f"{report.RATIOS['intent_by_neutral_at_answer']} – – –" in text
    assert "over-refusal: harmless topic – –" in text
    assert "dead experts 0 3" in text
