"""Answers that students could give: right ones, each written differently, and wrong ones by kind.

A module a lesson: `RIGHT` and `WRONG` hold them by the name of the check. Nothing here is taken
from the checks themselves, whose own mistakes have a test of theirs.
"""
