"""``toymoe score``, ``toymoe validate``: which methods find what is there, and nothing in shams?"""
