"""``toymoe raset``: attacks on refusal, and one measure for all of them.

Another attack: a function and a row in `catalogue`.
"""
