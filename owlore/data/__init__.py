"""Training examples: pools, formats, mixtures, tokens, batches."""
