"""Every quantity defined once: behaviour, routing, its contrasts, and their history.

Another quantity: a function in `routing` or `behaviour`, a line in `contrasts`, and its row in
docs/metrics.md.
"""
