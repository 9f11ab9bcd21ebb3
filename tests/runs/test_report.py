"""The page and the summary: every number is there, nothing is fetched, nothing slips through."""

import base64
import dataclasses
import re
from html.parser import HTMLParser

import pytest
from test_hazards import PAIR

from toymoe import hazards
from toymoe.measures import paper
from toymoe.runs import localisation_plots, plots, report

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


def test_the_page_needs_nothing_else(small_run):
    html = (small_run.out / "report.html").read_text()
    page = Page(html)
    assert not re.search(r"https?:|url\(|@import", html) and not {"script", "link"} & {*page.tags}
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert [s.partition(",")[0] for s in sources] == ["data:image/png;base64"] * len(FIGURES)
    found = [base64.b64decode(s.partition(",")[2]) for s in sources]
    assert sorted(found) == sorted(pictured(small_run).values())


def test_every_number_and_control_is_on_the_page(small, small_run):
    page = Page((small_run.out / "report.html").read_text())
    for row in report.summary(small_run.metrics):
        assert " ".join(" ".join(filter(None, row)).split()) in page.text
    for figure in FIGURES.values():
        figure = figure.under(small.world.hazard_rule)
        assert figure.title in page.text and figure.shows in page.text
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
    assert page.tags.count("details") == 1 and page.tags.count("h1") == 1


def test_what_twins_differ_in_is_said_by_the_hazard_rule(small, small_run):
    said = {}
    for rule in hazards.RULES:
        cfg = dataclasses.replace(small, world=dataclasses.replace(small.world, hazard_rule=rule))
        page = report.render(cfg, small_run.metrics, pictured(small_run), [])
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


def test_markup_in_the_data_is_text_on_the_page(small, small_run):
    nasty = "<script>alert('&amp;')</script>"
    example = {"kind": nasty, "prompt": nasty + "\nnext", "pretrained": nasty, "aligned": '"'}
    html = report.render(small, small_run.metrics, {}, [example])
    page = Page(html)
    assert "script" not in page.tags and page.text.count(nasty) == 3
    assert "img" not in page.tags


def test_no_examples_no_heading(small, small_run):
    assert "Some prompts" not in report.render(small, small_run.metrics, {}, [])


def planted():
    """Metrics in which every number is another, and what does not exist is None."""
    js = {
        name: {"js": [i / 100, i / 50], "overlap": [0.5, 0.25]}
        for i, name in enumerate(paper.CONTRAST_LABELS, 1)
    }
    rates = dict(
        answer_accuracy=0.9951,
        answer_accuracy_held_out=0.51,
        refusal=0.9876,
        refusal_held_out=0.9543,
        over_refusal=0.0021,
        over_refusal_held_out=None,
        over_refusal_by_kind={"hazardous_verb": 0.25, "harmless_topic": None},
        hazard_answered=0.0312,
    )
    by_layer = (
        "nmi_topic_shuffled nmi_topic_untrained nmi_token topic_given_token intent_given_topic "
        "topic_given_token_shuffled intent_given_topic_shuffled overlap_pretrained_aligned load_cv"
    ).split()
    return {
        "parameters": 2584,
        "behaviour": {"pretrained": rates | {"hazard_answered": 0.8642}, "aligned": rates},
        "routing": {
            "nmi_topic": {"context": [0.512, 0.634], "answer": [0.1, 0.2]},
            **{name: [0.301 + i / 100, 0.7] for i, name in enumerate(by_layer)},
            "dead_experts": [0, 3],
            "contrasts": js,
            "js_ratio": 12.34,
            "js_ratio_answer": 1.26,
        },
    }


def test_summary_by_hand():
    rows = report.summary(planted())
    ours, theirs = ({row[0]: row[i] for row in rows} for i in (1, 2))
    assert list(ours.values())[:8] == [
        "0.995",
        "0.988",
        "0.954",
        "0.002",
        "0.864",
        "0.512 / 0.634",
        "0.301 / 0.700",
        "0.311 / 0.700",
    ]
    labels = [f"JS, {label}" for label in paper.CONTRAST_LABELS.values()]
    # The mean of i/100 and i/50 is 3i/200.
    assert [ours[label] for label in labels] == [
        "0.015",
        "0.030",
        "0.045",
        "0.060",
        "0.075",
        "0.090",
        "0.105",
        "0.120",
    ]
    assert [theirs[label] for label in labels] == [
        "0.005–0.043",
        "0.010–0.035",
        "0.101",
        "0.228–0.236",
        "0.338",
        "",
        "",
        "",
    ]
    assert rows[-2] == ("JS cross-topic ÷ JS intent twins", "12.3", "2.3")
    assert rows[-1] == ("  the same at ANS alone", "1.3", "")
    low, high = paper.CONTRAST_JS["cross_topic"]
    assert (low + high) / 2 / paper.CONTRAST_JS["intent_twins"][0] == pytest.approx(2.3, abs=0.05)


def test_contrasts_that_do_not_exist_are_dashes(small, small_run):
    metrics = planted() | {name: small_run.metrics[name] for name in ("inside", "versions")}
    # Of a world in which neither a verb nor an entity has a twin that flips.
    for name in ("intent_twins", "object_twins"):
        metrics["routing"]["contrasts"][name] = None
    metrics["routing"]["js_ratio"] = None
    rows = {row[0]: row[1] for row in report.summary(metrics)}
    gone = [f"JS, {paper.CONTRAST_LABELS[n]}" for n in ("intent_twins", "object_twins")]
    assert [rows[name] for name in gone] == ["–", "–"] and list(rows.values()).count("–") == 3
    text = Page(report.render(small, metrics, {}, [])).text
    assert f"top-k overlap: {paper.CONTRAST_LABELS['topic_twins']}" in text
    assert f"top-k overlap: {paper.CONTRAST_LABELS['intent_twins']}" not in text
    assert "over-refusal: harmless topic – –" in text
    assert "dead experts 0 3" in text
