"""Before a run: what it needs, pins, what fits."""
