"""The page as a file: bundled, shut in, self-contained; what it replaces and what it never does."""

import base64
import hashlib
import html
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from toymoe import checkpoint, explorer, organism
from toymoe.checkpoint import CheckpointError
from toymoe.config import ConfigError
from toymoe.explorer import bundle, data, page

TOP = re.compile(r"^(?:export )?(?:async )?(?:function\*?|const|let|var|class)\s+([\w$]+)", re.M)
SEVERAL = re.compile(r"^(?:export )?(?:const|let|var)\s*[{\[]([^}\]]*)[}\]]", re.M)


class Elements(HTMLParser):
    """Every element with its attributes and the text right in it."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.inside = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = []
        self.found.append((tag, dict(attributes), self.inside))

    def handle_endtag(self, tag):
        self.inside = []

    def handle_data(self, text):
        self.inside.append(text)

    def of(self, tag):
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]


@pytest.fixture(scope="module")
def told(small_run):
    return data.gather(organism.load(small_run.out), "small", small_run.out, tuned=False)


@pytest.fixture(scope="module")
def made(told):
    return page.render(told)


@pytest.fixture(scope="module")
def elements(made):
    return Elements(made)


def names_of(text) -> list[str]:
    """The top-level names of a script."""
    several = [
        part.split(":")[-1].split("=")[0].strip()
        for found in SEVERAL.findall(text)
        for part in found.split(",")
    ]
    return [*TOP.findall(text), *filter(None, several)]


# --- the bundle ---------------------------------------------------------------------------------


def test_every_file_is_in_it_once_after_those_that_it_imports():
    engine, rest = bundle.order()
    names = engine + rest
    assert sorted(names) == sorted(path.name for path in bundle.WEB.glob("*.js"))
    assert {"taps.js", "model.js", "worker.js"} <= {*engine} and {"page.js", "ask.js"} <= {*rest}
    for at, name in enumerate(names):
        for other in bundle.IMPORT.findall(bundle.read(name)):
            assert names.index(other) < at, f"{name} imports {other}, which comes later"


def test_no_import_and_no_export_is_left():
    script = bundle.script()
    assert script.count(bundle.MARKER) == 1
    assert not re.search(r"^\s*(import|export)\b", script, re.M)
    assert "import(" not in script and "importScripts" not in script
    assert re.search(r"^export ", bundle.read("model.js"), re.M)  # and there was something


def test_imports_are_of_one_form_and_name_what_is_there():
    form = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w-]+\.js)";?[^\S\n]*\n', re.M)
    for path in bundle.WEB.glob("*.js"):
        text = path.read_text("utf-8")
        assert len(re.findall(r"^\s*import\b", text, re.M)) == len(form.findall(text)), path.name
        for names, other in form.findall(text):
            given = re.findall(
                r"^export (?:async )?(?:function\*?|const|let|class)\s+([\w$]+)",
                bundle.read(other),
                re.M,
            )
            for name in filter(None, (x.strip() for x in names.split(","))):
                assert name in given, f"{path.name} imports {name} from {other}"


def test_a_name_is_given_once_in_all_files():
    assert [name for name, n in Counter(names_of(bundle.script())).items() if n > 1] == []
    assert names_of("const a = 1;\nfunction b() {\n  const a = 2;\n}\nlet [c, d] = x;\n") == [
        *"abcd"
    ]


def test_only_imports_and_exports_go(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "WEB", tmp_path)
    (tmp_path / "low.js").write_text("export const low = 1;\nexport async function f() {}\n")
    (tmp_path / "worker.js").write_text('import {\n  low,\n  f,\n} from "./low.js";\nf(low);\n')
    (tmp_path / "page.js").write_text('import { low } from "./low.js";\n// export it\nlow;\n')
    assert bundle.order() == (["low.js", "worker.js"], ["page.js"])
    lines = [x for x in bundle.script().splitlines() if x and not x.startswith("// --- ")]
    assert lines == ["const low = 1;", "async function f() {}", "f(low);", "// export it", "low;"]


# --- the policy ---------------------------------------------------------------------------------


def test_the_policy_allows_this_script_and_this_style_alone(elements):
    (policy,) = (
        a["content"]
        for a, _ in elements.of("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    running = [x for x in elements.of("script") if x[0].get("type") == "module"]
    assert len(running) == len(elements.of("style")) == 1

    def hashed(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "script-src": f"{hashed(running[0][1])} blob:",
        "style-src": hashed(elements.of("style")[0][1]),
        "worker-src": "blob:",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_nothing_is_fetched_and_no_attribute_runs_or_styles(elements):
    for tag, attributes, _ in elements.found:
        assert not any(name == "style" or name.startswith("on") for name in attributes), tag
        assert not {"src", "href", "srcset", "action"} & {
            name for name in attributes if not (attributes[name] or "").startswith("#")
        }, tag
    code = bundle.script() + bundle.style() + bundle.read("page.html")
    outside = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", code)
    assert [x for x in outside if not x.startswith("http://www.w3.org/")] == []
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "EventSource", "sendBeacon", "@import"):
        assert word not in code, word


def test_text_cannot_leave_its_element(told):
    assert "</script" not in bundle.script().lower() and "<!--" not in bundle.script()
    hostile = told.data | {"title": "</title><b>&", "source": "</script><script>x<!--data-->"}
    found = Elements(page.render(told._replace(data=hostile)))
    (stored,) = (text for a, text in found.of("script") if a.get("id") == "data")
    assert json.loads(stored)["source"] == hostile["source"]
    assert found.of("title")[0][1] == hostile["title"] and not found.of("b")


def test_every_slot_is_filled_and_data_and_weights_are_in_it(made, elements, told):
    assert not page.SLOT.search(made) and page.MARK in made.encode()[:4096]
    texts = {a["id"]: text for a, text in elements.of("script")}
    assert json.loads(texts["data"]) == told.data
    assert {k: v for k, v in texts.items() if k.startswith("blob-")} == told.blobs


# --- the file -----------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch, told):
    """Writing without gathering."""
    monkeypatch.setattr(data, "gather", lambda *_: told)


def test_an_older_page_is_replaced_and_nothing_else(tmp_path, small_run, made, quick):
    out = tmp_path / "x.html"
    assert explorer.write(small_run.out, out) == out and out.read_text("utf-8") == made
    out.write_text(made.replace("toymoe explorer:", "older"), "utf-8")
    explorer.write(small_run.out, out)
    assert out.read_text("utf-8") == made
    for other in ("", "<!doctype html><title>mine</title>", "x" * 9000 + page.MARK.decode()):
        out.write_text(other)
        with pytest.raises(ConfigError, match="is not a page of the explorer"):
            explorer.write(small_run.out, out)
        assert out.read_text() == other


def test_where_no_page_can_be_written_is_one_sentence(tmp_path, small_run, quick):
    with pytest.raises(ConfigError, match=r"is a folder: name a file in it"):
        explorer.write(small_run.out, tmp_path)
    with pytest.raises(ConfigError, match=r"create the folder .*none first"):
        explorer.write(small_run.out, tmp_path / "none" / "x.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_cut_off_leaves_the_older_one(tmp_path, small_run, made, quick, monkeypatch):
    out = tmp_path / "x.html"
    explorer.write(small_run.out, out)

    def replace(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "replace", replace)
    with pytest.raises(OSError):
        explorer.write(small_run.out, out)
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"] and out.read_text("utf-8") == made


def test_what_a_page_is_about(small_run, tmp_path, monkeypatch):
    shipped = page.subject("topic")
    assert (shipped.source, shipped.folder) == ("topic", None)
    assert page.subject(shipped.organism).source == "topic"
    mine = page.subject(small_run.out)
    assert (mine.source, mine.folder) == (small_run.out.name, small_run.out)  # not where it is
    assert page.subject(mine.organism).source == page.NAMELESS
    monkeypatch.chdir(small_run.out.parent)
    assert page.subject(small_run.out.name).source == small_run.out.name
    with pytest.raises(ConfigError, match="holds no run"):
        page.subject(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        page.subject(tmp_path)


# --- in a notebook ------------------------------------------------------------------------------


def test_a_notebook_shows_the_whole_page_in_a_frame(quick, small_run, made):
    shown = explorer.show(small_run.out, height=432)
    (attributes,) = (a for a, _ in Elements(shown._repr_html_()).of("iframe"))
    assert attributes["srcdoc"] == made and attributes["height"] == "432"
    assert attributes["sandbox"].split() == ["allow-scripts", "allow-downloads"]
    assert html.unescape(shown._repr_html_()).count("<iframe") == 1
    assert "MB" in repr(shown) and "<" not in repr(shown) and len(repr(shown)) < 200


def test_workers_and_unpacking_work_in_the_frame(page):  # playwright's
    """In a sandbox without an origin, under the page's own policy."""
    script = (
        "const text = 'self.onmessage = (e) => self.postMessage(e.data + 1)';"
        "const worker = new Worker(URL.createObjectURL(new Blob([text])));"
        "worker.onmessage = async ({ data }) => {"
        "  const bytes = new Blob(['abc']).stream().pipeThrough(new CompressionStream('gzip'));"
        "  const back = bytes.pipeThrough(new DecompressionStream('gzip'));"
        "  document.title = data + await new Response(back).text();"
        "}; worker.postMessage(41);"
    )
    from toymoe.explorer import page as pages

    inner = (
        f'<meta http-equiv="Content-Security-Policy" content="{pages.policy(script, "")}">'
        f'<script type="module">{script}</script>'
    )
    page.set_content(pages.Shown(inner, 100)._repr_html_())
    for _ in range(200):  # the policy forbids what playwright waits by
        if page.frames[1].title() == "42abc":
            break
        page.wait_for_timeout(100)
    assert page.frames[1].title() == "42abc"
    refused = inner.replace("41", "43")  # another script than the one with that hash
    page.set_content(pages.Shown(refused, 100)._repr_html_())
    page.wait_for_timeout(500)
    assert page.frames[1].title() == ""
