"""The page in a browser, as a student uses it: panels, keys, addresses, its code run in Python."""

import contextlib
import io
import json
import re

import pytest
from explorer.engine import settled

from toymoe import explorer, organism
from toymoe.explorer import data as told_of
from toymoe.explorer import pack
from toymoe.explorer import page as pages

pytestmark = pytest.mark.browser

PANELS = ("ask", "routing", "refusal", "patch", "code")
# A printed probability has three digits, a margin two; a sum of float32 differs in its last ones.
PROB, MARGIN = 2e-3, 2e-2


@pytest.fixture(scope="module")
def told():
    """What the page of the shipped organism is told: in single precision, so that numbers agree."""
    shipped = organism.load("conjunction")
    return told_of.gather(shipped, "conjunction", None, 3, "float32", tuned=False)


@pytest.fixture(scope="module")
def address(told, tmp_path_factory):
    return written(told, tmp_path_factory)


def written(told, tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("explorer") / "page.html"
    file.write_text(pages.render(told), "utf-8")
    return file.as_uri()


def opened(page, address, state="", **size):
    """The page in a state, when all that it computes is there."""
    page.set_viewport_size({"width": size.get("width", 1280), "height": 900})
    page.goto("about:blank")
    page.goto(f"{address}#{state}")
    return settled(page)


def said(page) -> list[str]:
    """The first token of every answer shown."""
    return [x.inner_text() for x in page.query_selector_all(".said b")]


def meters(page) -> dict[str, str]:
    """The three meters as changed."""
    names = ("refused", "twins", "answered")
    return {name: page.inner_text(f"#meter-{name}").strip() for name in names}


def live(page) -> str:
    return page.inner_text("#live")


def first_pair(told):
    names, pairs = told.data["names"], told.data["pairs"]["measured"]
    return tuple(
        ".".join(names[token] for token in pairs[which]["tokens_BP"][0])
        for which in ("hazards", "twins")
    )


# --- as a file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", PANELS)
def test_it_opens_without_a_network_and_asks_for_nothing(page, address, panel):
    asked, logged = [], []
    page.context.set_offline(True)
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: logged.append(message.text))
    opened(page, address, f"panel={panel}")
    assert not logged
    beside = {url.partition("#")[0] for url in asked} - {address, "about:blank"}
    assert all(url.startswith("blob:") for url in beside), beside
    assert page.inner_text("h2").strip()


def test_a_small_run_without_a_table_of_many_things_opens_too(page, small_run, tmp_path_factory):
    run = organism.load(small_run.out)
    told = told_of.gather(run, "small", small_run.out, tuned=False)
    told.data.update(seeds={}, history={}, metrics={}, directions_LD=[])
    address = written(told, tmp_path_factory)
    for panel in PANELS:
        opened(page, address, f"panel={panel}")
        assert not live(page)


def test_in_a_notebooks_frame_links_and_buttons_work(page, address, told, tmp_path):
    """The frame has no address of its own, and no origin."""
    outside = tmp_path / "notebook.html"
    shown = pages.Shown(pages.render(told), 900)._repr_html_()
    outside.write_text(f"<meta charset=utf-8>{shown}", "utf-8")
    page.goto(outside.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("text=Swap the verb for its twin").click()
    assert "REFUSE" not in frame.locator(".said b").all_inner_texts()
    frame.locator("#tab-patch").click()
    assert "Patch" in frame.locator("h2").inner_text()
    frame.locator("text=Copy link").click()
    frame.locator("#tab-ask").click()
    assert "REFUSE" not in frame.locator(".said b").all_inner_texts()  # the state is kept


# --- for everybody ------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ("light", "dark"))
@pytest.mark.parametrize("panel", PANELS)
def test_axe_finds_nothing(page, address, panel, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=theme)
    opened(page, address, f"panel={panel}&silenced=2.5,0.4&layer=2&position=14")
    found = axe.run(page).response["violations"]
    assert not found, json.dumps([(x["id"], [n["html"] for n in x["nodes"][:3]]) for x in found])


def test_axe_would_find_something(page, address):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened(page, address)
    page.evaluate("document.querySelector('label[for=ask-verb] > span').remove()")
    assert any(x["id"] == "select-name" for x in axe.run(page).response["violations"])


@pytest.mark.parametrize("panel", PANELS)
def test_a_narrow_page_does_not_scroll_sideways(page, address, panel):
    state = f"panel={panel}&silenced=2.5,0.4&tap=router_logits&layer=2&position=14"
    opened(page, address, state, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_projector_makes_it_larger_and_a_theme_stays(page, address):
    opened(page, address)
    size = "getComputedStyle(document.body).fontSize"
    before, paper = page.evaluate(size), page.evaluate("getComputedStyle(document.body).background")
    page.check("#projector")
    page.select_option("#theme", "dark")
    assert float(page.evaluate(size)[:-2]) > float(before[:-2])
    page.click("#tab-refusal")
    assert page.evaluate("getComputedStyle(document.body).background") != paper


# --- asking -------------------------------------------------------------------------------------


def test_a_hazard_is_refused_after_alignment_alone_and_its_twin_is_not(page, address, told):
    hazard, twin = first_pair(told)
    answers = told.data["pairs"]["measured"]
    right = {x: told.data["names"][answers[x]["answer_B"][0]] for x in ("hazards", "twins")}
    opened(page, address, f"prompt={hazard}")
    assert said(page) == [right["hazards"], "REFUSE"]
    assert "hazardous" in page.inner_text(".verdict .tag")
    opened(page, address, f"prompt={twin}")
    assert said(page) == [right["twins"], right["twins"]]
    assert page.inner_text(".verdict .tag") == "harmless"


def test_a_note_of_the_hazard_is_completed(page, address, told):
    hazard, _ = first_pair(told)
    opened(page, address, f"prompt={hazard.replace('.ASK.', '.NOTE.')}")
    assert said(page)[1] != "REFUSE"


def test_typing_a_word_that_is_none_says_so_and_changes_nothing(page, address):
    opened(page, address)
    before = said(page)
    page.fill("#ask-text", "BOS banana ASK melt wire ANS")
    page.press("#ask-text", "Enter")
    assert "banana" in live(page)
    assert said(page) == before


def test_the_newcomers_way_by_keys_alone(page, address):
    """Swap the verb; find the experts that matter; set them back; random ones do nothing."""
    opened(page, address)
    assert said(page)[1] == "REFUSE"
    press(page, "Swap the verb for its twin")
    assert "REFUSE" not in said(page)
    press(page, "Refusal localises")
    settled(page)
    count = int(page.inner_text("table.meters tbody tr td").split(" of ")[1])
    press(page, "The 2 most important")
    important = meters(settled(page))
    assert int(important["refused"].split()[0]) < count / 2
    assert int(important["twins"].split()[0]) > 0.9 * count
    press(page, "2 random ones")
    assert int(meters(settled(page))["refused"].split()[0]) > 0.9 * count
    assert len(page.query_selector_all("#tries tbody tr")) == 2
    press(page, "All on again")
    assert "nothing is changed" in meters(settled(page))["refused"]
    cell = until(page, "document.activeElement.dataset.cell")
    page.keyboard.press("ArrowRight")
    other = page.evaluate("document.activeElement.dataset.cell")
    assert other != cell
    page.keyboard.press("Enter")
    assert f"set_back={other}" in page.url
    assert page.evaluate("document.activeElement.dataset.cell") == other


def press(page, name):
    """Goes to what has a name, by the tab key alone, and presses Enter there."""
    until(page, f"document.activeElement.textContent === {json.dumps(name)}")
    page.keyboard.press("Enter")


def until(page, expression, most=400):
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate(expression)
        if found:
            style = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(style) != "none"  # one sees where one is
            return found
    raise AssertionError(f"no way by the tab key to {expression}")


# --- training -----------------------------------------------------------------------------------


def test_the_slider_goes_through_training_beside_step_0(page, address, told):
    opened(page, address, "panel=routing&step=0")
    history = told.data["history"]
    rows = [row.inner_text().split("\t") for row in page.query_selector_all("#nmi tbody tr")]
    assert rows[0][1:] == rows[1][1:]  # step 0 is its own control
    page.focus("#step")
    page.keyboard.press("End")
    settled(page)
    rows = [row.inner_text().split("\t") for row in page.query_selector_all("#nmi tbody tr")]
    nmi = [float(x) for x in rows[0][1:]]
    assert nmi == pytest.approx(history["nmi_topic_context"][-1], abs=0.006)
    assert max(nmi) > 2 * max(float(x) for x in rows[1][1:])
    assert max(float(x) for x in rows[2][1:]) < 0.05  # and shuffled topics tell nothing
    assert page.evaluate("document.activeElement.id") == "step"


def test_a_step_of_training_shows_the_historys_shares(page, address, told):
    opened(page, address, "panel=routing&step=5")
    table = page.query_selector_all("table.map")[1]  # layer 0, now
    head, *rows = [row.inner_text().split("\t") for row in table.query_selector_all("tr")]
    counts = told.data["history"]["topic_expert"][5][0]
    for row, count_E in zip(rows, counts, strict=True):
        for name, cell in zip(head[1:], row[1:], strict=True):
            expert = int(name.split(".")[1])
            assert int(cell or 0) == pytest.approx(100 * count_E[expert] / sum(count_E), abs=0.51)


# --- addresses ----------------------------------------------------------------------------------


def test_a_states_address_opened_again_gives_the_same_numbers(page, address):
    opened(page, address, "panel=refusal&set_back=2.5")
    page.click("text=1.4")
    page.check("#frozen")
    settled(page)
    link, shown = page.url, meters(page)
    assert "frozen=1" in link and "1.4" in link
    opened(page, address, link.partition("#")[2])
    assert meters(page) == shown
    assert explorer.read(link, organism.load("conjunction")).frozen


def test_the_back_button_goes_back(page, address):
    opened(page, address)
    first = said(page)
    page.click("text=Swap the verb for its twin")
    assert said(settled(page)) != first
    page.go_back()
    assert said(settled(page)) == first


@pytest.mark.parametrize(
    "bad, names",
    [
        ("panel=kitchen", "kitchen"),
        ("silenced=9.9", "9.9"),
        ("set_back=two", "two"),
        ("prompt=BOS.banana.ANS", "banana"),
        ("prompt=BOS.ANS", "form"),
        ("model=gpt", "gpt"),
        ("step=-1", "-1"),
        ("step=1e9", "1e9"),
        ("tuned=8", "tuned"),
        ("colour=red", "colour"),
        ("tap=toString", "toString"),
        ("prompt=%E0%A4%A", "%"),
        ("masked=" + ",".join(f"0.{e}" for e in range(18)), "masked"),
        ("pair=1&pair=2", "twice"),
        ("<img src=x onerror=alert(1)>", "img"),
    ],
)
def test_a_bad_address_is_answered_by_a_sentence_and_the_first_state(page, address, bad, names):
    opened(page, address, bad)
    sentence = live(page)
    assert names in sentence and sentence.count(".") >= 1
    assert page.get_attribute("#tab-ask", "aria-current") == "page"
    assert said(page)[1] == "REFUSE"


# --- code ---------------------------------------------------------------------------------------

STATES = {
    "nothing": "",
    "silenced": "silenced=2.5,0.4",
    "set_back": "set_back=2.5,1.13",
    "masked": "masked=2.5,1.13",
    "frozen": "masked=1.8&silenced=0.4&frozen=1",
    "direction": "direction=1&set_back=2.5",
    "before": "model=pretrained",
    "untrained": "model=untrained&silenced=1.5",
    "patch": "pair=3&tap=expert_out&layer=2&position=14",
    "patch_back": "pair=3&tap=resid_mid&way=restored&layer=1&position=12",
    "patch_selected": "pair=3&tap=selected&layer=2&position=14",
}


@pytest.mark.parametrize("state", STATES)
def test_the_code_run_in_python_prints_what_the_page_shows(page, address, state):
    agree(opened(page, address, f"panel=code&{STATES[state]}"))


def test_the_code_of_a_tuned_model(page, told, tmp_path_factory, monkeypatch):
    """Tuning takes minutes: here the tuned model is the one with some experts set back."""
    run, experts = organism.load("conjunction"), [(1, 13), (2, 5)]
    made = explorer.set_back(run.aligned, run.pretrained, experts)
    monkeypatch.setattr(explorer, "tuned", lambda o, n: made if n == 2 else None)
    now, before = (x["layers"]["experts"] for x in (made, run.aligned))
    change = [now[name][at] - before[name][at] for at in experts for name in ("gate_up", "down")]
    blobs = told.blobs | {"blob-tuned-2": pack.pack(change, "float32")}
    tuned = {"2": {"experts": experts, "blob": "blob-tuned-2"}}
    address = written(told_of.Told(told.data | {"tuned": tuned}, blobs), tmp_path_factory)
    shown = agree(opened(page, address, "panel=code&tuned=2"))
    assert shown != agree(opened(page, address, "panel=code"))
    opened(page, address, "panel=code&tuned=2&silenced=0.4&model=pretrained")
    agree(page)


def test_code_that_does_something_else_is_told_apart(page, address):
    opened(page, address, "panel=code&silenced=2.5,0.4")
    with pytest.raises(AssertionError):
        compare(printed(page.inner_text("#python").replace("(2, 5)", "(2, 6)")), expected(page))


def agree(page) -> list:
    text = page.inner_text("#python")
    assert max(map(len, text.splitlines())) <= 100
    shown = expected(page)
    compare(printed(text), shown)
    return shown


def printed(text) -> list[tuple[str, str]]:
    """What code prints: names and values."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(text, "the code of the page", "exec"), {"__name__": "code"})
    return [tuple(line.rsplit(": ", 1)) for line in out.getvalue().splitlines()]


def expected(page) -> list[tuple[str, str]]:
    rows = page.query_selector_all("#expected tbody tr")
    return [tuple(row.inner_text().split("\t")) for row in rows]


def compare(computed, shown):
    assert len(computed) == len(shown) >= 8
    if {name for name, _ in computed[:5]} == {name for name, _ in shown[:5]}:
        computed[:5], shown = sorted(computed[:5]), sorted(shown[:5]) + shown[5:]  # ties may swap
    for (name, value), (label, cell) in zip(computed, shown, strict=True):
        assert name == label
        number = cell.replace("−", "-")
        if not re.fullmatch(r"[+-]?\d*\.\d+", number):
            assert value == number, name
            continue
        allowed = MARGIN if "nats" in name else PROB
        assert float(value) == pytest.approx(float(number), abs=allowed), name
