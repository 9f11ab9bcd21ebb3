"""A trained model with its world: the shipped one, or a finished run read back from its folder.

Another kind of organism to load: a module here, and its name below.
"""

from .shipped import RULES, Shipped, damaged, load, sample, world_of

__all__ = ["RULES", "Shipped", "damaged", "load", "sample", "world_of"]
