"""toymoe explore: one page, in the run's folder."""

import shutil

import pytest
from refusing import refused

from toymoe import cli

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


def test_explore_writes_a_page_in_the_runs_folder_and_replaces_no_other(
    capsys, tmp_path, small_run, begun
):
    shutil.copytree(small_run.out, tmp_path / "a [b]")
    assert cli.main(["explore", "a [b]", "--snapshots", "5", "--weights", "float32"]) == 0
    out = tmp_path / "a [b]" / "explorer.html"
    said = capsys.readouterr()
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    assert said.err == "" and f"a [b]/explorer.html: {size}. Open it in a browser." in said.out
    page = out.read_text("utf-8")
    assert page.startswith("<!doctype html>") and 'id="blob-pretrain-3"' in page
    out.write_text("mine")
    assert "not a page of the explorer" in refused(capsys, ["explore", "a [b]"])
    assert out.read_text() == "mine"
    assert "not finished" in refused(capsys, ["explore", str(begun["align"])])
