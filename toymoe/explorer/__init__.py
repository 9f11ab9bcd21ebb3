"""The explorer: one self-contained page that runs an organism's own model in the browser.

``toymoe explore`` writes it. Another panel: a module in ``web``, imported by ``page.js``.
"""

from ..attribution.removal import set_back
from .page import show, write
from .readings import asked, in_common, meters, model_of, request_of, tokens_of
from .shared import budgets, directions, pairs, tuned
from .state import State, read, shared_words

__all__ = [
    "State",
    "asked",
    "budgets",
    "directions",
    "in_common",
    "meters",
    "model_of",
    "pairs",
    "read",
    "request_of",
    "set_back",
    "shared_words",
    "show",
    "tokens_of",
    "tuned",
    "write",
]
