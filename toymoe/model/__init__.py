"""The transformer, and where to look into it: its taps, and how it reads prompts.

Another tap: a row in `taps.TAPS`, and the place in `transformer` that calls it.
"""

from .transformer import (
    Output,
    Params,
    attend,
    attention_pattern,
    count,
    forward,
    forward_unchecked,
    init,
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
