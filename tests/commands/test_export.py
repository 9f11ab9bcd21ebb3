"""toymoe export: a new folder."""

import pytest
from refusing import refused

from toymoe import cli

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


def test_export_writes_a_new_folder_and_replaces_nothing(capsys, tmp_path, small_run, begun):
    argv = ["export", str(small_run.out), "a [b]", "--pairs", "5"]
    assert cli.main(argv) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith("a [b]: the aligned model of ")
    written = {p: p.read_bytes() for p in (tmp_path / "a [b]").iterdir()}
    assert len(written) == 6
    assert "a [b] exists already and is not empty" in refused(capsys, argv)
    assert "is a file" in refused(capsys, ["export", "topic", "a [b]/config.json"])
    assert "not finished" in refused(capsys, ["export", str(begun["align"]), "c"])
    assert {p: p.read_bytes() for p in (tmp_path / "a [b]").iterdir()} == written
    assert [p.name for p in tmp_path.iterdir()] == ["a [b]"]
    assert cli.main(["export", "--pretrained", *argv[1:2], "c", *argv[3:]]) == 0
    assert "c: the pretrained model of" in capsys.readouterr().out
    other = {p.name for p in (tmp_path / "c").iterdir() if p.read_bytes() not in written.values()}
    assert other == {"model.safetensors", "toymoe.json"}
