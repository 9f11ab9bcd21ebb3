"""What the commands of ``toymoe`` do, one module each; `parsing` reads their words.

A module has ``add(command)``, which declares its command for `parsing`; ``common`` is what several
share. JAX is imported inside the functions that need it.
"""
