"""The command line: how a command ends, with one line and an exit code whatever happens.

Nothing but the standard library is imported before signals are heard.
"""

import os
import sys
import warnings

from . import signals
from .errors import ToymoeError, ToymoeWarning, one_line


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (it failed), 2 (bad input) or 128 + a signal's number.

    Args:
      argv: by default this process's, whose signals and output are then looked after, too.
    """
    args = None

    def hint() -> str:
        line = args and args.goes_on(args)
        return f": `{line}` goes on" if line else ""

    if argv is None:
        signals.end_at_signals(hint)
        warnings.formatwarning = one_line
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.reconfigure(errors="replace")  # where a terminal knows no "–", it shows "?"
    try:
        from .commands import parsing

        try:
            args = parsing.parse(sys.argv[1:] if argv is None else argv)
            return args.command(args)
        finally:
            if sys.stdout:  # None where it is closed
                sys.stdout.flush()
    except KeyboardInterrupt:  # in a process with other handlers
        return _fail(f"interrupted{hint()}.", 130)
    except BrokenPipeError:  # the reader of a pipe went away
        _discard_output()
        return 1
    except ToymoeError as error:
        return _fail(error, error.exit_code)
    except ToymoeWarning as warning:  # under PYTHONWARNINGS=error
        return _fail(warning, 1)
    except OSError as error:  # no space left, no permission
        _discard_output()
        return _fail(error, 1)
    except Exception as error:
        from .start import MORE_MEMORY, lacks_memory

        if not lacks_memory(error):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(f"there is not enough memory ({what}); {MORE_MEMORY}.", 2)


def _fail(message, code: int) -> int:
    print("toymoe:", " ".join(str(message).splitlines()), file=sys.stderr)
    return code


def _discard_output() -> None:
    """What cannot be written: or Python would try again at its end, and complain."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
