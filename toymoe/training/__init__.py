"""Two phases, pretraining and alignment, and the optimiser that both share.

Another optimiser: a function in `optimiser`.
"""
