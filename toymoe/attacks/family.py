"""The families of attacks: what looks alike in a figure, in the order of its legend."""

from enum import StrEnum


class Family(StrEnum):
    """A new one needs a colour and a marker in `toymoe.attacks.plots.LOOKS`."""

    UNTOUCHED = "untouched"
    RASET = "RASET (our reading)"
    CRITERION = "tuned by another criterion"
    RANDOM = "random, usage-matched"
    ELSEWHERE = "tuned elsewhere"
    FREE = "tuned, routes not held"
    STEERING = "router steering, masking"
    SILENCING = "silencing, directions"
