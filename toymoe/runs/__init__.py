"""``toymoe run`` and ``toymoe sweep``: from a configuration to a folder of results.

Another figure of the report: a function and a row in `plots`, `refusal_plots` or
`localisation_plots`; what it found, in a function and a row of `findings`.
"""
