"""Two phases, pretraining and alignment; the one loop and the optimisers behind all training.

Another optimiser: a function in `optimiser`. Many seeds at once are many processes, or one program
(`together`). Start processes by spawn (``multiprocessing.get_context("spawn")``), since a fork
hangs once JAX has started.
"""
