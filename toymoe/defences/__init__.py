"""``toymoe defend``: alignments that should hold, and a detector beside the model.

Another defence: a row in `catalogue.DEFENCES`.
"""
