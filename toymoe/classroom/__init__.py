"""What lessons call: ``begin``, ``check`` a function, ``predict`` and ``compare`` numbers.

Another exercise: its check in ``checks/lessonN.py``, and its cell in ``lessons/NN_name.py``.
"""

from .checks import check, compare, predict
from .lesson import begin

__all__ = ["begin", "check", "compare", "predict"]
