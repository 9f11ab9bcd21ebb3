"""What a command says that ends with one line."""

from toymoe import cli


def refused(capsys, argv, code=2):
    """The one line that a command ends with."""
    assert cli.main(argv) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("toymoe: ")
    return err
