"""``toymoe zoo``: organisms whose answer is known, written where their key says and nowhere else."""
