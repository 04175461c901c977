"""Peak memory of a training step, simulated; what fits a card."""
