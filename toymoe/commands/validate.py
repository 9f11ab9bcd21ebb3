"""``toymoe validate``: do the attribution methods find what is there, and nothing in shams?"""

from .common import same_line
from .score import folder_of, scored
from .zoo import add_zoo, made, where


def add(command) -> None:
    validate = command(
        "validate",
        _validate,
        "Make a zoo of organisms whose answer is known, and shams: which attribution methods find "
        "it, and which raise false alarms?",
        goes_on=lambda args: same_line(args, where(args), "zoo.json"),
    )
    add_zoo(validate)


def _validate(args) -> int:
    found = made(args)
    if not found.of:
        return 1
    from ..validation.asked import ALL

    code = scored(ALL, where(args), folder_of(where(args), ALL), args)
    return 1 if found.errors else code
