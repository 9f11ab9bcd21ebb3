"""The transformer, and where to look into it: its taps, and how it reads prompts.

Another tap: a row in `taps.TAPS`, a field of `taps.Edits`, and the place in `transformer` that
calls it. What `forward` refuses is in `checks`.
"""

from .parameters import Params, check_size, count, init
from .transformer import (
    Output,
    forward,
    forward_unchecked,
    inverse_rms,
    resume,
    rms_norm,
)

__all__ = [
    "Output",
    "Params",
    "check_size",
    "count",
    "forward",
    "forward_unchecked",
    "init",
    "inverse_rms",
    "resume",
    "rms_norm",
]
