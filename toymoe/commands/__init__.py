"""What the commands of ``toymoe`` do, one module for each part of the work.

A module has ``add(command)``, which declares its commands for ``cli``. Together with ``screen``
these are the only modules that print. JAX is imported inside the functions that need it.
"""
