"""The transformer, and where to look into it: its taps, and how it reads prompts.

Another tap: a row in `taps.TAPS`, a field of `taps.Edits`, and the place in `transformer` that
calls it. What `forward` refuses is in `checks`.
"""

from .parameters import Params, check_size, count, init
from .transformer import (
    Output,
    attend,
    attention_pattern,
    forward,
    forward_unchecked,
    inverse_rms,
    resume,
    rms_norm,
    rotary,
    rotate,
)

__all__ = [
    "Output",
    "Params",
    "attend",
    "attention_pattern",
    "check_size",
    "count",
    "forward",
    "forward_unchecked",
    "init",
    "inverse_rms",
    "resume",
    "rms_norm",
    "rotary",
    "rotate",
]
