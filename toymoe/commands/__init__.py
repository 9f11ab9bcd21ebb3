"""What the commands of ``toymoe`` do, one module for each part of the work.

A module has ``add(command)``, which declares its commands for ``cli``; ``common`` is what several
share. JAX is imported inside the functions that need it.
"""
