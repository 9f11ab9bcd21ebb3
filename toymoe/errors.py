"""What goes wrong for a reason that a reader can mend: one sentence each.

Every such error of toymoe is a `ToymoeError`, and says what was given, what is allowed, and what to
do. The command line prints the sentence and nothing else.
"""

import warnings

_usual = warnings.formatwarning


class ToymoeError(Exception):
    """One sentence for the reader; ``exit_code`` is what the command line ends with."""

    exit_code = 2  # bad input


class Failed(ToymoeError):
    """The input was good, and yet it did not work."""

    exit_code = 1


class ToymoeWarning(UserWarning):
    """One sentence about what may not be as expected; the work goes on."""


def one_line(message, category, *where) -> str:
    """For `warnings.formatwarning`: a warning of toymoe is its sentence alone."""
    if issubclass(category, ToymoeWarning):
        return f"toymoe: {message}\n"
    return _usual(message, category, *where)
