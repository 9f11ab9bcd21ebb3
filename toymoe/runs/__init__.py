"""``toymoe run`` and ``toymoe sweep``: from a configuration to a folder of results.

Another figure of the report: a function and a row in `plots`, or in `localisation_plots` if it
is of where refusal lives; nothing else.
"""
