"""The explorer's JavaScript in a real browser, which is given numpy arrays and gives some back.

Where there is no browser the tests say so and are skipped, unless the environment promises one
(``TOYMOE_BROWSER=1``): then a missing one is a failure.
"""

import base64
import importlib.util
import os
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

WEB = Path(__file__).parents[2] / "toymoe" / "explorer" / "web"
FILES = (
    "taps arithmetic moe model resume weights world removal patching unpack worker".split()
)  # each after those that it imports
PATIENCE_S = 120  # until what a worker computes is there; machines differ
NAMES = "chromium", "chromium-browser", "google-chrome", "chrome"
KINDS = {"Float32Array": "<f4", "Float64Array": "<f8", "Int32Array": "<i4", "Uint8Array": "u1"}
_JAVASCRIPT = """
function revived(x) {
  if (Array.isArray(x)) return x.map(revived);
  if (x === null || typeof x !== "object") return x;
  if (x.$kind) {
    const bytes = Uint8Array.from(atob(x.text), (c) => c.charCodeAt(0));
    return new globalThis[x.$kind](bytes.buffer);
  }
  return Object.fromEntries(Object.entries(x).map(([k, v]) => [k, revived(v)]));
}
function sent(x) {
  if (ArrayBuffer.isView(x)) {
    const bytes = new Uint8Array(x.buffer, x.byteOffset, x.byteLength), parts = [];
    for (let i = 0; i < bytes.length; i += 8192) {
      parts.push(String.fromCharCode(...bytes.subarray(i, i + 8192)));
    }
    return { $kind: x.constructor.name, text: btoa(parts.join("")) };
  }
  if (Array.isArray(x)) return x.map(sent);
  if (x === null || typeof x !== "object") return x;
  return Object.fromEntries(Object.entries(x).map(([k, v]) => [k, sent(v)]));
}
"""


# --- the browser --------------------------------------------------------------------------------


def chromium() -> str | None:
    """Where a browser is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing():
    """A browser of playwright, or the reason why these tests are skipped."""
    missing = [
        name
        for name, there in (
            ("the Python package playwright", importlib.util.find_spec("playwright")),
            (f"a browser called {' or '.join(NAMES)}", chromium()),
        )
        if not there
    ]
    if missing:
        reason = f"no browser tests without {' and '.join(missing)}"
        if os.environ.get("TOYMOE_BROWSER") == "1":
            pytest.fail(f"TOYMOE_BROWSER=1 promises a browser: {reason}")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        try:
            yield browser
        finally:
            browser.close()


# --- the engine in it ---------------------------------------------------------------------------


def text_of(files=FILES) -> str:
    """The modules as one script, in the order given."""
    texts = [(WEB / f"{name}.js").read_text("utf-8") for name in files]
    imports = re.compile(r"^import \{[^}]*\} from \"\./\w+\.js\";\n", re.MULTILINE)
    return re.sub(r"^export ", "", imports.sub("", "".join(texts)), flags=re.MULTILINE)


class Engine:
    """A page that knows the engine's functions; everything given or returned may hold arrays."""

    def __init__(self, page, text: str | None = None):
        self.page = page
        page.set_content("<title>engine</title>")
        page.add_script_tag(content=(text_of() if text is None else text) + _JAVASCRIPT)

    def keep(self, **values) -> None:
        """Make values known to later calls by their names."""
        self.page.evaluate("given => Object.assign(globalThis, revived(given))", sent(values))

    def run(self, code: str, **values):
        """What JavaScript code returns, given some values by name; it may await."""
        names = ", ".join(values)
        function = f"async ({{ {names} }}) => {{\n{code}\n}}"
        call = f"async (given) => sent(await ({function})(revived(given)))"
        return received(self.page.evaluate(call, sent(values)))


def sent(tree):
    """A tree of numbers, words and arrays as JSON has them."""
    if isinstance(tree, dict):
        return {name: sent(leaf) for name, leaf in tree.items()}
    if isinstance(tree, list | tuple):
        return [sent(leaf) for leaf in tree]
    if hasattr(tree, "dtype"):
        array = np.asarray(tree)
        kinds = {"f": "Float32Array", "i": "Int32Array", "u": "Int32Array", "b": "Uint8Array"}
        kind = kinds[array.dtype.kind]
        data = np.ascontiguousarray(array, KINDS[kind]).tobytes()
        return {"$kind": kind, "text": base64.b64encode(data).decode()}
    return tree


def received(tree):
    """The way back: arrays are flat."""
    if isinstance(tree, dict):
        if "$kind" in tree:
            return np.frombuffer(base64.b64decode(tree["text"]), KINDS[tree["$kind"]])
        return {name: received(leaf) for name, leaf in tree.items()}
    return [received(leaf) for leaf in tree] if isinstance(tree, list) else tree


def settled(page):
    """Waits until nothing is being computed. The page's policy lets no text be evaluated in it, as
    `wait_for_function` would."""
    waits = "/computing|unpacking|…$/im.test(document.getElementById('page')?.innerText ?? '…')"
    end = time.monotonic() + PATIENCE_S
    while page.evaluate(waits):
        assert time.monotonic() < end, page.inner_text("body")[:2000]
        time.sleep(0.05)
    return page
