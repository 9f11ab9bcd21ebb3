"""``toymoe zoo``: organisms whose answer is known: a lesson in named parts, and nowhere else."""
