"""``toymoe validate``: refusal planted in known places, and which methods find it."""
