"""The page in a notebook's frame, which has no address of its own: it is used as anywhere else."""

import pytest

from toymoe import explorer, organism
from toymoe.classroom.checks.lesson0 import START

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shipped():
    return organism.load()


def test_a_state_can_be_made_and_taken_out_of_a_notebook(page, shipped, tmp_path):
    book = tmp_path / "notebook.html"
    shown = explorer.show(shipped, tuned=False)._repr_html_()
    book.write_text(f'<!doctype html><meta charset="utf-8">{shown}', "utf-8")
    page.goto(book.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("#ask-text").fill(START)
    frame.locator("#ask-text").press("Enter")
    frame.locator("#ask-verb").select_option(label="copy")
    frame.locator(".answer", has_text="after alignment").get_by_text("REFUSE").first.wait_for()
    frame.get_by_role("button", name="Copy link").click()
    frame.locator("#live", has_text="link").wait_for()
    said = frame.locator("#live").inner_text()  # a sandbox has no clipboard
    expected = (*START.split()[:-3], "copy", *START.split()[-2:])
    assert explorer.read(said.split()[-1], shipped).prompt == expected

    frame.locator("#tab-code").click()  # a link to "#…", which is no address of the notebook
    shown = explorer.read(frame.locator("#address").inner_text(), shipped)
    assert (shown.panel, shown.prompt) == ("code", expected)
    frame.locator("#tab-ask").click()
    frame.locator("#ask-text").fill("BOS nothing ANS")
    frame.get_by_role("button", name="Ask", exact=True).click()
    frame.locator("#live", has_text="nothing").wait_for()
