"""The explorer: one self-contained page that runs an organism's own model in the browser.

``toymoe explore`` writes it. Another panel: a module in ``web``, imported by ``page.js``.
"""

from ..attribution.removal import set_back
from .page import show, write
from .readings import asked, meters, model_of, request_of, tokens_of
from .shared import budgets, directions, pairs, tuned
from .state import State, read

__all__ = [
    "State",
    "asked",
    "budgets",
    "directions",
    "meters",
    "model_of",
    "pairs",
    "read",
    "request_of",
    "set_back",
    "show",
    "tokens_of",
    "tuned",
    "write",
]
