"""Pages say what they were given, as text, and nothing on them is wider than the screen."""

import pytest

from toymoe.pages import html

pytestmark = pytest.mark.core


def test_a_figure_stands_below_its_finding_and_above_its_words():
    parts = html.figure("Why?", b"png", "It shows <this>.", "That.", "2 < 3")
    assert [part[: part.index(">") + 1] for part in parts] == [
        "<h2>",
        '<p class="finding">',
        '<div class="wide">',
        "<p>",
        '<p class="control">',
    ]
    assert "2 &lt; 3" in parts[1] and 'alt="It shows &lt;this&gt;."' in parts[2]
    assert "base64,cG5n" in parts[2]  # "png" by hand: 01110000 01101110 01100111
    assert [len(html.figure("Why?", b"", "It shows.", *more)) for more in ((), ("That.",))] == [
        3,
        4,
    ]


def test_lines_and_terms_are_text():
    assert html.bullets(["a & b"]) == '<ul class="findings"><li>a &amp; b</li></ul>'
    assert html.terms({"<x>": "y"}) == "<dl><dt>&lt;x&gt;</dt><dd>y</dd></dl>"


def test_a_table_has_a_box_of_its_own():
    made = html.table(("a",), [("<b>",), (html.Markup("<i>c</i>"),)])
    assert made == (
        '<div class="wide"><table><tr><th>a</th></tr><tr><td>&lt;b&gt;</td></tr>'
        "<tr><td><i>c</i></td></tr></table></div>"
    )
    assert ".wide { overflow-x: auto" in html.STYLE


def test_a_page_is_as_wide_as_the_screen():
    page = html.page("T & t", ["<p>x</p>"])
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "<title>T &amp; t</title>" in page and "max-width: 76rem" in page
