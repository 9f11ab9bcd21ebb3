"""Which part of the model is responsible for refusal? Evidence, methods, and their controls.

Another method: a function from `Evidence` to scores [L, E], and a row in `methods.METHODS`; then
``toymoe validate`` scores it, and an attack can choose experts by it.
"""

# The two rows of `methods.METHODS` that other rooms ask for by name.
REFERENCE = "ablation_zero"  # measured: refusal margin lost without the expert
CRITERION = "contrastive_routing_sensitivity"  # our reading of RASET's choice
