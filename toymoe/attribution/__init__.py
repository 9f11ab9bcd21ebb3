"""Which part of the model is responsible for refusal? Evidence, methods, and their controls.

Another method: a function from `Evidence` to scores [L, E], and a row in `methods.METHODS`; then
``toymoe validate`` scores it, and an attack can choose experts by it.
"""

# Two rows of `methods.METHODS` that others are held against; here, since pictures need the names.
REFERENCE = "ablation_zero"  # measured: refusal margin lost without the expert
CRITERION = "contrastive_routing_sensitivity"  # our reading of RASET's choice
