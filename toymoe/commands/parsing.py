"""The words of the command line: every command's parser, and what is said of a word not known."""

import argparse
import difflib
import os
import re
import shlex

from .. import __version__
from ..config import PRESETS, ConfigError, defaults
from . import (
    bench,
    defend,
    doctor,
    explore,
    export,
    grade,
    lessons,
    localise,
    raset,
    run,
    score,
    sweep,
    validate,
    zoo,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # one line instead of the usage
        raise ConfigError(f"{message}: `{self.prog} --help` lists what there is.")


def parse(argv: list[str]) -> argparse.Namespace:
    """What was asked for: ``command`` is the function to call, ``goes_on`` the one that says with
    which line a command goes on that was cut off ("" where there is nothing to go on with).

    Raises:
      ConfigError: a word is not known here.
    """
    parser, names = _parser()
    if argv and not argv[0].startswith("-") and argv[0] not in names:
        near = difflib.get_close_matches(argv[0], names, 1, 0.0)[0]
        raise ConfigError(
            f"command {argv[0]!r} is not known: it must be one of {', '.join(names)}; "
            f"did you mean {near!r}?"
        )
    # A shell gives -x.ipynb for *.ipynb, where there is such a file.
    files = [w for w in argv if w.startswith("-") and "." in w and os.path.lexists(w)]
    args, extra = parser.parse_known_args([f"./{w}" if w in files else w for w in argv])
    if extra:
        given = next((word for word in extra if word.startswith("-")), extra[0])
        near = difflib.get_close_matches(given, re.findall(r"--[a-z]+", args.usage()), 1, 0.0)
        hint = f"; did you mean {near[0]!r}?" if given.startswith("-") and near else "."
        raise ConfigError(f"{given!r} is not known here{hint}")
    for name, given in vars(args).items():
        if given == "":  # which must not mean a default, nor as a path the folder one stands in
            raise ConfigError(
                f"{name} '' is not possible: give it a value (is a variable of the shell not set?)."
            )
    args.line = shlex.join(["toymoe", *argv])
    return args


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser, and the names of the commands."""
    parser = _Parser(
        prog="toymoe",
        description="A toy mixture-of-experts model: watch routing specialise and refusal "
        "localise. Start with `toymoe run --preset smoke`.",
    )
    parser.add_argument("--version", action="version", version=f"toymoe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    lines = (f"  {name} = {x}".lower() for name, x in defaults().items() if name != "seed")
    epilog = "\n".join(("settings and their defaults:", *lines))

    def command(name, function, text, settings=True, goes_on=lambda args: ""):
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=epilog if settings else None,
        )
        sub.set_defaults(command=function, usage=sub.format_usage, goes_on=goes_on)
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

    for module in (
        run,
        sweep,
        localise,
        score,
        zoo,
        validate,
        raset,
        defend,
        explore,
        export,
        lessons,
        grade,
        bench,
        doctor,
    ):
        module.add(command)
    return parser, list(commands.choices)
