"""The explorer: one self-contained page that runs an organism's own model in the browser.

``toymoe explore`` writes it. Another panel: a module in ``web``, imported by ``page.js``.
"""

from .page import show, write
from .shared import budgets, directions, pairs, tuned

__all__ = ["budgets", "directions", "pairs", "show", "tuned", "write"]
