"""The command line: its words and its errors.

JAX is imported by the commands that need it, so that --help answers at once.
"""

import argparse
import difflib
import os
import re
import sys
import warnings

from . import __version__
from .commands import bench, defend, doctor, grade, lessons, raset, run, sweep, validate
from .config import PRESETS, ConfigError, build, setting_names
from .errors import ToymoeError, ToymoeWarning

_usual = warnings.formatwarning


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (it failed), 2 (bad input) or 130 (Ctrl-C)."""
    args = argparse.Namespace()
    warnings.formatwarning = _one_line
    if argv is None:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.reconfigure(errors="replace")  # where a terminal knows no "–", it shows "?"
    try:
        args = _parse(argv)
        return args.command(args)
    except KeyboardInterrupt:
        again = f": `toymoe run --resume --out {args.out}` goes on" if "resume" in args else ""
        return _fail(f"interrupted{again}.", 130)
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ToymoeError as error:
        return _fail(error, error.exit_code)
    except OSError as error:  # no space left, no permission
        return _fail(error, 1)


def _one_line(message, category, *where) -> str:
    """A warning of toymoe is its sentence alone."""
    if issubclass(category, ToymoeWarning):
        return f"toymoe: {message}\n"
    return _usual(message, category, *where)


def _fail(message, code: int) -> int:
    print("toymoe:", " ".join(str(message).splitlines()), file=sys.stderr)
    return code


# --- words --------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # one line instead of the usage
        raise ConfigError(f"{message}: `{self.prog} --help` lists what there is.")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    argv = sys.argv[1:] if argv is None else argv
    parser, names = _parser()
    if argv and not argv[0].startswith("-") and argv[0] not in names:
        near = difflib.get_close_matches(argv[0], names, 1, 0.0)[0]
        raise ConfigError(
            f"command {argv[0]!r} is not known: it must be one of {', '.join(names)}; "
            f"did you mean {near!r}?"
        )
    args, extra = parser.parse_known_args(argv)
    if extra:
        given = next((word for word in extra if word.startswith("-")), extra[0])
        near = difflib.get_close_matches(given, re.findall(r"--[a-z]+", args.usage()), 1, 0.0)
        hint = f"; did you mean {near[0]!r}?" if given.startswith("-") and near else "."
        raise ConfigError(f"{given!r} is not known here{hint}")
    return args


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser, and the names of the commands."""
    defaults = build()
    lines = []
    for name in setting_names():
        part, _, key = name.partition(".")
        value = getattr(getattr(defaults, part), key) if key else getattr(defaults, part)
        if key:
            lines.append(
                f"  {name} = {value}".lower() if isinstance(value, bool) else f"  {name} = {value}"
            )
    parser = _Parser(
        prog="toymoe",
        description="A toy mixture-of-experts model: watch routing specialise and refusal "
        "localise. Start with `toymoe run --preset smoke`.",
    )
    parser.add_argument("--version", action="version", version=f"toymoe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, text, settings=True):
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="settings and their defaults:\n" + "\n".join(lines) if settings else None,
        )
        sub.set_defaults(command=function, usage=sub.format_usage)
        if settings:
            sub.add_argument("--preset", default=None, help=f"{' or '.join(PRESETS)}")
            sub.add_argument(
                "--set",
                nargs="+",
                action="extend",
                default=[],
                metavar="NAME=VALUE",
                help="change settings, such as world.topics=12",
            )
        return sub

    for module in (run, sweep, validate, raset, defend, lessons, grade, bench, doctor):
        module.add(command)
    return parser, list(commands.choices)


if __name__ == "__main__":
    sys.exit(main())
