"""The explorer in a live JupyterLab, and the picture of it in the README."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from explorer import engine
from PIL import Image

from toymoe import explorer as room

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "explorer.png"
SHOWN = "panel=refusal&set_back=2.5,0.4"  # what the README shows
PATIENCE_S = 180
CELL = 'from toymoe import explorer\n\nexplorer.show("conjunction", tuned=False)'


@pytest.fixture
def lab(tmp_path):
    """The address of a notebook in a JupyterLab of its own."""
    if importlib.util.find_spec("jupyterlab") is None:
        if os.environ.get("TOYMOE_BROWSER") == "1":
            pytest.fail("TOYMOE_BROWSER=1 promises JupyterLab, too: install it")
        pytest.skip("no JupyterLab here")
    cell = dict(
        cell_type="code", id="a", metadata={}, outputs=[], execution_count=None, source=CELL
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    book = dict(cells=[cell | {"source": CELL}], metadata=kernel, nbformat=4, nbformat_minor=5)
    (tmp_path / "book.ipynb").write_text(json.dumps(book), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    own = {f"JUPYTER_{x}_DIR": str(tmp_path / x) for x in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"PYTHONPATH": str(ROOT)}  # this toymoe, and no other
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
         "--ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"],
        env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        waiting(lambda: answers(f"{address}/api"), "JupyterLab")
        yield f"{address}/lab/tree/book.ipynb?reset"
    finally:
        process.terminate()
        process.wait(30)


def answers(address) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def waiting(done, what):
    end = time.monotonic() + PATIENCE_S
    while not (found := done()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.2)
    return found


def test_it_is_alive_in_a_notebook(page, lab):
    page.goto(lab)
    page.wait_for_selector(".jp-CodeCell", timeout=1000 * PATIENCE_S)
    page.get_by_text("| Idle").wait_for(timeout=1000 * PATIENCE_S)  # no kernel is asked before
    page.click(".jp-CodeCell .cm-content")
    page.keyboard.press("Shift+Enter")
    frame = page.frame_locator('iframe[title="toymoe explorer"]')
    said = frame.locator(".said b")
    said.first.wait_for(timeout=1000 * PATIENCE_S)
    waiting(lambda: said.count() == 2, "what the models say")
    before, after = said.all_inner_texts()
    assert after == "REFUSE" and before.startswith("answer")
    frame.get_by_role("button", name="Swap the verb for its twin").click()
    waiting(lambda: "REFUSE" not in said.all_inner_texts(), "what the twin is answered")
    assert all(word.startswith("answer") for word in said.all_inner_texts())


def test_the_readme_shows_the_page_as_it_is(page, tmp_path):
    """``TOYMOE_PICTURE=1`` takes the picture anew."""
    file = room.write("conjunction", tmp_path / "page.html", tuned=False)
    page.set_viewport_size({"width": 1100, "height": 1010})
    page.emulate_media(color_scheme="light")
    page.goto(f"{file.as_uri()}#{SHOWN}")
    engine.settled(page)
    taken = PICTURE if os.environ.get("TOYMOE_PICTURE") == "1" else tmp_path / "explorer.png"
    page.screenshot(path=taken)
    with Image.open(taken) as picture:  # few colours: it stands in notebooks, too
        picture.convert("RGB").quantize(64).save(taken, optimize=True)
    now, kept = coarse(taken), coarse(PICTURE)
    assert now.shape == kept.shape
    assert np.abs(now - kept).mean() < 0.03  # letters differ a little on other machines
    assert np.abs(now - kept[::-1]).mean() > 0.06  # and another picture differs much
    assert "docs/images/explorer.png" in (ROOT / "README.md").read_text("utf-8")


def coarse(file):
    """A picture in tiles of 20 pixels, from black to white."""
    from matplotlib.image import imread

    grey = imread(file)[..., :3].mean(-1)
    high, wide = (n // 20 for n in grey.shape)
    return grey[: 20 * high, : 20 * wide].reshape(high, 20, wide, 20).mean((1, 3))
